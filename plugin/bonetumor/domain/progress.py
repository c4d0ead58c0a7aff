"""The recorded states that a study walks through, and the step that leads out of each."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bonetumor.domain.uid import UID


class StudyState(StrEnum):
    """Where a study is. The order is the order of the walk."""

    RECEIVING = "receiving"
    COMPLETE = "complete"
    GATHERED = "gathered"
    ASSESSED = "assessed"
    SR_SENT = "sr_sent"
    SR_CONFIRMED = "sr_confirmed"
    REPORT_SENT = "report_sent"
    DONE = "done"
    HELD = "held"
    FAILED = "failed"
    REJECTED = "rejected"


class Step(StrEnum):
    """One piece of work that a worker does for a study."""

    GATHER = "gather"
    ASSESS = "assess"
    SEND_SR = "send_sr"
    CONFIRM_SR = "confirm_sr"
    SEND_REPORT = "send_report"
    CONFIRM_REPORT = "confirm_report"
    LOOK_AGAIN = "look_again"


STOPPED = frozenset({StudyState.HELD, StudyState.FAILED})

# LOOK_AGAIN leads out of DONE, but only while the ledger has a time for it.
NEXT_STEP = {
    StudyState.COMPLETE: Step.GATHER,
    StudyState.GATHERED: Step.ASSESS,
    StudyState.ASSESSED: Step.SEND_SR,
    StudyState.SR_SENT: Step.CONFIRM_SR,
    StudyState.SR_CONFIRMED: Step.SEND_REPORT,
    StudyState.REPORT_SENT: Step.CONFIRM_REPORT,
}

STATE_AFTER = {
    Step.GATHER: StudyState.GATHERED,
    Step.ASSESS: StudyState.ASSESSED,
    Step.SEND_SR: StudyState.SR_SENT,
    Step.CONFIRM_SR: StudyState.SR_CONFIRMED,
    Step.SEND_REPORT: StudyState.REPORT_SENT,
    Step.CONFIRM_REPORT: StudyState.DONE,
    Step.LOOK_AGAIN: StudyState.DONE,
}

STATE_BEFORE = {
    **{step: state for state, step in NEXT_STEP.items()},
    Step.LOOK_AGAIN: StudyState.DONE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to do one step for one revision of a study until `expires_at`."""

    study_instance_uid: UID
    revision: int
    step: Step
    owner: str
    attempt: int
    put_offs: int
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyProgress:
    """A study as `status` shows it."""

    study_instance_uid: UID
    state: StudyState
    revision: int
    instances: int
    last_instance_at: datetime
    updated_at: datetime
    problem: str | None
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An object that was sent and not taken; its sender was told so."""

    at: datetime
    calling_ae_title: str
    sop_instance_uid: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEvent:
    """One thing that happened to a study. Events are added, never changed."""

    at: datetime
    revision: int
    kind: str
    detail: str
