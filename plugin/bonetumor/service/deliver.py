"""Delivering: results go out, and are only called delivered once the other side confirms."""

from bonetumor.domain.errors import ArchiveUnavailable, FhirUnavailable
from bonetumor.service.ports import Archive, ReportServer, Result


def confirm_archived(archive: Archive, result: Result) -> str:
    """Asks the archive for the SR; raises ArchiveUnavailable while it does not show it."""
    if not archive.holds(result):
        raise ArchiveUnavailable(
            f"archive: expected it to hold SR {result.assessment.sr_sop_instance_uid}, "
            "got an answer without it"
        )
    return f"the archive answers that it holds SR {result.assessment.sr_sop_instance_uid}"


def confirm_reported(server: ReportServer, result: Result) -> str:
    """Asks the FHIR server for the report; raises FhirUnavailable while it does not show it."""
    if not server.holds(result):
        raise FhirUnavailable(
            f"FHIR server: expected a DiagnosticReport of run {result.assessment.run_key[:16]}, "
            "got an answer without it"
        )
    return (
        f"the FHIR server answers that it holds the report of run {result.assessment.run_key[:16]}"
    )
