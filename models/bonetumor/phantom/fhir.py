"""Phantom patients as FHIR R4: the patient, blood, and pathology with slide pictures."""

import base64
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bonetumor.domain.labs import Analyte
from bonetumor.phantom.blood import BloodMarker
from bonetumor.phantom.dicom import acquired_at, birth_date, patient_id
from bonetumor.phantom.patient import PhantomPatient

SYSTEM = "https://bonetumor.example/phantom/patient-id"
_LOINC = {
    Analyte.ALP: ("6768-6", "Alkaline phosphatase"),
    Analyte.LDH: ("2532-0", "Lactate dehydrogenase"),
    Analyte.CRP: ("1988-5", "C reactive protein"),
    Analyte.ESR: ("4537-7", "Erythrocyte sedimentation rate"),
    Analyte.CALCIUM: ("17861-6", "Calcium"),
    Analyte.PHOSPHATE: ("2777-1", "Phosphate"),
    Analyte.HEMOGLOBIN: ("718-7", "Hemoglobin"),
    Analyte.WBC: ("6690-2", "Leukocytes"),
    Analyte.PLATELETS: ("777-3", "Platelets"),
}
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


def to_fhir(patient: PhantomPatient) -> dict[str, Any]:
    """A collection Bundle of everything the EHR would hold of the patient."""
    key = f"phantom-{patient.seed}-{patient.number}"
    resources = [
        _patient(patient, key),
        *(_observation(patient, key, marker) for marker in patient.blood),
        *(_media(key, number, slide) for number, slide in enumerate(patient.slides, start=1)),
        _pathology(patient, key),
    ]
    entries = [
        {"fullUrl": f"urn:x:{r['resourceType']}/{r['id']}", "resource": r} for r in resources
    ]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def _patient(patient: PhantomPatient, key: str) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": key,
        "active": True,
        "identifier": [{"system": SYSTEM, "value": patient_id(patient)}],
        "name": [{"family": "Phantom", "given": [f"Number{patient.number}"]}],
        "gender": {"M": "male", "F": "female"}[patient.sex],
        "birthDate": birth_date(patient),
    }


def _observation(patient: PhantomPatient, key: str, marker: BloodMarker) -> dict[str, Any]:
    code, display = _LOINC[marker.analyte]
    unit = {"unit": marker.unit, "system": "http://unitsofmeasure.org", "code": marker.unit}
    return {
        "resourceType": "Observation",
        "id": f"{key}-{marker.analyte}",
        "status": "final",
        "category": [{"coding": [{"system": _CATEGORY, "code": "laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": display}]},
        "subject": {"reference": f"Patient/{key}"},
        "effectiveDateTime": acquired_at(patient).isoformat(),
        "valueQuantity": {"value": marker.value, **unit},
        "referenceRange": [
            {"low": {"value": marker.low, **unit}, "high": {"value": marker.high, **unit}}
        ],
    }


def _media(key: str, number: int, slide: NDArray[np.uint8]) -> dict[str, Any]:
    buffer = BytesIO()
    Image.fromarray(slide).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return {
        "resourceType": "Media",
        "id": f"{key}-slide-{number}",
        "status": "completed",
        "subject": {"reference": f"Patient/{key}"},
        "content": {"contentType": "image/png", "data": data, "title": f"Slide {number}"},
    }


def _pathology(patient: PhantomPatient, key: str) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "id": f"{key}-pathology",
        "status": "final",
        "category": [
            {"coding": [{"system": "http://loinc.org", "code": "LP7839-6", "display": "Pathology"}]}
        ],
        "code": {
            "coding": [
                {"system": "http://loinc.org", "code": "11526-1", "display": "Pathology study"}
            ]
        },
        "subject": {"reference": f"Patient/{key}"},
        "effectiveDateTime": acquired_at(patient).isoformat(),
        "media": [
            {"link": {"reference": f"Media/{key}-slide-{n}"}}
            for n in range(1, len(patient.slides) + 1)
        ],
    }
