"""A result as a DocumentReference with a PDF, for EHRs that take no DiagnosticReport."""

from typing import Any

from bonetumor.fhir.codes import AI_LABEL, IMAGING_STUDY_REPORT, RADIOLOGY, built, run_identifier
from bonetumor.fhir.report import pdf_attachment, report_identifiers
from bonetumor.fhir.shapes import Resource
from bonetumor.service.ports import Result
from bonetumor.service.wording import conclusion


def document_reference(
    result: Result, organization: str, pdf: bytes, earlier: Resource | None = None
) -> Resource:
    """The document; it names the one that it replaces."""
    run = run_identifier(result.assessment.run_key)
    content: dict[str, Any] = {
        "meta": {"security": [AI_LABEL]},
        "masterIdentifier": run,
        "identifier": report_identifiers(result),
        "status": "current",
        "docStatus": "preliminary" if earlier is None else "amended",
        "type": IMAGING_STUDY_REPORT,
        "category": [RADIOLOGY],
        "subject": {"reference": result.evidence.patient},
        "date": result.assessment.assessed_at.isoformat(),
        "author": [{"reference": organization}],
        "description": conclusion(result),
        "content": [{"attachment": pdf_attachment(pdf)}],
    }
    if result.header.acquired_at:
        content["context"] = {"period": {"start": result.header.acquired_at.isoformat()}}
    if earlier is not None:
        target = {"reference": f"DocumentReference/{earlier['id']}"}
        content["relatesTo"] = [{"code": "replaces", "target": target}]
    return built("DocumentReference", **content)
