"""Pathology reports and slide pictures that the EHR refers to."""

import base64
import binascii
from collections.abc import Iterator

from bonetumor.domain.errors import MalformedResource, Rejected
from bonetumor.domain.pathology import Pathology, PathologySlide
from bonetumor.fhir.client import FhirClient, Resource

_CATEGORIES = {"LP7839-6", "PAT", "SP", "CP"}
_CODES = {"11526-1", "60568-3", "22634-0", "60567-5"}
_VOID = {"entered-in-error", "cancelled"}
_MAX_SLIDES = 16
_MAX_BYTES = 20 * 1024 * 1024


def read_pathology(client: FhirClient, patient: str) -> Pathology | None:
    """What DiagnosticReport, Media and DocumentReference hold; None if there is nothing."""
    slides: dict[str, PathologySlide] = {}
    reports: list[str] = []
    problems: list[str] = []
    for source, attachment in _attachments(client, patient, reports, problems):
        if not str(attachment.get("contentType", "")).startswith("image/"):
            continue
        if len(slides) >= _MAX_SLIDES:
            problems.append(f"{source}: expected at most {_MAX_SLIDES} slide pictures, got more")
            break
        try:
            data = _data(client, attachment)
        except (MalformedResource, Rejected) as error:
            problems.append(f"{source}: {error}")
            continue
        slides[source] = PathologySlide(
            source=source, content_type=str(attachment["contentType"]), data=data
        )
    if not slides and not reports and not problems:
        return None
    return Pathology(
        slides=tuple(slides[s] for s in sorted(slides)),
        reports=tuple(reports),
        not_understood=tuple(problems),
    )


def _attachments(
    client: FhirClient, patient: str, reports: list[str], problems: list[str]
) -> Iterator[tuple[str, Resource]]:
    """Every attachment with a name; adds each report's reference to `reports`."""
    for report in _search(client, "DiagnosticReport", patient, problems):
        if _is_pathology(report) and report.get("status") not in _VOID:
            reports.append(f"DiagnosticReport/{report['id']}")
            yield from _of_report(client, report)
    for document in _search(client, "DocumentReference", patient, problems):
        if _is_pathology(document) and document.get("status") == "current":
            for number, content in enumerate(document.get("content") or []):
                name = f"DocumentReference/{document['id']}#content[{number}]"
                yield name, content.get("attachment") or {}


def _search(client: FhirClient, kind: str, patient: str, problems: list[str]) -> Iterator[Resource]:
    """The patient's resources of a kind; a server that refuses the question is named."""
    try:
        yield from client.search(kind, {"patient": patient.split("/")[1]})
    except Rejected as error:
        problems.append(f"{kind}: {error}")


def _of_report(client: FhirClient, report: Resource) -> Iterator[tuple[str, Resource]]:
    for number, form in enumerate(report.get("presentedForm") or []):
        yield f"DiagnosticReport/{report['id']}#presentedForm[{number}]", form
    for media in report.get("media") or []:
        reference = str(media.get("link", {}).get("reference", ""))
        if reference.startswith("Media/"):
            yield reference, client.read(reference).get("content") or {}


def _is_pathology(resource: Resource) -> bool:
    concepts = [
        *(resource.get("category") or []),
        resource.get("code") or {},
        resource.get("type") or {},
    ]
    codes = {c.get("code") for concept in concepts for c in concept.get("coding") or []}
    return bool(codes & (_CATEGORIES | _CODES))


def _data(client: FhirClient, attachment: Resource) -> bytes:
    if attachment.get("data"):
        try:
            data = base64.b64decode(str(attachment["data"]), validate=True)
        except binascii.Error as error:
            raise MalformedResource("attachment: expected base64, got something else") from error
        if len(data) > _MAX_BYTES:
            raise MalformedResource(
                f"attachment: expected at most {_MAX_BYTES} bytes, got {len(data)}"
            )
        return data
    if attachment.get("url"):
        return client.download(str(attachment["url"]), max_bytes=_MAX_BYTES)
    raise MalformedResource("attachment: expected data or url, got neither")
