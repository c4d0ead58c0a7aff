"""The shelf: reports of ours that EHRs read from us, because they cannot be written to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bonetumor.domain.uid import UID


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelvedReport:
    """A report as we serve it ourselves. `body` is a JSON list of its FHIR resources;
    `patient_system` is empty where the system of `patient_id` is not known."""

    report_id: str
    resource_ids: tuple[str, ...]
    study_instance_uid: UID
    run: str
    patient: str
    patient_id: str
    patient_system: str
    accession_number: str
    acquired_at: datetime | None
    written_at: datetime
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportQuery:
    """Which reports are asked for; None asks for any. `acquired` is from and until, exclusive.

    A `patient_system` keeps out reports of which it is known to be another.
    """

    patient: str | None = None
    patient_id: str | None = None
    patient_system: str | None = None
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
