"""Removing what is old, as the ledger keeps it: only what is over, and never without a record."""

from datetime import timedelta

import pytest

from bonetumor.domain.errors import StorageUnavailable
from bonetumor.domain.progress import Step, StudyState
from bonetumor.service.complete import Arrived, Completeness, Waits, doubt
from bonetumor.service.ledger import Arrival
from bonetumor.service.retain import Retention
from kit.ledger import (
    EVIDENCE,
    START,
    assessment,
    close,
    complete,
    deliver,
    errand,
    instance,
    walk_to_deliveries,
)

DAYS = timedelta(days=30)


class Files:
    """Files that are gone once the test says so."""

    def __init__(self):
        self.asked, self.gone = [], True

    def remove(self, study, kept):
        self.asked.append((study, [i.keys.sop_instance_uid for i in kept]))
        return self.gone


@pytest.fixture
def files():
    return Files()


@pytest.fixture
def retention(ledger, clock, files):
    return Retention(ledger=ledger, files=files, clock=clock, keep=DAYS)


def finished(ledger, study="1.2.3", images=3, again_at=None):
    for number in range(images):
        ledger.record_instance(instance(number, study=study))
    assert close(ledger, study)
    walk_to_deliveries(ledger, "pacs")
    deliver(ledger, Step.SEND)
    deliver(ledger, Step.CONFIRM, again_at=again_at)


def test_images_and_evidence_go_after_their_time_and_the_result_stays(
    ledger, clock, files, retention
):
    finished(ledger)
    clock.forward(DAYS.total_seconds())
    assert retention.once() == 0
    clock.forward(1)
    assert retention.once() == 1
    assert retention.once() == 0
    assert files.asked == [("1.2.3", [])]
    (record,) = ledger.removals()
    assert (record.instances, record.bytes, record.by) == (3, 21, "retention")
    assert record.reason == "older than 30 days"
    assert record.files_gone_at == clock.now
    (progress,) = ledger.progress()
    assert (progress.state, progress.instances) == (StudyState.DONE, 0)
    assert ledger.runs("1.2.3") == [assessment().run_key]
    assert ledger.story("1.2.3")[-1].kind == "removed"


def test_files_that_cannot_go_yet_are_looked_at_again(ledger, clock, files, retention):
    finished(ledger)
    clock.forward(DAYS.total_seconds() + 1)
    files.gone = False
    retention.once()
    assert ledger.removals(unfinished=True)
    files.gone = True
    retention.once()
    assert not ledger.removals(unfinished=True)
    assert len(files.asked) == 2


def test_files_that_will_not_go_keep_no_others(ledger, clock, files, retention):
    studies = [f"1.5.{number}" for number in range(1, 6)]
    for study in studies:
        ledger.record_instance(instance(study=study))
        assert close(ledger, study, unwanted="not for us")
    clock.forward(DAYS.total_seconds() + 1)

    def stuck(study, _):
        if study == studies[2]:
            raise StorageUnavailable("spool: expected to remove, got Directory not empty")
        return True

    files.remove = stuck
    with pytest.raises(StorageUnavailable):
        retention.once()
    assert [r.study_instance_uid for r in ledger.removals(unfinished=True)] == [studies[2]]


@pytest.mark.parametrize("state", [s for s in StudyState if s not in ("rejected", "unwanted")])
def test_what_is_not_over_is_never_removed(ledger, clock, retention, state):
    ledger.record_instance(instance())
    if state is not StudyState.RECEIVING:
        close(ledger)
    steps = {
        StudyState.GATHERED: 1,
        StudyState.ASSESSED: 2,
        StudyState.DELIVERING: 3,
        StudyState.DONE: 3,
    }
    made = [(Step.GATHER, StudyState.GATHERED), (Step.ASSESS, StudyState.ASSESSED)]
    made += [(Step.DISPATCH, StudyState.DELIVERING)]
    for step, after in made[: steps.get(state, 0)]:
        claim = ledger.claim(errand(step), "me")
        to = ["pacs"] if after is StudyState.DELIVERING else ()
        ledger.finish(claim, after, None, "done", deliver_to=to)
    if state is StudyState.DONE:
        # Late evidence would still make a new result.
        deliver(ledger, Step.SEND)
        deliver(ledger, Step.CONFIRM, again_at=START + 2 * DAYS)
    if state is StudyState.HELD:
        ledger.hold("1.2.3", "me", "test")
    if state is StudyState.FAILED:
        ledger.stop(ledger.claim(errand(Step.GATHER), "me"), StudyState.FAILED, "test")
    assert ledger.progress()[0].state is state
    clock.forward(2 * DAYS.total_seconds())
    assert retention.once() == 0
    assert ledger.remove("1.2.3", "me", "test") == (state is StudyState.DONE)


def test_a_person_removes_what_is_over_and_is_named(ledger, files, retention):
    finished(ledger)
    assert ledger.remove("1.2.3", "jane", "sent by mistake")
    assert not ledger.remove("1.2.3", "jane", "again")
    assert not ledger.remove("9.9", "jane", "unknown")
    assert ledger.removals()[0].by == "jane"
    assert ledger.due() == []


def test_a_look_at_what_is_removed_meanwhile_changes_nothing(ledger, clock):
    finished(ledger, again_at=START)
    claim = ledger.claim(errand(Step.LOOK_AGAIN), "me")
    assert ledger.remove("1.2.3", "dr", "on request")
    ledger.rest(claim, START)
    ledger.supersede(claim, EVIDENCE, "pathology arrived")
    assert ledger.due() == []


def test_a_study_that_no_rule_wants_cannot_be_run_once_it_is_removed(ledger, clock, retention):
    ledger.record_instance(instance())
    close(ledger, unwanted="no rule")
    clock.forward(DAYS.total_seconds() + 1)
    assert retention.once() == 1
    assert not ledger.want("1.2.3", "me")


def test_a_study_that_is_sent_again_whole_is_assessed_again(ledger, clock, retention):
    finished(ledger)
    clock.forward(DAYS.total_seconds() + 1)
    retention.once()
    for number in range(3):
        assert ledger.record_instance(instance(number, at=clock.now)) is Arrival.NEW
    assert ledger.receiving()[0].removed == 3
    assert doubt(ledger.receiving()[0], Arrived("quiet", is_proven=False)) is None


def test_a_late_image_alone_is_held_unless_the_archive_proves_that_it_is_all(
    ledger, clock, retention
):
    finished(ledger)
    clock.forward(DAYS.total_seconds() + 1)
    retention.once()
    ledger.record_instance(instance(7, at=clock.now))
    clock.forward(60)
    waits = Waits(**dict.fromkeys(("settle", "quiet", "partial"), timedelta(seconds=5)))
    ((late, arrived),) = Completeness(ledger=ledger, clock=clock, waits=waits).complete()
    assert doubt(late, arrived._replace(is_proven=True)) is None
    why = doubt(late, arrived)
    assert close(ledger, revision=late.revision, doubt=why)
    (progress,) = ledger.progress()
    assert progress.state is StudyState.HELD
    assert "expected the 3 instances that came before and were removed since, got 1" in why
    ledger.release("1.2.3", "me", "the others do not matter")
    assert ledger.due() == [errand(Step.GATHER)]


def test_what_is_not_held_in_doubt_runs(ledger):
    complete(ledger)
    assert ledger.due() == [errand(Step.GATHER)]
