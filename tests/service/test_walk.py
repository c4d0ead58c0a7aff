"""What a step does with each kind of error."""

from datetime import UTC, datetime, timedelta

import pytest

from bonetumor.domain.errors import (
    ArchiveUnavailable,
    CorruptPixelData,
    Misconfigured,
    NonFiniteOutput,
    PatientNotMatched,
    Rejected,
)
from bonetumor.domain.progress import Claim, Step, StudyState
from bonetumor.service.walk import Outcome, Walk

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class FakeLedger:
    def __init__(self, due=True):
        self.due = due
        self.calls = []

    def claim(self, study, step, owner):
        if not self.due:
            return None
        return Claim(
            study_instance_uid=study,
            revision=1,
            step=step,
            owner=owner,
            attempt=1,
            put_offs=2,
            expires_at=NOW,
        )

    def finish(self, claim, state, saved, detail):
        self.calls.append(("finish", state, detail))

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
    assert walk(ledger, lambda _: Outcome(detail="ok")).take("1.2", Step.GATHER) is Step.ASSESS
    assert ledger.calls == [("finish", StudyState.GATHERED, "ok")]


def test_a_step_may_end_the_walk_early():
    ledger = FakeLedger()
    outcome = Outcome(detail="ok", state=StudyState.DONE)
    assert walk(ledger, lambda _: outcome).take("1.2", Step.GATHER) is None
    assert ledger.calls == [("finish", StudyState.DONE, "ok")]


def test_a_step_that_is_not_due_is_not_done():
    done = []
    assert walk(FakeLedger(due=False), done.append).take("1.2", Step.GATHER) is None
    assert done == []


def test_what_is_unavailable_is_put_off_with_backoff():
    ledger = FakeLedger()
    assert walk(ledger, raising(ArchiveUnavailable("down"))).take("1.2", Step.GATHER) is None
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
    assert walk(ledger, raising(error)).take("1.2", Step.GATHER) is None
    assert ledger.calls == [("stop", state, f"{type(error).__name__}: {error}")]


def test_a_bug_is_counted_and_not_swallowed():
    ledger = FakeLedger()
    with pytest.raises(ZeroDivisionError):
        walk(ledger, lambda _: 1 / 0).take("1.2", Step.GATHER)
    assert ledger.calls == [("drop", "crashed with ZeroDivisionError", NOW + timedelta(seconds=4))]
