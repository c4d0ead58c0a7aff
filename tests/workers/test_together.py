"""Several studies at once in one worker: what is taken along, and what one does to the others."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from bonetumor.domain.errors import CorruptPixelData
from bonetumor.domain.progress import Step, StudyState
from bonetumor.service.walk import Crash, Outcome, Walk
from bonetumor.worker.steps import GpuSteps
from bonetumor.worker.together import Together
from kit.ledger import EVIDENCE, assessment, close, errand, instance, sqlite_ledger
from kit.servers import wait_until

UIDS = [f"1.2.{n}" for n in range(6)]
RIGHT = Outcome(detail="done", saved=assessment())


@pytest.fixture
def ledger(tmp_path, clock):
    """Six studies that wait to be assessed."""
    with sqlite_ledger(tmp_path, clock) as made:
        for study in UIDS:
            wait_for_assessing(made, study)
            clock.forward(1)
        yield made


def wait_for_assessing(ledger, study, **judged):
    ledger.record_instance(instance(study=study))
    close(ledger, study, **judged)
    claim = ledger.claim(errand(Step.GATHER, study), "io")
    ledger.finish(claim, StudyState.GATHERED, EVIDENCE, "done")


class Work:
    """What the test says for a study, once as many are being done as it expects at once."""

    def __init__(self, at_once, errors=None):
        self.meeting = threading.Barrier(at_once)
        self._errors = errors or {}
        self.done = []

    def __call__(self, claim):
        self.meeting.wait(20)
        self.done.append(claim.study_instance_uid)
        if claim.study_instance_uid in self._errors:
            raise self._errors[claim.study_instance_uid]
        return RIGHT


def together(ledger, clock, work, most):
    walk = Walk(
        ledger=ledger,
        clock=clock,
        work={Step.ASSESS: work},
        owner="me",
        retry_after=lambda _claim: timedelta(seconds=1),
    )
    return walk, Together(walk, most)


def states(ledger):
    return [ledger.one(study).state for study in UIDS]


def assess(study):
    return errand(Step.ASSESS, study)


def test_what_is_due_goes_along_the_oldest_first_and_no_more_than_allowed(ledger, clock):
    work = Work(at_once=4)
    _, taken = together(ledger, clock, work, 4)
    following = list(taken.take(assess(UIDS[3])))
    assert set(work.done) == {UIDS[n] for n in (0, 1, 2, 3)}
    assert {e.study_instance_uid for e in following} == set(work.done)
    assert {e.step for e in following} == {Step.DISPATCH}
    assert states(ledger)[4:] == [StudyState.GATHERED] * 2


def test_urgent_studies_go_along_first(ledger, clock):
    wait_for_assessing(ledger, "1.2.9", urgent=True)
    work = Work(at_once=2)
    list(together(ledger, clock, work, 2)[1].take(assess(UIDS[4])))
    assert set(work.done) == {UIDS[4], "1.2.9"}


def test_a_study_that_is_not_due_takes_nobody_along(ledger, clock):
    ledger.claim(assess(UIDS[0]), "somebody else")
    work = Work(at_once=1)
    assert list(together(ledger, clock, work, 4)[1].take(assess(UIDS[0]))) == []
    assert work.done == []


def test_a_study_that_an_attempt_died_on_goes_alone_and_with_nobody(ledger, clock):
    died = ledger.claim(assess(UIDS[1]), "me")
    ledger.drop(died, "worker died", clock())
    taken = together(ledger, clock, work := Work(at_once=1), 4)[1]
    list(taken.take(assess(UIDS[1])))
    assert work.done == [UIDS[1]]
    other = ledger.claim(assess(UIDS[2]), "me")
    ledger.drop(other, "worker died", clock())
    taken = together(ledger, clock, work := Work(at_once=4), 6)[1]
    list(taken.take(assess(UIDS[0])))
    assert set(work.done) == {UIDS[n] for n in (0, 3, 4, 5)}


def test_what_is_wrong_with_one_study_is_its_own_matter(ledger, clock):
    work = Work(3, {UIDS[0]: CorruptPixelData("short"), UIDS[1]: ZeroDivisionError("a bug")})
    _, taken = together(ledger, clock, work, 3)
    following = []
    with pytest.raises(ExceptionGroup) as raised:
        following.extend(taken.take(assess(UIDS[2])))
    assert [type(e) for e in raised.value.exceptions] == [Crash]
    assert states(ledger)[:3] == [StudyState.FAILED, StudyState.GATHERED, StudyState.ASSESSED]
    assert "crashed with ZeroDivisionError" in ledger.one(UIDS[1]).problem


def test_a_worker_that_gives_up_gives_all_of_them_back(ledger, clock):
    walk, taken = together(ledger, clock, work := Work(at_once=4), 3)
    caller = threading.Thread(target=lambda: list(taken.take(assess(UIDS[0]))))
    caller.start()
    wait_until(lambda: work.meeting.n_waiting == 3, 20, "three that are being done")
    assert [u for u in UIDS if ledger.claim(assess(u), "me too") is None] == UIDS[:3]
    walk.give_up("no end")
    assert {ledger.one(u).problem for u in UIDS[:3]} == {"no end"}
    work.meeting.wait(20)  # the fourth
    caller.join()
    assert states(ledger) == [StudyState.GATHERED] * 6  # what was given back is not recorded


def test_a_model_that_could_not_be_loaded_at_first_is_loaded_once_for_all():
    loaded = []

    def load():
        time.sleep(0.1)
        loaded.append(object())
        return loaded[-1]

    steps = GpuSteps(ledger=None, studies=None, slides=None, texts=None, load=load, clock=None)
    with ThreadPoolExecutor(4) as threads:
        models = list(threads.map(lambda _: steps.model(), range(4)))
    assert models == loaded * 4
