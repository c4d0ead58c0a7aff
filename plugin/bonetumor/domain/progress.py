"""The recorded states that a study walks through, and the step that leads out of each.

A study is received, completed, gathered, assessed and delivered. Each delivery to each destination
walks by itself: waiting, sent, confirmed. One that is stuck holds up no other.
"""

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
    DELIVERING = "delivering"
    DONE = "done"
    HELD = "held"
    FAILED = "failed"
    REJECTED = "rejected"
    UNWANTED = "unwanted"


class DeliveryState(StrEnum):
    """Where a delivery is. An abandoned one was overtaken by a newer revision of its study."""

    WAITING = "waiting"
    SENT = "sent"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    ABANDONED = "abandoned"


class Content(StrEnum):
    """What is delivered: a result, or the notice that there is none and why."""

    RESULT = "result"
    NOTICE = "notice"


class Step(StrEnum):
    """One piece of work that a worker does for a study, or for one of its deliveries."""

    GATHER = "gather"
    ASSESS = "assess"
    DISPATCH = "dispatch"
    SEND = "send"
    CONFIRM = "confirm"
    LOOK_AGAIN = "look_again"


STOPPED = frozenset({StudyState.HELD, StudyState.FAILED})
# Over, with nothing that a person must do: what is old of them may be removed.
REMOVABLE = frozenset({StudyState.DONE, StudyState.REJECTED, StudyState.UNWANTED})
UNDER_WAY = frozenset({DeliveryState.WAITING, DeliveryState.SENT})

State = StudyState | DeliveryState

# LOOK_AGAIN leads out of DONE, but only while the ledger has a time for it.
NEXT_STEP: dict[State, Step] = {
    StudyState.COMPLETE: Step.GATHER,
    StudyState.GATHERED: Step.ASSESS,
    StudyState.ASSESSED: Step.DISPATCH,
}
NEXT_DELIVERY_STEP: dict[State, Step] = {
    DeliveryState.WAITING: Step.SEND,
    DeliveryState.SENT: Step.CONFIRM,
}

STATE_AFTER: dict[Step, State] = {
    Step.GATHER: StudyState.GATHERED,
    Step.ASSESS: StudyState.ASSESSED,
    Step.DISPATCH: StudyState.DELIVERING,
    Step.SEND: DeliveryState.SENT,
    Step.CONFIRM: DeliveryState.CONFIRMED,
    Step.LOOK_AGAIN: StudyState.DONE,
}

STATE_BEFORE: dict[Step, State] = {
    **{step: state for state, step in NEXT_STEP.items()},
    **{step: state for state, step in NEXT_DELIVERY_STEP.items()},
    Step.LOOK_AGAIN: StudyState.DONE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A step that is due. `destination` and `content` name the delivery of SEND and CONFIRM."""

    study_instance_uid: UID
    step: Step
    destination: str = ""
    content: Content = Content.RESULT
    urgent: bool = False

    @property
    def is_delivery(self) -> bool:
        """Whether the step belongs to one delivery, not to the study as a whole."""
        return self.step in NEXT_DELIVERY_STEP.values()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to go on one errand for one revision of a study until `expires_at`."""

    errand: Errand
    revision: int
    owner: str
    attempt: int
    put_offs: int
    expires_at: datetime

    @property
    def study_instance_uid(self) -> UID:
        """The study."""
        return self.errand.study_instance_uid

    @property
    def step(self) -> Step:
        """The step."""
        return self.errand.step


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery as `status` shows it."""

    revision: int
    content: Content
    destination: str
    state: DeliveryState
    problem: str | None
    updated_at: datetime
    next_attempt_at: datetime | None


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
    urgent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSeen:
    """A worker that has been heard of: its canary came back through the broker at `heard_at`."""

    owner: str
    queues: str
    started_at: datetime
    heard_at: datetime


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
