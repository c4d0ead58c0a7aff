"""What the story needs of the ledger, as Protocols: the truth about every study."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from bonetumor.domain.assessment import Assessment
from bonetumor.domain.case import Evidence
from bonetumor.domain.progress import (
    Claim,
    Delivery,
    Errand,
    Refusal,
    State,
    StudyEvent,
    StudyProgress,
    StudyState,
    WorkerSeen,
)
from bonetumor.domain.study import Instance, Study
from bonetumor.domain.uid import UID
from bonetumor.domain.workitem import Performance, Workitem
from bonetumor.service.retain import RetentionLedger
from bonetumor.service.shelf import Shelf
from bonetumor.service.texts import Texts


class Arrival(StrEnum):
    """What the ledger says of an instance that arrived."""

    NEW = "new"
    REPEATED = "repeated"
    CONFLICTING = "conflicting"
    OURS = "ours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """That a study is complete, how that is known, and what the site's rules make of it.

    `unwanted` says why the study is not for us; None if it is. `doubt` says why a person must look
    before it is assessed.
    """

    study_instance_uid: UID
    revision: int
    completeness: str
    urgent: bool = False
    unwanted: str | None = None
    doubt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """The result of an earlier revision that a result supersedes."""

    sop_instance_uid: UID
    series_instance_uid: UID
    run_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnObject:
    """An object that we made."""

    sop_instance_uid: UID
    sop_class_uid: UID
    study_instance_uid: UID
    series_instance_uid: UID


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """A storage commitment that was asked for. Once it is answered, the counts are of what we sent:
    an object of which the archive says nothing is in neither."""

    transaction_uid: UID
    requested_at: datetime
    is_answered: bool
    committed: int
    failed: int


class InstanceLedger(Protocol):
    """The part of the ledger that receiving needs."""

    def record_instance(self, instance: Instance) -> Arrival:
        """Adds the instance and (re)opens its study, or notes a conflict, durably."""
        ...

    def note_refusal(self, refusal: Refusal) -> None:
        """Remembers an object that was not taken, so that people can see it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiving:
    """A study that is on its way in: what has come, and what is known of what should.

    `instances` counts by series. `announced` is how many instances MPPS or IAN named, `awaited` how
    many of them have not come; `in_progress` says that a modality is still at it. `removed` is how
    many instances the study had when its images were removed.
    """

    study_instance_uid: UID
    revision: int
    last_instance_at: datetime
    instances: Mapping[UID, int]
    announced: int
    awaited: int
    in_progress: bool
    removed: int = 0


class Announcements(Protocol):
    """What modalities and archives say that there is."""

    def note_announced(
        self, study_instance_uid: UID, source: str, sop_instance_uids: Sequence[UID]
    ) -> None:
        """Remembers instances that exist."""
        ...

    def note_step(self, step: UID, study_instance_uid: UID | None, *, is_over: bool) -> bool:
        """Remembers where a performed procedure step is; False if nobody created it."""
        ...

    def note_made(self, step: UID, sop_instance_uids: Sequence[UID]) -> None:
        """Remembers what a performed procedure step made."""
        ...


class ArrivalLedger(Protocol):
    """The part of the ledger that decides whether studies are complete."""

    def receiving(self) -> Sequence[Receiving]:
        """Every study that is on its way in."""
        ...

    def instance_uids(self, study_instance_uid: UID) -> frozenset[UID]:
        """What has come of a study."""
        ...

    def own_series(self, study_instance_uid: UID) -> frozenset[UID]:
        """Series of our own making in a study: no archive needs to send them."""
        ...

    def close_study(self, closing: Closing) -> bool:
        """Marks the study complete, or not for us; False if another instance came meanwhile."""
        ...


class StepLedger(Protocol):
    """The part of the ledger that the workers need."""

    def claim(self, errand: Errand, owner: str) -> Claim | None:
        """The right to do the step, or None if it is not due or someone else has it."""
        ...

    def companions(self, claim: Claim, limit: int) -> Sequence[Errand]:
        """The same step for other studies for which it is due and no attempt has died: urgent ones,
        then the oldest."""
        ...

    def study(self, study_instance_uid: UID) -> Study:
        """The study with all its instances."""
        ...

    def evidence(self, claim: Claim) -> Evidence:
        """What gathering saved for this revision."""
        ...

    def assessment(self, claim: Claim) -> Assessment:
        """What assessing saved for this revision."""
        ...

    def predecessor(self, claim: Claim) -> Predecessor | None:
        """The last result of an earlier revision that any destination was sent."""
        ...

    def chosen_patient(self, study_instance_uid: UID) -> str | None:
        """The Patient that a person named for the study, if one did."""
        ...

    def finish(
        self,
        claim: Claim,
        state: State,
        saved: Evidence | Assessment | None,
        detail: str,
        again_at: datetime | None = None,
        deliver_to: Sequence[str] = (),
    ) -> None:
        """Records the step as done, with what it made, in one transaction.

        `again_at` is when the EHR is to be asked for late evidence; `deliver_to` names the
        destinations that deliveries are opened for. The study is done with its last delivery.
        """
        ...

    def reason(self, claim: Claim) -> tuple[str, datetime]:
        """Why a notice is sent, and since when that is so."""
        ...

    def rest(self, claim: Claim, again_at: datetime | None) -> None:
        """Gives a claim back that changed nothing, to be due again at `again_at` or never."""
        ...

    def supersede(self, claim: Claim, evidence: Evidence, reason: str) -> None:
        """Opens the next revision of a finished study, with its evidence already gathered."""
        ...

    def put_off(self, claim: Claim, problem: str, until: datetime) -> None:
        """Gives the claim back; the step is due again at `until`."""
        ...

    def drop(self, claim: Claim, problem: str, until: datetime) -> None:
        """Gives the claim back after a crash: due again at `until`, and the attempt counts."""
        ...

    def stop(self, claim: Claim, state: StudyState, problem: str) -> None:
        """Leaves the study held or failed, or one of its deliveries failed, visibly."""
        ...


class Outbox(Protocol):
    """What archives get of us, and storage commitment, which may come over another association."""

    def note_own(
        self, study_instance_uid: UID, destination: str, key: str, objects: Sequence[OwnObject]
    ) -> None:
        """Remembers objects that we are about to send, so that they are known if they return.

        `key` names the parcel; what was noted for it and the destination before is forgotten, and
        so is storage commitment: what is sent anew is confirmed anew.
        """
        ...

    def sent_objects(self, destination: str, key: str) -> Sequence[OwnObject]:
        """What a destination was sent of a parcel."""
        ...

    def commitment(self, destination: str, key: str) -> Commitment | None:
        """What came of asking for storage commitment: the answer, else the newest request."""
        ...

    def note_commitment_request(self, transaction_uid: UID, destination: str, key: str) -> None:
        """Remembers that commitment is asked for; an answer to an earlier request still counts."""
        ...

    def forget_commitment(self, transaction_uid: UID) -> None:
        """Lets commitment be asked for again."""
        ...

    def note_commitment_answer(
        self, transaction_uid: UID, *, committed: Collection[UID], failed: Collection[UID]
    ) -> bool:
        """Remembers what the archive answers of what it was asked for; False if nobody asked."""
        ...


class Overview(Protocol):
    """The part of the ledger that people and the dispatcher look at."""

    def due(self) -> Sequence[Errand]:
        """Every step that waits to be done and that nobody holds: urgent ones, then the oldest."""
        ...

    def progress(
        self, *, states: Collection[StudyState] = (), limit: int | None = None
    ) -> Sequence[StudyProgress]:
        """Studies, those of some states where any are named, the newest first."""
        ...

    def counts(self) -> Mapping[StudyState, int]:
        """How many studies there are of each state."""
        ...

    def one(self, study_instance_uid: UID) -> StudyProgress | None:
        """One study, if it is known."""
        ...

    def deliveries(self, study_instance_uid: UID) -> Sequence[Delivery]:
        """Every delivery of a study, the oldest revision first."""
        ...

    def refusals(self) -> Sequence[Refusal]:
        """The newest objects that were not taken, the newest first."""
        ...

    def story(self, study_instance_uid: UID) -> Sequence[StudyEvent]:
        """Everything that happened to a study, the oldest first."""
        ...

    def retry(self, study_instance_uid: UID) -> bool:
        """Lets a held or failed study run again from where it stopped."""
        ...


class Desk(Protocol):
    """The part of the ledger where people decide about a case. Every decision is an event."""

    def hold(self, study_instance_uid: UID, by: str, reason: str) -> bool:
        """Stops a study until a person releases it; False where it has ended already."""
        ...

    def release(
        self, study_instance_uid: UID, by: str, reason: str, patient: str | None = None
    ) -> bool:
        """Lets a held study go on, for the Patient that the person named if one was."""
        ...

    def want(self, study_instance_uid: UID, by: str) -> bool:
        """Lets a study run that no rule wants; False where it is not such a one."""
        ...

    def reject(self, study_instance_uid: UID, by: str, reason: str) -> bool:
        """Ends a held or failed study for good, without a result."""
        ...

    def note_withdrawal(self, study_instance_uid: UID, by: str, reason: str) -> StudyState | None:
        """Remembers that a report was withdrawn, and makes no new one without a person.

        Late evidence counts no more, and a result that is on its way is held. Answers the state.
        """
        ...

    def runs(self, study_instance_uid: UID) -> Sequence[str]:
        """The run keys of the results of a study, the newest first."""
        ...


class WorkitemLedger(Protocol):
    """The part of the ledger that knows which workitems of a worklist we perform."""

    def begin_workitem(self, workitem: Workitem, transaction: UID) -> bool:
        """Remembers that we are about to claim it; False where we have done so before."""
        ...

    def note_claimed(self, workitem: UID) -> None:
        """Remembers that it is ours: its studies are wanted, whatever the rules say."""
        ...

    def forget_workitem(self, workitem: UID) -> None:
        """Forgets one that is not ours after all."""
        ...

    def performances(self) -> Sequence[Performance]:
        """Every workitem that was begun and has not ended, the oldest first."""
        ...

    def end_workitem(self, workitem: UID, said: str) -> None:
        """Remembers how it ended, in words."""
        ...


class Leases(Protocol):
    """The part of the ledger that whoever supervises workers needs."""

    def free(self, owner_prefix: str) -> int:
        """Takes back every lease of owners that are known to be dead; answers how many."""
        ...


class Attendance(Protocol):
    """The part of the ledger that knows who works."""

    def note_alive(self, owner: str, queues: str) -> None:
        """Remembers that a worker has been heard of now."""
        ...

    def workers(self) -> Sequence[WorkerSeen]:
        """Workers that have been heard of, the last heard first."""
        ...


class Ledger(
    InstanceLedger,
    ArrivalLedger,
    Announcements,
    StepLedger,
    Outbox,
    Overview,
    Desk,
    RetentionLedger,
    Shelf,
    WorkitemLedger,
    Leases,
    Attendance,
    Texts,
    Protocol,
):
    """The truth about every study."""
