"""The FHIR resources of a result: the graph that stands behind one DiagnosticReport."""

import base64
from typing import Any

from bonetumor.domain.lesion import key_lesions
from bonetumor.fhir.codes import (
    AI_LABEL,
    DEVICE_SYSTEM,
    IMAGING_STUDY_REPORT,
    RADIOLOGY,
    RUN_SYSTEM,
    accession_identifier,
    behaviour,
    built,
    device_key,
    run_identifier,
    uid_identifier,
)
from bonetumor.fhir.graph import CLASS, PICTURE, PROVENANCE, REPORT, Anchors, Places
from bonetumor.fhir.observations import box_observation, box_role, class_observation
from bonetumor.fhir.shapes import Resource
from bonetumor.picture.illustration import Illustration
from bonetumor.service.ports import Result
from bonetumor.service.wording import conclusion

_REPLACES = "http://hl7.org/fhir/StructureDefinition/diagnosticReport-replaces"
_CONTRIBUTOR = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_ACTIVITY = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"


def organization(name: str) -> Resource:
    """The organisation that is responsible for the report."""
    return built("Organization", identifier=[{"system": DEVICE_SYSTEM, "value": name}], name=name)


def device(result: Result, owner: str) -> Resource:
    """The algorithm as a Device: a new one for each version of software and weights."""
    algorithm = result.assessment.algorithm
    return built(
        "Device",
        identifier=[{"system": DEVICE_SYSTEM, "value": device_key(result.assessment)}],
        status="active",
        deviceName=[{"name": algorithm.name, "type": "model-name"}],
        version=[
            {"type": {"text": "software"}, "value": algorithm.version},
            {"type": {"text": "weights"}, "value": algorithm.bundle_version},
            {"type": {"text": "weights SHA-256"}, "value": algorithm.bundle_sha256},
        ],
        type={"text": "Artificial intelligence software for bone tumours"},
        owner={"reference": owner},
        note=[{"text": f"Trained on: {algorithm.training_data}"}],
    )


def imaging_study(result: Result) -> Resource:
    """The study, for EHRs that do not hold it yet."""
    content: dict[str, Any] = {
        "identifier": [uid_identifier(result.study.study_instance_uid)],
        "status": "available",
        "subject": {"reference": result.evidence.patient},
        "modality": [
            {
                "system": "http://dicom.nema.org/resources/ontology/DCM",
                "code": result.header.modality,
            }
        ],
        "numberOfSeries": len({i.keys.series_instance_uid for i in result.study.instances}),
        "numberOfInstances": len(result.study.instances),
    }
    if result.header.acquired_at:
        content["started"] = result.header.acquired_at.isoformat()
    return built("ImagingStudy", **content)


def roles(result: Result) -> list[str]:
    """What a server may hold of a run, besides the report and its provenance."""
    return [
        *(box_role(lesion) for lesion in key_lesions(result.assessment.lesions)),
        CLASS,
        PICTURE,
    ]


def graph(
    result: Result,
    anchors: Anchors,
    illustration: Illustration,
    places: Places | None = None,
    earlier: Resource | None = None,
) -> list[tuple[str, Resource]]:
    """Every resource of the result by role, each after those that it refers to.

    `places` says what lies on the server already; `earlier` is the DiagnosticReport of the result
    before. Where `places` holds it too, it is amended in place; else the new one names it.
    """
    places = places or Places(result.assessment.run_key)
    made = [
        (box_role(lesion), box_observation(result, anchors, lesion))
        for lesion in key_lesions(result.assessment.lesions)
    ]
    made.append((CLASS, class_observation(result, anchors, places)))
    if illustration.png is not None:
        made.append((PICTURE, _media(result, anchors, illustration.png)))
    made.append((REPORT, _report(result, anchors, illustration, places, earlier)))
    for role, resource in made:
        if earlier is not None and role in places.held and role != PICTURE:
            resource["status"] = "amended"
    return [*made, (PROVENANCE, provenance(result, anchors, places, earlier))]


def _media(result: Result, anchors: Anchors, png: bytes) -> Resource:
    return built(
        "Media",
        meta={"security": [AI_LABEL]},
        identifier=[run_identifier(result.assessment.run_key, PICTURE)],
        status="completed",
        subject={"reference": result.evidence.patient},
        device={"reference": anchors.device},
        content={
            "contentType": "image/png",
            "data": base64.b64encode(png).decode("ascii"),
            "title": "AI result: image with boxes, not for primary diagnosis",
        },
    )


def _report(
    result: Result,
    anchors: Anchors,
    illustration: Illustration,
    places: Places,
    earlier: Resource | None,
) -> Resource:
    assessment, diagnosis = result.assessment, result.assessment.diagnosis
    observations = [*(box_role(lesion) for lesion in key_lesions(assessment.lesions)), CLASS]
    content: dict[str, Any] = {
        "meta": {"security": [AI_LABEL]},
        "identifier": report_identifiers(result),
        "status": "preliminary",
        "category": [RADIOLOGY],
        "code": IMAGING_STUDY_REPORT,
        "subject": {"reference": result.evidence.patient},
        "issued": assessment.assessed_at.isoformat(),
        "performer": [{"reference": anchors.organization}],
        "imagingStudy": [{"reference": anchors.imaging_study}],
        "result": [{"reference": places[role]} for role in reversed(observations)],
        "conclusion": conclusion(result),
        "presentedForm": [pdf_attachment(illustration.pdf)],
    }
    if illustration.png is not None:
        content["media"] = [{"link": {"reference": places[PICTURE]}}]
    if earlier is not None and REPORT not in places.held:
        replaced = {"reference": f"DiagnosticReport/{earlier['id']}"}
        content["extension"] = [{"url": _REPLACES, "valueReference": replaced}]
        content["status"] = "amended"
    if result.header.acquired_at:
        content["effectiveDateTime"] = result.header.acquired_at.isoformat()
    if result.evidence.order:
        content["basedOn"] = [{"reference": result.evidence.order}]
    if diagnosis.most_likely is not None and not diagnosis.abstained:
        content["conclusionCode"] = [behaviour(diagnosis.most_likely)]
    return built("DiagnosticReport", **content)


def report_identifiers(result: Result) -> list[dict[str, Any]]:
    """What a report is found by: run, SR, accession number."""
    found: list[dict[str, Any]] = [
        run_identifier(result.assessment.run_key),
        uid_identifier(result.assessment.sr_sop_instance_uid),
    ]
    if result.header.accession_number:
        found.append(accession_identifier(result.header.accession_number))
    return found


def pdf_attachment(pdf: bytes) -> dict[str, Any]:
    """The report as a page that people read."""
    return {
        "contentType": "application/pdf",
        "language": "en",
        "data": base64.b64encode(pdf).decode("ascii"),
        "title": "AI result, preliminary, not for primary diagnosis",
    }


def provenance(
    result: Result, anchors: Anchors, places: Places, earlier: Resource | None
) -> Resource:
    """Who made the report from what, and which report it revises. Its tag names the run."""
    sources = [anchors.imaging_study]
    if result.evidence.labs:
        sources += result.evidence.labs.considered or sorted(
            {lab.source for lab in result.evidence.labs.results}
        )
    if result.evidence.pathology:
        sources += list(result.evidence.pathology.reports)
    entities = [{"role": "source", "what": {"reference": r}} for r in dict.fromkeys(sources)]
    if earlier is not None:
        entities.append({"role": "revision", "what": {"reference": _version_of(earlier)}})
    targets = [
        REPORT,
        CLASS,
        *(box_role(lesion) for lesion in key_lesions(result.assessment.lesions)),
    ]
    activity = "CREATE" if earlier is None else "UPDATE"
    return built(
        "Provenance",
        meta={"tag": [{"system": RUN_SYSTEM, "code": result.assessment.run_key}]},
        target=[{"reference": places[role]} for role in targets],
        recorded=result.assessment.assessed_at.isoformat(),
        activity={"coding": [{"system": _ACTIVITY, "code": activity}]},
        agent=[
            {
                "type": {"coding": [{"system": _CONTRIBUTOR, "code": "assembler"}]},
                "who": {"reference": anchors.device},
                "onBehalfOf": {"reference": anchors.organization},
            }
        ],
        entity=entities,
    )


def _version_of(resource: Resource) -> str:
    reference = f"{resource['resourceType']}/{resource['id']}"
    version = (resource.get("meta") or {}).get("versionId")
    return f"{reference}/_history/{version}" if version else reference
