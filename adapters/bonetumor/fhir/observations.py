"""The Observations of a result: the class, and one per box."""

from typing import Any

from bonetumor.domain.lesion import Lesion, key_lesions
from bonetumor.fhir.codes import (
    AI_LABEL,
    behaviour,
    built,
    device_key,
    own_code,
    run_identifier,
    unity,
)
from bonetumor.fhir.graph import CLASS, Anchors, Places
from bonetumor.fhir.shapes import Resource
from bonetumor.service.ports import Result
from bonetumor.service.wording import notes

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
_NOT_PERFORMED = {
    "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
    "code": "not-performed",
}


def box_role(lesion: Lesion) -> str:
    """Tells the boxes of one lesion on several images apart."""
    image = lesion.detection.image
    frame = "" if image.frame_number is None else f"/{image.frame_number}"
    return f"{lesion.tracking_uid}/{image.sop_instance_uid}{frame}"


def class_observation(result: Result, anchors: Anchors, places: Places) -> Resource:
    """Benign, intermediate or malignant, with the evidence it was derived from."""
    diagnosis = result.assessment.diagnosis
    labs = result.evidence.labs.weighed if result.evidence.labs else ()
    boxes = [places[box_role(lesion)] for lesion in key_lesions(result.assessment.lesions)]
    sources = [anchors.imaging_study, *boxes, *sorted({lab.source for lab in labs})]
    content = _observation(
        result, anchors, "tumour-class", "Tumour class by artificial intelligence", CLASS
    )
    content["derivedFrom"] = [{"reference": r} for r in sources]
    content["method"] = {"text": device_key(result.assessment)}
    content["note"] = [{"text": note} for note in notes(result)]
    most_likely = diagnosis.most_likely
    if diagnosis.probabilities is None or most_likely is None:
        reason = diagnosis.reason or "nothing to classify"
        content["dataAbsentReason"] = {"coding": [_NOT_PERFORMED], "text": reason}
        return built("Observation", **content)
    content["component"] = [
        _number(f"probability-{name}", f"Probability of {name}", probability)
        for name, probability in diagnosis.probabilities.items()
    ]
    content["component"] += [
        _number(
            f"contribution-{modality}", f"Contribution of {modality} to the likeliest class", value
        )
        for modality, value in diagnosis.contributions.items()
    ]
    if diagnosis.abstained:
        content["dataAbsentReason"] = {"text": f"abstained: {diagnosis.reason}"}
    else:
        content["valueCodeableConcept"] = behaviour(most_likely)
    return built("Observation", **content)


def box_observation(result: Result, anchors: Anchors, lesion: Lesion) -> Resource:
    """One box; the SR stays authoritative for geometry."""
    detection = lesion.detection
    content = _observation(
        result,
        anchors,
        "tumour-location",
        f"{lesion.tracking_identifier}: location on the image",
        box_role(lesion),
    )
    content["derivedFrom"] = [{"reference": anchors.imaging_study}]
    if result.header.body_part:
        content["bodySite"] = {"text": result.header.body_part}
    box = ",".join(repr(v) for v in detection.box.as_tuple())
    content["component"] = [
        _text("tracking-uid", "Tracking Unique Identifier of the lesion", lesion.tracking_uid),
        _number("detection-score", "Detection score", detection.score),
        _text(
            "sop-instance-uid", "SOP Instance UID of the image", detection.image.sop_instance_uid
        ),
        _text("box", "Box x0,y0,x1,y1 in stored pixels, pixel-edge coordinates", box),
    ]
    if detection.image.frame_number is not None:
        frame = own_code("frame-number", "Frame number of the image")
        number = detection.image.frame_number
        content["component"].append({"code": frame, "valueInteger": number})
    return built("Observation", **content)


def _observation(
    result: Result, anchors: Anchors, code: str, display: str, role: str
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "meta": {"security": [AI_LABEL]},
        "identifier": [run_identifier(result.assessment.run_key, role)],
        "status": "preliminary",
        "category": _IMAGING,
        "code": own_code(code, display),
        "subject": {"reference": result.evidence.patient},
        "performer": [{"reference": anchors.organization}],
        "device": {"reference": anchors.device},
    }
    if result.header.acquired_at:
        content["effectiveDateTime"] = result.header.acquired_at.isoformat()
    return content


def _number(code: str, display: str, value: float) -> dict[str, Any]:
    return {"code": own_code(code, display), "valueQuantity": unity(value)}


def _text(code: str, display: str, value: str) -> dict[str, Any]:
    return {"code": own_code(code, display), "valueString": value}
