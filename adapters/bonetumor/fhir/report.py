"""The FHIR resources of a result: the graph that stands behind one DiagnosticReport.

Every resource is built through fhir.resources' R4B models, which agree with R4 for the elements
used here, so that what leaves is at least well formed. What the AI wrote carries the security
label AIAST and a Provenance whose agent is the Device.
"""

from dataclasses import dataclass
from typing import Any

from fhir.resources.R4B import get_fhir_model_class

from bonetumor.domain.assessment import Assessment, TumourClass
from bonetumor.domain.lesion import Lesion
from bonetumor.domain.uid import derived_uuid
from bonetumor.fhir.client import Resource
from bonetumor.service.ports import Result

RUN_SYSTEM = "https://bonetumor.example/fhir/run"
CODE_SYSTEM = "https://bonetumor.example/fhir/CodeSystem/observation"
DEVICE_SYSTEM = "https://bonetumor.example/fhir/device"
DICOM_UID_SYSTEM = "urn:dicom:uid"

_ICD_O = "http://terminology.hl7.org/CodeSystem/icd-o-3"
_BEHAVIOUR = {
    TumourClass.BENIGN: ("8000/0", "Neoplasm, benign"),
    TumourClass.INTERMEDIATE: ("8000/1", "Neoplasm, uncertain whether benign or malignant"),
    TumourClass.MALIGNANT: ("8000/3", "Neoplasm, malignant"),
}
_AI_LABEL = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
_IMAGING = [
    {
        "coding": [
            {
                "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                "code": "imaging",
                "display": "Imaging",
            }
        ]
    }
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """Relative references of the resources that a report hangs on, once they exist."""

    organization: str
    device: str
    imaging_study: str


def uid_identifier(uid: str) -> dict[str, str]:
    """A DICOM UID as a FHIR identifier (R4 ImagingStudy, section 5.4.6.1)."""
    return {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{uid}"}


def organization(name: str) -> Resource:
    """The organisation that is responsible for the report."""
    return _built("Organization", identifier=[{"system": DEVICE_SYSTEM, "value": name}], name=name)


def device(result: Result, owner: str) -> Resource:
    """The algorithm as a Device: a new one for each version of software and weights."""
    algorithm = result.assessment.algorithm
    return _built(
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


def device_key(assessment: Assessment) -> str:
    """What identifies the device version."""
    algorithm = assessment.algorithm
    return f"{algorithm.name}/{algorithm.version}/{algorithm.bundle_sha256[:16]}"


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
    return _built("ImagingStudy", **content)


def report_bundle(result: Result, anchors: Anchors) -> Resource:
    """The transaction: class Observation, one Observation per box, DiagnosticReport, Provenance."""
    run = result.assessment.run_key
    boxes = [
        (_urn(run, "box", _box_key(lesion)), _box_observation(result, anchors, lesion))
        for lesion in result.assessment.lesions
    ]
    class_url, report_url = _urn(run, "class"), _urn(run, "report")
    box_urls = [url for url, _ in boxes]
    classed = _class_observation(result, anchors, box_urls)
    report = _diagnostic_report(result, anchors, [class_url, *box_urls])
    provenance = _provenance(result, anchors, [report_url, class_url, *box_urls])
    entries = [
        *boxes,
        (class_url, classed),
        (report_url, report),
        (_urn(run, "provenance"), provenance),
    ]
    return _built(
        "Bundle",
        type="transaction",
        entry=[
            {
                "fullUrl": url,
                "resource": resource,
                "request": {"method": "POST", "url": resource["resourceType"]},
            }
            for url, resource in entries
        ],
    )


def _class_observation(result: Result, anchors: Anchors, boxes: list[str]) -> Resource:
    diagnosis = result.assessment.diagnosis
    labs = result.evidence.labs.results if result.evidence.labs else ()
    sources = [anchors.imaging_study, *boxes, *sorted({lab.source for lab in labs})]
    content = _observation(
        result, anchors, "tumour-class", "Tumour class by artificial intelligence", "class"
    )
    content["derivedFrom"] = [{"reference": r} for r in sources]
    content["method"] = {"text": device_key(result.assessment)}
    content["note"] = [{"text": note} for note in _notes(result)]
    most_likely = diagnosis.most_likely
    if diagnosis.probabilities is None or most_likely is None:
        content["dataAbsentReason"] = {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
                    "code": "not-performed",
                }
            ],
            "text": diagnosis.reason or "nothing to classify",
        }
        return _built("Observation", **content)
    content["component"] = [
        {
            "code": _code(f"probability-{name}", f"Probability of {name}"),
            "valueQuantity": _unity(probability),
        }
        for name, probability in diagnosis.probabilities.items()
    ]
    content["component"] += [
        {
            "code": _code(
                f"contribution-{modality}", f"Contribution of {modality} to the likeliest class"
            ),
            "valueQuantity": _unity(value),
        }
        for modality, value in diagnosis.contributions.items()
    ]
    if diagnosis.abstained:
        content["dataAbsentReason"] = {"text": f"abstained: {diagnosis.reason}"}
    else:
        content["valueCodeableConcept"] = _behaviour(most_likely)
    return _built("Observation", **content)


def _box_key(lesion: Lesion) -> str:
    """Tells the boxes of one lesion on several images apart."""
    image = lesion.detection.image
    frame = "" if image.frame_number is None else f"/{image.frame_number}"
    return f"{lesion.tracking_uid}/{image.sop_instance_uid}{frame}"


def _box_observation(result: Result, anchors: Anchors, lesion: Lesion) -> Resource:
    detection = lesion.detection
    content = _observation(
        result,
        anchors,
        "tumour-location",
        f"{lesion.tracking_identifier}: location on the image",
        _box_key(lesion),
    )
    content["derivedFrom"] = [{"reference": anchors.imaging_study}]
    if result.header.body_part:
        content["bodySite"] = {"text": result.header.body_part}
    content["component"] = [
        {
            "code": _code("tracking-uid", "Tracking Unique Identifier of the lesion"),
            "valueString": lesion.tracking_uid,
        },
        {
            "code": _code("detection-score", "Detection score"),
            "valueQuantity": _unity(detection.score),
        },
        {
            "code": _code("sop-instance-uid", "SOP Instance UID of the image"),
            "valueString": detection.image.sop_instance_uid,
        },
        {
            "code": _code("box", "Box x0,y0,x1,y1 in stored pixels, pixel-edge coordinates"),
            "valueString": ",".join(repr(v) for v in detection.box.as_tuple()),
        },
    ]
    if detection.image.frame_number is not None:
        content["component"].append(
            {
                "code": _code("frame-number", "Frame number of the image"),
                "valueInteger": detection.image.frame_number,
            }
        )
    return _built("Observation", **content)


def _observation(
    result: Result, anchors: Anchors, code: str, display: str, role: str
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "meta": {"security": [_AI_LABEL]},
        "identifier": [{"system": RUN_SYSTEM, "value": f"{result.assessment.run_key}/{role}"}],
        "status": "preliminary",
        "category": _IMAGING,
        "code": _code(code, display),
        "subject": {"reference": result.evidence.patient},
        "performer": [{"reference": anchors.organization}],
        "device": {"reference": anchors.device},
    }
    if result.header.acquired_at:
        content["effectiveDateTime"] = result.header.acquired_at.isoformat()
    return content


def _diagnostic_report(result: Result, anchors: Anchors, observations: list[str]) -> Resource:
    identifiers: list[dict[str, Any]] = [
        {"system": RUN_SYSTEM, "value": result.assessment.run_key},
        uid_identifier(result.assessment.sr_sop_instance_uid),
    ]
    if result.header.accession_number:
        identifiers.append(
            {
                "type": {
                    "coding": [
                        {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}
                    ]
                },
                "value": result.header.accession_number,
            }
        )
    diagnosis = result.assessment.diagnosis
    content: dict[str, Any] = {
        "meta": {"security": [_AI_LABEL]},
        "identifier": identifiers,
        "status": "preliminary",
        "category": [
            {
                "coding": [
                    {"system": "http://loinc.org", "code": "LP29684-5", "display": "Radiology"},
                    {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"},
                ]
            }
        ],
        "code": {
            "coding": [
                {
                    "system": "http://loinc.org",
                    "code": "18748-4",
                    "display": "Diagnostic imaging study",
                }
            ]
        },
        "subject": {"reference": result.evidence.patient},
        "issued": result.assessment.assessed_at.isoformat(),
        "performer": [{"reference": anchors.organization}],
        "imagingStudy": [{"reference": anchors.imaging_study}],
        "result": [{"reference": url} for url in observations],
        "conclusion": conclusion(result),
    }
    if result.header.acquired_at:
        content["effectiveDateTime"] = result.header.acquired_at.isoformat()
    if result.evidence.order:
        content["basedOn"] = [{"reference": result.evidence.order}]
    if diagnosis.most_likely is not None and not diagnosis.abstained:
        content["conclusionCode"] = [_behaviour(diagnosis.most_likely)]
    return _built("DiagnosticReport", **content)


def _provenance(result: Result, anchors: Anchors, targets: list[str]) -> Resource:
    sources = [anchors.imaging_study]
    if result.evidence.labs:
        sources += sorted({lab.source for lab in result.evidence.labs.results})
    if result.evidence.pathology:
        sources += list(result.evidence.pathology.reports)
    return _built(
        "Provenance",
        target=[{"reference": url} for url in targets],
        recorded=result.assessment.assessed_at.isoformat(),
        agent=[
            {
                "type": {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                            "code": "assembler",
                        }
                    ]
                },
                "who": {"reference": anchors.device},
                "onBehalfOf": {"reference": anchors.organization},
            }
        ],
        entity=[{"role": "source", "what": {"reference": r}} for r in dict.fromkeys(sources)],
    )


def conclusion(result: Result) -> str:
    """The conclusion in words: what it is, what was found, what was used, what was missing."""
    return " ".join(
        ["PRELIMINARY AI OUTPUT, not for primary diagnosis.", _found(result), *_notes(result)]
    )


def _found(result: Result) -> str:
    lesions, diagnosis = result.assessment.lesions, result.assessment.diagnosis
    count = len({lesion.tracking_uid for lesion in lesions})
    seen = f"{count} suspected tumour(s) marked." if lesions else "No tumour localised."
    if diagnosis.probabilities is None:
        return f"{seen} Not classified: {diagnosis.reason}."
    said = ", ".join(f"P({c}) {p:.0%}" for c, p in diagnosis.probabilities.items())
    if diagnosis.abstained:
        return f"{seen} The model abstains: {diagnosis.reason} ({said})."
    return f"{seen} {said}."


def _notes(result: Result) -> list[str]:
    assessment, algorithm = result.assessment, result.assessment.algorithm
    used = ", ".join(assessment.diagnosis.used) or "none"
    missing = ", ".join(assessment.missing) or "none"
    notes = [
        f"Evidence used: {used}; missing: {missing}.",
        f"Study: {assessment.completeness}.",
        f"Model {algorithm.bundle_version}, trained on {algorithm.training_data}.",
    ]
    if assessment.diagnosis.out_of_distribution:
        notes.append("The images are unlike those the model was trained on.")
    return [*notes, *(f"{note}." for note in assessment.notes)]


def _behaviour(tumour_class: TumourClass) -> dict[str, Any]:
    code, display = _BEHAVIOUR[tumour_class]
    return {
        "coding": [{"system": _ICD_O, "code": code, "display": display}],
        "text": str(tumour_class),
    }


def _code(code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": CODE_SYSTEM, "code": code, "display": display}], "text": display}


def _unity(value: float) -> dict[str, Any]:
    return {"value": round(value, 6), "system": "http://unitsofmeasure.org", "code": "1"}


def _urn(*parts: str) -> str:
    return f"urn:uuid:{derived_uuid(*parts)}"


def _built(kind: str, **content: Any) -> Resource:
    """The resource as JSON, after the R4B model has read it."""
    model = get_fhir_model_class(kind).model_validate({"resourceType": kind, **content})
    built: Resource = model.model_dump(mode="json", exclude_none=True)
    return built
