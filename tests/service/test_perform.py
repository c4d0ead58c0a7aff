"""Performing workitems: claimed once, their studies brought and assessed, ended when those are."""

import itertools
from datetime import timedelta

import pytest

from bonetumor.domain.errors import ArchiveUnavailable, Rejected
from bonetumor.domain.progress import Step, StudyState
from bonetumor.domain.workitem import Workitem
from bonetumor.service.ledger import Closing
from bonetumor.service.perform import Performing
from bonetumor.service.ports import Holding
from kit.ledger import close, deliver, errand, instance, own, walk_to_deliveries

STUDY, OTHER = "1.2.3", "1.2.4"
PATIENCE = timedelta(seconds=60)


class Worklist:
    """A manager in memory: what it offers, who has what, and how it ended."""

    def __init__(self):
        self.waiting, self.claimed, self.ended = [], {}, {}
        self.crash_after_claim = self.refuses = self.is_down = False

    def offered(self, most):
        if self.is_down:
            raise ArchiveUnavailable("archive: expected an answer, got none")
        return [w for w in self.waiting if w.uid not in self.claimed][:most]

    def claim(self, workitem, transaction):
        if self.claimed.setdefault(workitem, transaction) != transaction:
            return False
        if self.crash_after_claim:
            raise KeyboardInterrupt
        return True

    def is_ours(self, workitem, transaction):
        return self.claimed.get(workitem) == transaction

    def complete(self, performance, outputs):
        return self._end(
            performance, {k: [o.sop_instance_uid for o in v] for k, v in outputs.items()}
        )

    def cancel(self, performance, reason):
        return self._end(performance, reason)

    def _end(self, performance, how):
        if self.refuses:
            raise Rejected("worklist: expected it to take an update, got a refusal")
        assert performance.transaction_uid == self.claimed[performance.workitem.uid]
        self.ended[performance.workitem.uid] = how
        return "ENDED"


class Source:
    """An archive whose images arrive at once where `sends` is True."""

    def __init__(self, ledger):
        self.held, self.sends, self.is_down, self.asked, self._ledger = {}, True, False, 0, ledger

    def holdings(self, study):
        if self.is_down:
            raise ArchiveUnavailable("archive: expected an answer, got none")
        held = {f"{study}.1": Holding(n) for n in [self.held.get(study)] if n}
        return {**held, f"{study}.8": Holding(1, is_images=False)} if held else {}

    def instances(self, study, series):
        return frozenset(f"{series}.{n}" for n in range(1, self.held[study] + 1))

    def fetch(self, study, missing):
        self.asked += 1
        assert list(missing) == [f"{study}.1"]
        if self.sends:
            for number in range(1, self.held[study] + 1):
                self._ledger.record_instance(instance(number, study))


@pytest.fixture
def worklist():
    return Worklist()


@pytest.fixture
def source(ledger):
    return Source(ledger)


@pytest.fixture
def performing(ledger, worklist, source, clock):
    numbers = itertools.count(1)
    return Performing(
        ledger=ledger,
        worklist=worklist,
        source=source,
        clock=clock,
        new_uid=lambda: f"1.9.{next(numbers)}",
        most=2,
        patience=PATIENCE,
    )


def rounds(performing, count=2):
    for _ in range(count):
        performing.once()


def finish(ledger, study=STUDY):
    """Everything up to the last confirmed delivery."""
    close(ledger, study)
    key = study[-1]  # of its own for each study
    walk_to_deliveries(ledger, "pacs", "ehr", key=key, study=study)
    ledger.note_own(study, "pacs", ledger.runs(study)[0], [own(f"{study}.9.1", study)])
    for destination in ("pacs", "ehr"):
        for step in (Step.SEND, Step.CONFIRM):
            deliver(ledger, step, destination, study=study)
    assert ledger.one(study).state is StudyState.DONE


def said(ledger, study=STUDY):
    return [e.detail for e in ledger.story(study) if e.kind == "workitem"]


def test_a_study_is_brought_assessed_and_its_workitem_completed(
    performing, ledger, worklist, source
):
    worklist.waiting.append(Workitem(uid="1.8", studies=(STUDY, OTHER)))
    source.held = {STUDY: 2, OTHER: 1}
    rounds(performing, 3)
    assert source.asked == 2  # once each: they are on their way then
    finish(ledger, STUDY)
    rounds(performing)
    assert not worklist.ended  # the other is not done
    finish(ledger, OTHER)
    rounds(performing)
    assert worklist.ended == {"1.8": {"pacs": [f"{STUDY}.9.1", f"{OTHER}.9.1"]}}
    assert said(ledger) == said(ledger, OTHER) == ["1.8 claimed", "1.8 ENDED"]
    assert not ledger.performances()


def test_a_result_that_is_there_already_is_told_at_once(performing, ledger, worklist, source):
    ledger.record_instance(instance())
    finish(ledger)
    worklist.waiting.append(Workitem(uid="1.8", studies=(STUDY,)))
    rounds(performing)
    assert worklist.ended == {"1.8": {"pacs": [f"{STUDY}.9.1"]}}
    assert source.asked == 0


def test_no_more_is_claimed_than_may_be_ours_at_once(performing, worklist):
    worklist.waiting += [Workitem(uid=f"1.8.{n}", studies=(STUDY,)) for n in range(5)]
    rounds(performing, 4)
    assert sorted(worklist.claimed) == ["1.8.0", "1.8.1"]


def test_what_somebody_else_has_is_left_to_them_and_taken_when_it_is_free(
    performing, ledger, worklist
):
    worklist.waiting.append(Workitem(uid="1.8", studies=(STUDY,)))
    worklist.offered = lambda _: worklist.waiting
    worklist.claimed["1.8"] = "another's"
    rounds(performing)
    assert not ledger.performances()
    worklist.claimed.clear()
    rounds(performing)
    [ours] = ledger.performances()
    assert ours.claimed_at


@pytest.mark.parametrize("got_it", [True, False])
def test_a_crash_while_claiming_loses_nothing(performing, ledger, worklist, clock, got_it):
    worklist.waiting.append(Workitem(uid="1.8", studies=(STUDY,)))
    worklist.crash_after_claim = True
    with pytest.raises(KeyboardInterrupt):
        performing.once()
    [begun] = ledger.performances()
    assert begun.claimed_at is None
    worklist.crash_after_claim = False
    if not got_it:
        worklist.claimed["1.8"] = "another's"
    performing.once()
    assert ledger.performances() == [begun]  # another listener may be at it just now
    clock.forward(120)
    performing.once()
    assert [p.claimed_at for p in ledger.performances()] == [clock()] * got_it


def test_rules_do_not_set_aside_what_a_workitem_wants(performing, ledger, worklist, source):
    worklist.waiting.append(Workitem(uid="1.8", studies=(STUDY,), urgent=True))
    source.held = {STUDY: 1}
    rounds(performing)
    ledger.close_study(
        Closing(study_instance_uid=STUDY, revision=1, completeness="c", unwanted="no rule wants it")
    )
    assert ledger.one(STUDY).state is StudyState.COMPLETE
    assert ledger.one(STUDY).urgent


def test_what_rules_set_aside_before_runs_once_it_is_asked_for(performing, ledger, worklist):
    ledger.record_instance(instance())
    ledger.close_study(
        Closing(study_instance_uid=STUDY, revision=1, completeness="c", unwanted="no rule wants it")
    )
    assert ledger.one(STUDY).state is StudyState.UNWANTED
    worklist.waiting.append(Workitem(uid="1.8", studies=(STUDY,)))
    rounds(performing)
    assert ledger.one(STUDY).state is StudyState.COMPLETE
    assert [e.detail for e in ledger.story(STUDY) if e.kind == "wanted"] == ["by workitem 1.8"]


def test_a_study_that_failed_ends_its_workitem_with_the_reason(performing, ledger, worklist):
    worklist.waiting.append(Workitem(uid="1.8", studies=(STUDY, OTHER)))
    ledger.record_instance(instance())
    close(ledger, STUDY)
    claim = ledger.claim(errand(Step.GATHER), "w")
    ledger.stop(claim, StudyState.HELD, "PatientNotMatched: expected one Patient, got 2")
    rounds(performing)
    assert not worklist.ended  # a person may release it
    ledger.reject(STUDY, "anna", "not ours")
    rounds(performing)
    reason = "study: expected a result, got rejected by anna: not ours"
    assert worklist.ended == {"1.8": reason}
    assert said(ledger)[-1] == f"1.8 ENDED: {reason}"


def test_studies_that_a_person_holds_keep_no_other_workitem_waiting(performing, ledger, worklist):
    for number in range(1, 4):
        study = f"1.3.{number}"
        ledger.record_instance(instance(study=study))
        ledger.hold(study, "anna", "wait")
        worklist.waiting.append(Workitem(uid=f"1.8.{number}", studies=(study,)))
    rounds(performing, 3)
    assert sorted(worklist.claimed) == ["1.8.1", "1.8.2", "1.8.3"]
    assert not worklist.ended


def test_two_listeners_perform_each_workitem_once(performing, ledger, worklist, source):
    worklist.waiting.append(Workitem(uid="1.8", studies=(STUDY,)))
    assert ledger.begin_workitem(worklist.waiting[0], "1.9.9")  # by the other one
    performing.once()
    assert not worklist.claimed
    worklist.claim("1.8", "1.9.9")
    ledger.note_claimed("1.8")
    ledger.record_instance(instance())
    finish(ledger)
    performing.once()
    ledger.end_workitem("1.8", "is COMPLETED already")  # by the other one, too late
    assert said(ledger) == ["1.8 claimed", "1.8 ENDED"]


@pytest.mark.parametrize("held", [0, 2])
def test_images_that_do_not_come_end_the_workitem_in_time(
    performing, ledger, worklist, source, clock, held
):
    worklist.waiting.append(Workitem(uid="1.8", studies=(STUDY,)))
    source.held, source.sends = {STUDY: held}, False
    rounds(performing, 3)
    clock.forward(59)
    rounds(performing)
    assert not worklist.ended
    clock.forward(1)
    rounds(performing)
    expected = f"study: expected images from the archive, which holds {held}, got none"
    assert worklist.ended == {"1.8": expected}


def test_an_archive_that_is_down_is_waited_for_and_holds_up_no_other_workitem(
    performing, ledger, worklist, source, clock
):
    ledger.record_instance(instance(study=OTHER))
    finish(ledger, OTHER)
    source.is_down = True
    worklist.waiting += [
        Workitem(uid="1.8.1", studies=(STUDY,)),
        Workitem(uid="1.8.2", studies=(OTHER,)),
    ]
    performing.once()
    clock.forward(3600)
    with pytest.raises(ArchiveUnavailable):
        performing.once()
    assert list(worklist.ended) == ["1.8.2"]
    source.is_down, source.held = False, {STUDY: 1}
    rounds(performing)
    finish(ledger)
    rounds(performing)
    assert sorted(worklist.ended) == ["1.8.1", "1.8.2"]


def test_a_manager_that_lets_nobody_end_is_told_of_once(performing, ledger, worklist):
    ledger.record_instance(instance())
    finish(ledger)
    worklist.waiting.append(Workitem(uid="1.8", studies=(STUDY,)))
    worklist.refuses = True
    performing.once()
    with pytest.raises(Rejected):
        performing.once()
    rounds(performing)
    assert said(ledger)[-1].startswith("1.8 could not be ended: worklist: expected")


def test_a_manager_that_is_down_does_not_stop_what_is_under_way(performing, worklist, ledger):
    worklist.waiting.append(Workitem(uid="1.8", studies=(STUDY,)))
    ledger.record_instance(instance())
    performing.once()
    finish(ledger)
    worklist.is_down = True
    with pytest.raises(ArchiveUnavailable):
        performing.once()
    assert list(worklist.ended) == ["1.8"]
