"""Pathology that the EHR refers to: reports, slide pictures and whole slides.

Asked are DiagnosticReport (with its media, its imagingStudy and its presentedForm),
DocumentReference, and ImagingStudy of modality SM. The same attachment may appear twice: it is
used once.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from bonetumor.domain.errors import (
    CorruptPixelData,
    InvalidInput,
    MalformedResource,
    Rejected,
    UnsupportedImage,
)
from bonetumor.domain.pathology import Pathology, PathologySlide
from bonetumor.fhir.attachments import Attachments, Fetched, Kind
from bonetumor.fhir.client import FhirClient, reference_id
from bonetumor.fhir.shapes import Resource, member, objects, string
from bonetumor.service.ports import SlideAddress, WholeSlides

_CATEGORIES = {"LP7839-6", "PAT", "SP", "CP"}
_CODES = {"11526-1", "60568-3", "22634-0", "60567-5", "22637-3"}
_VOID = {"entered-in-error", "cancelled"}
_MAX_SLIDES = 16
_TOO_MANY = f"expected at most {_MAX_SLIDES} slides, got more"
_TEXTS = ("text/", "application/pdf", "application/xml", "application/hl7")
_UID = "urn:oid:"


@dataclass(slots=True)
class _Findings:
    """What has been found so far."""

    slides: dict[str, PathologySlide] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    studies: set[str] = field(default_factory=set)
    reports: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, slide: PathologySlide) -> None:
        """Takes a slide whose picture is not there yet."""
        digest = hashlib.sha256(slide.data).hexdigest()
        if digest not in self.digests:
            self.digests.add(digest)
            self.slides[slide.source] = slide

    @property
    def is_full(self) -> bool:
        """Whether no more slides are taken."""
        return len(self.slides) >= _MAX_SLIDES


class PathologyReader:
    """Reads pathology of one EHR. `dicomweb_url` is asked where no Endpoint says another."""

    def __init__(
        self,
        client: FhirClient,
        attachments: Attachments,
        whole_slides: WholeSlides,
        *,
        dicomweb_url: str = "",
    ) -> None:
        self._client = client
        self._attachments = attachments
        self._whole_slides = whole_slides
        self._dicomweb_url = dicomweb_url

    def read(self, patient: str) -> Pathology | None:
        """Everything there is; None if there is nothing."""
        found = _Findings()
        for source, attachment in self._attached(patient, found):
            if found.is_full:
                found.problems.append(f"{source}: {_TOO_MANY}")
                break
            self._take(source, attachment, found)
        for study in self._search("ImagingStudy", patient, found):
            self._take_study(study, found)
        if not found.slides and not found.reports and not found.problems:
            return None
        return Pathology(
            slides=tuple(found.slides[s] for s in sorted(found.slides)),
            reports=tuple(dict.fromkeys(found.reports)),
            not_understood=tuple(found.problems),
        )

    # -- attachments ---------------------------------------------------------------------------

    def _attached(self, patient: str, found: _Findings) -> Iterator[tuple[str, Resource]]:
        """Every attachment with a name; notes each report's reference."""
        for report in self._search("DiagnosticReport", patient, found):
            if _is_pathology(report) and string(report.get("status")) not in _VOID:
                found.reports.append(f"DiagnosticReport/{report['id']}")
                yield from self._of_report(report, found)
        for document in self._search("DocumentReference", patient, found):
            if _is_pathology(document) and document.get("status") == "current":
                found.reports.append(f"DocumentReference/{document['id']}")
                for number, content in enumerate(objects(document.get("content"))):
                    name = f"DocumentReference/{document['id']}#content[{number}]"
                    yield name, member(content.get("attachment"))

    def _of_report(self, report: Resource, found: _Findings) -> Iterator[tuple[str, Resource]]:
        for number, form in enumerate(objects(report.get("presentedForm"))):
            yield f"DiagnosticReport/{report['id']}#presentedForm[{number}]", form
        for media in objects(report.get("media")):
            reference = self._local(member(media.get("link")).get("reference"))
            if reference and reference.startswith("Media/"):
                resource = self._read(reference, found)
                if resource is not None:
                    yield reference, member(resource.get("content"))
        for study in objects(report.get("imagingStudy")):
            reference = self._local(study.get("reference"))
            resource = self._read(reference, found) if reference else None
            if resource is not None:
                self._take_study(resource, found)

    def _take(self, source: str, attachment: Resource, found: _Findings) -> None:
        if str(attachment.get("contentType", "")).startswith(_TEXTS):
            return  # the report itself, in words
        try:
            with self._attachments.fetch(attachment) as fetched:
                if fetched.kind is Kind.OTHER:
                    if str(attachment.get("contentType", "")).startswith("image/"):
                        raise MalformedResource(
                            "attachment: expected JPEG, PNG, TIFF or DICOM, got another format"
                        )
                    return
                found.add(self._slide(source, fetched))
        except (InvalidInput, Rejected) as error:
            found.problems.append(f"{source}: {error}")

    def _slide(self, source: str, fetched: Fetched) -> PathologySlide:
        if fetched.kind is Kind.PICTURE:
            data, content_type = fetched.path.read_bytes(), fetched.content_type
        else:
            data, content_type = self._whole_slides.sample_file(fetched.path), "image/png"
        return PathologySlide(source=source, content_type=content_type, data=data)

    # -- whole slides over DICOMweb ------------------------------------------------------------

    def _take_study(self, study: Resource, found: _Findings) -> None:
        source = f"ImagingStudy/{study.get('id')}"
        if source in found.studies or not _is_microscopy(study):
            return
        found.studies.add(source)
        try:
            uid, base = _study_uid(study), self._dicomweb(study, found)
            for series in objects(study.get("series")) or [{}]:
                if member(series.get("modality")).get("code", "SM") != "SM":
                    continue
                if found.is_full:
                    raise MalformedResource(_TOO_MANY)
                key = str(series.get("uid") or "")
                self._take_series(f"{source}#{key}", SlideAddress(base, uid, key), found)
        except InvalidInput as error:
            found.problems.append(f"{source}: {error}")

    def _take_series(self, source: str, address: SlideAddress, found: _Findings) -> None:
        try:
            data = self._whole_slides.sample_dicomweb(address)
        except (UnsupportedImage, CorruptPixelData) as error:
            found.problems.append(f"{source}: {error}")
            return
        found.add(PathologySlide(source=source, content_type="image/png", data=data))

    def _dicomweb(self, study: Resource, found: _Findings) -> str:
        """The service that has the study: its own Endpoint, or the configured one."""
        for endpoint in objects(study.get("endpoint")):
            reference = self._local(endpoint.get("reference"))
            resource = self._read(reference, found) if reference else None
            address = str((resource or {}).get("address") or "")
            if address and self._attachments.may_ask(address):
                return address
        if not self._dicomweb_url:
            raise MalformedResource(
                "whole slide: expected an Endpoint on a listed origin, or ehr.dicomweb_url, "
                "got neither"
            )
        return self._dicomweb_url

    # -- asking --------------------------------------------------------------------------------

    def _search(self, kind: str, patient: str, found: _Findings) -> Iterator[Resource]:
        """The patient's resources of a kind; a server that refuses the question is named."""
        if not self._client.capabilities().offers(kind, "search-type"):
            found.problems.append(f"{kind}: expected the EHR to offer searches, got none")
            return
        try:
            for resource in self._client.search(kind, {"patient": patient.split("/")[1]}):
                subject = member(resource.get("subject"))
                if self._local(subject.get("reference")) == patient:
                    yield resource
        except Rejected as error:
            found.problems.append(f"{kind}: {error}")

    def _read(self, reference: str, found: _Findings) -> Resource | None:
        try:
            return self._client.read(reference)
        except (MalformedResource, Rejected) as error:
            found.problems.append(f"{reference}: {error}")
            return None

    def _local(self, reference: object) -> str | None:
        return reference_id(str(reference or ""), self._client.base_url)


def _is_pathology(resource: Resource) -> bool:
    concepts = [
        *objects(resource.get("category")),
        *objects([resource.get("code")]),
        *objects([resource.get("type")]),
    ]
    codes = {string(c.get("code")) for concept in concepts for c in objects(concept.get("coding"))}
    return bool(codes & (_CATEGORIES | _CODES))


def _is_microscopy(study: Resource) -> bool:
    codes = {string(c.get("code")) for c in objects(study.get("modality"))}
    codes |= {string(member(s.get("modality")).get("code")) for s in objects(study.get("series"))}
    return "SM" in codes and string(study.get("status")) not in _VOID


def _study_uid(study: Resource) -> str:
    for identifier in objects(study.get("identifier")):
        value = str(identifier.get("value") or "")
        if identifier.get("system") == "urn:dicom:uid" and value.startswith(_UID):
            return value.removeprefix(_UID)
    raise MalformedResource("whole slide: expected a DICOM study UID, got none")
