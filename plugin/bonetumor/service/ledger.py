"""What the story needs of the ledger, as Protocols: the truth about every study."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from bonetumor.domain.assessment import Assessment
from bonetumor.domain.case import Evidence
from bonetumor.domain.progress import Claim, Refusal, Step, StudyEvent, StudyProgress, StudyState
from bonetumor.domain.study import Instance, InstanceKeys, Study
from bonetumor.domain.uid import UID


class Arrival(StrEnum):
    """What the ledger says of an instance that arrived."""

    NEW = "new"
    REPEATED = "repeated"
    CONFLICTING = "conflicting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """The result of an earlier revision that a result supersedes."""

    sop_instance_uid: UID
    series_instance_uid: UID
    run_key: str


class InstanceLedger(Protocol):
    """The part of the ledger that receiving needs."""

    def known(self, keys: InstanceKeys, sha256: str) -> Arrival:
        """Whether the instance is new, a repetition, or another object under a known UID."""
        ...

    def record_instance(self, instance: Instance) -> Arrival:
        """Adds the instance and (re)opens its study, or notes a conflict, durably."""
        ...

    def note_refusal(self, refusal: Refusal) -> None:
        """Remembers an object that was not taken, so that people can see it."""
        ...

    def quiet_since(self, moment: datetime) -> Sequence[tuple[UID, int]]:
        """Studies still receiving whose last instance came before `moment`, with revision."""
        ...

    def close_study(self, study_instance_uid: UID, revision: int, completeness: str) -> bool:
        """Marks the study complete; False if another instance came meanwhile."""
        ...


class StepLedger(Protocol):
    """The part of the ledger that the workers need."""

    def claim(self, study_instance_uid: UID, step: Step, owner: str) -> Claim | None:
        """The right to do the step, or None if it is not due or someone else has it."""
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
        """The last SR sent for an earlier revision."""
        ...

    def chosen_patient(self, study_instance_uid: UID) -> str | None:
        """The Patient that a person named for the study, if one did."""
        ...

    def finish(
        self,
        claim: Claim,
        state: StudyState,
        saved: Evidence | Assessment | None,
        detail: str,
        again_at: datetime | None = None,
    ) -> None:
        """Records the step as done, with what it made, in one transaction.

        `again_at` is when the EHR is to be asked for late evidence.
        """
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
        """Leaves the study held or failed, visibly."""
        ...


class Overview(Protocol):
    """The part of the ledger that people and the dispatcher look at."""

    def due(self) -> Sequence[tuple[UID, Step]]:
        """Every step that waits to be done and that nobody holds."""
        ...

    def progress(self) -> Sequence[StudyProgress]:
        """All studies, the newest first."""
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

    def reject(self, study_instance_uid: UID, by: str, reason: str) -> bool:
        """Ends a held or failed study for good, without a result."""
        ...

    def note_withdrawal(self, study_instance_uid: UID, by: str, reason: str) -> None:
        """Remembers that a report was withdrawn; late evidence makes no new one after that."""
        ...

    def newest_run(self, study_instance_uid: UID) -> str | None:
        """The run key of the newest result of a study, if there is one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelvedReport:
    """A report as we serve it ourselves. `body` is a JSON list of its FHIR resources."""

    report_id: str
    resource_ids: tuple[str, ...]
    study_instance_uid: UID
    run: str
    patient: str
    patient_id: str
    accession_number: str
    acquired_at: datetime | None
    written_at: datetime
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportQuery:
    """Which reports are asked for; None asks for any. `acquired` is from and until, exclusive."""

    patient: str | None = None
    patient_id: str | None = None
    identifier: str | None = None
    acquired_from: datetime | None = None
    acquired_until: datetime | None = None
    limit: int = 50
    offset: int = 0


class Shelf(Protocol):
    """Reports that we serve ourselves."""

    def keep(self, report: ShelvedReport) -> None:
        """Puts a report on the shelf; it takes the place of an earlier one of its study."""
        ...

    def find(self, query: ReportQuery) -> Sequence[ShelvedReport]:
        """Reports that fit and are not superseded, the newest first."""
        ...

    def holding(self, resource_id: str) -> ShelvedReport | None:
        """The newest report, superseded or not, that one of our resources belongs to."""
        ...


class Leases(Protocol):
    """The part of the ledger that whoever supervises workers needs."""

    def free(self, owner_prefix: str) -> int:
        """Takes back every lease of owners that are known to be dead; answers how many."""
        ...


class Ledger(InstanceLedger, StepLedger, Overview, Desk, Shelf, Leases, Protocol):
    """The truth about every study."""
