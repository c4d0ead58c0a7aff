"""What a step does with each kind of error."""

import traceback
from datetime import UTC, datetime, timedelta

import pytest

from bonetumor.domain.case import Evidence
from bonetumor.domain.errors import (
    ArchiveUnavailable,
    CorruptPixelData,
    Misconfigured,
    NonFiniteOutput,
    PatientNotMatched,
    Rejected,
)
from bonetumor.domain.progress import Claim, Step, StudyState
from bonetumor.service.walk import Crash, Outcome, Walk
from kit.ledger import errand

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GATHER, ASSESS = errand(Step.GATHER, "1.2"), errand(Step.ASSESS, "1.2")


class FakeLedger:
    def __init__(self, due=True):
        self.due = due
        self.calls = []

    def claim(self, errand, owner):
        if not self.due:
            return None
        return Claim(errand=errand, revision=1, owner=owner, attempt=1, put_offs=2, expires_at=NOW)

    def finish(self, claim, state, saved, detail, again_at=None, deliver_to=()):
        self.calls.append(("finish", state, detail))

    def rest(self, claim, again_at):
        self.calls.append(("rest", again_at))

    def supersede(self, claim, evidence, reason):
        self.calls.append(("supersede", reason))

    def put_off(self, claim, problem, until):
        self.calls.append(("put_off", problem, until))

    def drop(self, claim, problem, until):
        self.calls.append(("drop", problem, until))

    def stop(self, claim, state, problem):
        self.calls.append(("stop", state, problem))


def walk(ledger, work):
    return Walk(
        ledger=ledger,
        clock=lambda: NOW,
        work={Step.GATHER: work},
        owner="me",
        retry_after=lambda claim: timedelta(seconds=2**claim.put_offs),
    )


def raising(error):
    def work(_claim):
        raise error

    return work


def test_a_step_done_rings_for_the_next():
    ledger = FakeLedger()
    assert walk(ledger, lambda _: Outcome(detail="ok")).take(GATHER) == [errand(Step.ASSESS, "1.2")]
    assert ledger.calls == [("finish", StudyState.GATHERED, "ok")]


def test_a_step_may_end_the_walk_early():
    ledger = FakeLedger()
    outcome = Outcome(detail="ok", state=StudyState.DONE)
    assert walk(ledger, lambda _: outcome).take(GATHER) in ([], ())
    assert ledger.calls == [("finish", StudyState.DONE, "ok")]


def test_a_step_that_is_not_due_is_not_done():
    done = []
    assert walk(FakeLedger(due=False), done.append).take(GATHER) in ([], ())
    assert done == []


def test_what_is_unavailable_is_put_off_with_backoff():
    ledger = FakeLedger()
    assert walk(ledger, raising(ArchiveUnavailable("down"))).take(GATHER) in ([], ())
    assert ledger.calls == [("put_off", "ArchiveUnavailable: down", NOW + timedelta(seconds=4))]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (PatientNotMatched("two"), StudyState.HELD),
        (CorruptPixelData("short"), StudyState.FAILED),
        (Rejected("no"), StudyState.FAILED),
        (NonFiniteOutput("NaN"), StudyState.FAILED),
        (Misconfigured("mode"), StudyState.FAILED),
    ],
)
def test_what_stays_wrong_stops_visibly(error, state):
    ledger = FakeLedger()
    assert walk(ledger, raising(error)).take(GATHER) in ([], ())
    assert ledger.calls == [("stop", state, f"{type(error).__name__}: {error}")]


def test_a_bug_is_counted_and_not_swallowed():
    ledger = FakeLedger()
    with pytest.raises(Crash, match="crashed with ZeroDivisionError") as crash:
        walk(ledger, lambda _: 1 / 0).take(GATHER)
    assert "division by zero" not in "".join(traceback.format_exception(crash.value))
    assert crash.traceback[-1].name == "<lambda>"
    assert ledger.calls == [("drop", "crashed with ZeroDivisionError", NOW + timedelta(seconds=4))]


def test_the_other_side_may_ask_for_a_longer_wait():
    ledger = FakeLedger()

    def busy(claim):
        raise ArchiveUnavailable("busy", retry_after_s=60)

    walk(ledger, busy).take(GATHER)
    assert ledger.calls[0][2] == NOW + timedelta(seconds=60)


def test_looking_again_without_news_leaves_no_trace():
    ledger = FakeLedger()
    later = NOW + timedelta(minutes=5)
    assert walk(ledger, lambda _: Outcome(detail="", again_at=later)).take(GATHER) in ([], ())
    assert ledger.calls == [("rest", later)]


def test_late_evidence_opens_the_next_revision_and_rings_for_its_assessment():
    ledger = FakeLedger()
    evidence = Evidence(patient="Patient/1", labs=None, pathology=None)
    outcome = Outcome(detail="blood markers arrived", superseding=evidence)
    assert walk(ledger, lambda _: outcome).take(GATHER) == [errand(Step.ASSESS, "1.2")]
    assert ledger.calls == [("supersede", "blood markers arrived")]


def test_a_dispatched_result_rings_for_every_destination_and_a_sent_one_for_its_confirmation():
    def rings(step, outcome):
        made = walk(FakeLedger(), lambda _: outcome)
        made._work = {step: lambda _: outcome}
        return made.take(errand(step, "1.2", "pacs" if step is Step.SEND else ""))

    to_both = Outcome(detail="to both", deliver_to=("pacs", "ehr"))
    assert rings(Step.DISPATCH, to_both) == [
        errand(Step.SEND, "1.2", "pacs"),
        errand(Step.SEND, "1.2", "ehr"),
    ]
    assert rings(Step.SEND, Outcome(detail="sent")) == [errand(Step.CONFIRM, "1.2", "pacs")]
