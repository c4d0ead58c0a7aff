"""Systems, codes and identifiers of what we write, and resources built through R4B's models.

R4B agrees with R4 for the elements used here, so that what leaves is at least well formed. What
the AI wrote carries the security label AIAST.
"""

from typing import Any

from fhir.resources.R4B import get_fhir_model_class

from bonetumor.domain.assessment import Assessment, TumourClass
from bonetumor.domain.uid import derived_uuid
from bonetumor.fhir.analytes import LOINC
from bonetumor.fhir.shapes import Resource, objects

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
AI_LABEL = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
RADIOLOGY = {
    "coding": [
        {"system": LOINC, "code": "LP29684-5", "display": "Radiology"},
        {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"},
    ]
}
IMAGING_STUDY_REPORT = {
    "coding": [{"system": LOINC, "code": "18748-4", "display": "Diagnostic imaging study"}]
}


def uid_identifier(uid: str) -> dict[str, str]:
    """A DICOM UID as a FHIR identifier (R4 ImagingStudy, section 5.4.6.1)."""
    return {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{uid}"}


def run_identifier(run_key: str, role: str = "") -> dict[str, str]:
    """What a resource of a run is found by; the report itself has no role."""
    return {"system": RUN_SYSTEM, "value": f"{run_key}/{role}" if role else run_key}


def role_of(resource: Resource, run_key: str) -> str | None:
    """The role that a resource of ours has in a run; None if it is not of the run."""
    for identifier in objects(resource.get("identifier")):
        value = str(identifier.get("value", ""))
        if identifier.get("system") == RUN_SYSTEM and value.startswith(f"{run_key}/"):
            return value.removeprefix(f"{run_key}/")
    return None


def is_of_run(report: Resource, run_key: str) -> bool:
    """Whether a report or document belongs to the run."""
    return run_identifier(run_key) in [
        {"system": i.get("system"), "value": i.get("value")}
        for i in objects(report.get("identifier"))
    ]


def accession_identifier(accession_number: str) -> dict[str, Any]:
    """The accession number, by which EHRs find what belongs to an order."""
    system = "http://terminology.hl7.org/CodeSystem/v2-0203"
    return {"type": {"coding": [{"system": system, "code": "ACSN"}]}, "value": accession_number}


def device_key(assessment: Assessment) -> str:
    """What identifies the device version."""
    algorithm = assessment.algorithm
    return f"{algorithm.name}/{algorithm.version}/{algorithm.bundle_sha256[:16]}"


def behaviour(tumour_class: TumourClass) -> dict[str, Any]:
    """The class as ICD-O-3 behaviour."""
    code, display = _BEHAVIOUR[tumour_class]
    return {
        "coding": [{"system": _ICD_O, "code": code, "display": display}],
        "text": str(tumour_class),
    }


def own_code(code: str, display: str) -> dict[str, Any]:
    """A concept for which no standard has a code."""
    return {"coding": [{"system": CODE_SYSTEM, "code": code, "display": display}], "text": display}


def unity(value: float) -> dict[str, Any]:
    """A number without dimension."""
    return {"value": round(value, 6), "system": "http://unitsofmeasure.org", "code": "1"}


def urn(run_key: str, role: str) -> str:
    """The name of a resource inside a transaction."""
    return f"urn:uuid:{derived_uuid(run_key, role)}"


def built(kind: str, **content: Any) -> Resource:
    """The resource as JSON, after the R4B model has read it."""
    model = get_fhir_model_class(kind).model_validate({"resourceType": kind, **content})
    resource: Resource = model.model_dump(mode="json", exclude_none=True)
    return resource
