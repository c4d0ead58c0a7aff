"""The EHR as the place where reports go: the ReportServer port over FHIR.

Stage 1 creates what a report hangs on, each on condition that it is not there. Stage 2 looks for
the run first and only then posts one transaction, so a repetition makes nothing twice, also
after a timeout that hid a commit.
"""

from bonetumor.domain.errors import InvalidInput
from bonetumor.fhir.client import FhirClient
from bonetumor.fhir.report import (
    DEVICE_SYSTEM,
    DICOM_UID_SYSTEM,
    RUN_SYSTEM,
    Anchors,
    device,
    device_key,
    imaging_study,
    organization,
    report_bundle,
)
from bonetumor.service.ports import Result


class FhirReportServer:
    """Posts reports to one FHIR server in the name of `organization_name`."""

    def __init__(self, client: FhirClient, organization_name: str) -> None:
        self._client = client
        self._organization_name = organization_name

    def send(self, result: Result) -> None:
        """Posts the report unless the server has it."""
        if result.evidence.patient is None:
            raise InvalidInput("report: expected a matched Patient, got none")
        if not self.holds(result):
            self._client.transact(report_bundle(result, self._anchors(result)))

    def holds(self, result: Result) -> bool:
        """Whether the server answers with a DiagnosticReport of this run."""
        run = result.assessment.run_key
        found = self._client.search("DiagnosticReport", {"identifier": f"{RUN_SYSTEM}|{run}"})
        return any(
            i.get("system") == RUN_SYSTEM and i.get("value") == run
            for report in found
            for i in report.get("identifier") or []
        )

    def _anchors(self, result: Result) -> Anchors:
        owner = self._client.create_once(
            organization(self._organization_name),
            {"identifier": f"{DEVICE_SYSTEM}|{self._organization_name}"},
        )
        study = f"urn:oid:{result.study.study_instance_uid}"
        return Anchors(
            organization=owner,
            device=self._client.create_once(
                device(result, owner),
                {"identifier": f"{DEVICE_SYSTEM}|{device_key(result.assessment)}"},
            ),
            imaging_study=self._client.create_once(
                imaging_study(result), {"identifier": f"{DICOM_UID_SYSTEM}|{study}"}
            ),
        )
