"""The EHR as a source of evidence: the HealthRecord port over FHIR."""

from datetime import datetime

import structlog

from bonetumor.domain.errors import Rejected
from bonetumor.domain.labs import LabPanel
from bonetumor.domain.pathology import Pathology
from bonetumor.domain.study import PatientIdentity
from bonetumor.fhir.client import FhirClient
from bonetumor.fhir.labs import LabWindow, read_labs
from bonetumor.fhir.pathology import read_pathology
from bonetumor.fhir.patient import PatientMatcher

_log = structlog.get_logger(__name__)


class FhirHealthRecord:
    """Patient, blood, pathology and order of one FHIR server."""

    def __init__(self, client: FhirClient, matcher: PatientMatcher, window: LabWindow) -> None:
        self._client = client
        self._matcher = matcher
        self._window = window

    def find_patient(self, identity: PatientIdentity) -> str:
        """The one FHIR Patient; raises PatientNotMatched otherwise."""
        return self._matcher.find(identity)

    def labs(self, patient: str, around: datetime | None) -> LabPanel | None:
        """Blood markers near the moment, or None if the EHR holds none."""
        return read_labs(self._client, patient, around, self._window)

    def pathology(self, patient: str) -> Pathology | None:
        """Pathology reports and slides, or None if the EHR holds none."""
        return read_pathology(self._client, patient)

    def order(self, patient: str, accession_number: str | None) -> str | None:
        """The one ServiceRequest behind the accession number, if there is exactly one."""
        if not accession_number:
            return None
        criteria = {"patient": patient.split("/")[1], "identifier": accession_number}
        try:
            candidates = list(self._client.search("ServiceRequest", criteria))
        except Rejected as error:
            # An EHR without orders over FHIR: the report goes out without one.
            _log.warning("no orders to be had", reason=str(error))
            return None
        found = [
            r
            for r in candidates
            if any(i.get("value") == accession_number for i in r.get("identifier") or [])
        ]
        return f"ServiceRequest/{found[0]['id']}" if len(found) == 1 else None
