"""What the demo sends: a synthetic patient, or the user's own files and FHIR bundle."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bonetumor.dicom.reader import read_file, read_header
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.study import StudyHeader
from bonetumor.domain.uid import UID
from bonetumor.phantom.dicom import to_dicom
from bonetumor.phantom.fhir import to_fhir
from bonetumor.phantom.patient import draw_patient

_SEED = 2026
_PATIENT_SYSTEM = "https://bonetumor.example/demo/patient-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoInput:
    """The files to send, what they say of their studies, and what the EHR holds."""

    files: dict[Path, UID]
    headers: dict[UID, StudyHeader]
    bundle: dict[str, Any] | None
    systems: dict[str, str]


def synthetic_study(number: int, work: Path) -> DemoInput:
    """The study of a synthetic patient, written into `work`, and what the EHR knows of them."""
    patient = draw_patient(_SEED, number)
    dataset = to_dicom(patient)
    path = work / "sent.dcm"
    dataset.save_as(path, enforce_file_format=True)
    header = read_header(dataset)
    bundle = to_fhir(patient)
    return DemoInput(
        files={path: header.study_instance_uid},
        headers={header.study_instance_uid: header},
        bundle=bundle,
        systems=_systems([header], bundle),
    )


def own_study(study: Path, fhir: Path | None, say: Console) -> DemoInput:
    """Every DICOM file in the folder `study`, and the EHR of the Bundle in `fhir`.

    Without a Bundle the EHR knows the patients of the images and nothing else; there is none if
    an image does not say who its patient is.

    Raises:
        InvalidInput: no folder, no DICOM file in it, or no Bundle.
    """
    if not study.is_dir():
        raise InvalidInput(f"--study: expected a folder, got {study}")
    files: dict[Path, UID] = {}
    headers: dict[UID, StudyHeader] = {}
    for path in sorted(p for p in study.rglob("*") if p.is_file()):
        try:
            header = read_header(read_file(path, pixels=False))
        except (InvalidInput, AttributeError) as error:
            say.print(f"  not sent: {path.name}: {error}", highlight=False, markup=False)
            continue
        files[path] = header.study_instance_uid
        headers.setdefault(header.study_instance_uid, header)
    if not files:
        raise InvalidInput(f"--study: expected DICOM files in {study}, got none")
    bundle: dict[str, Any] | None
    if fhir is not None:
        bundle = _read_bundle(fhir)
    else:
        named = [h for h in headers.values() if h.patient.patient_id]
        bundle = _bare_record(named) if len(named) == len(headers) else None
        if bundle is None:
            say.print("  Some images hold no PatientID: the demo runs without an EHR.")
    return DemoInput(
        files=files,
        headers=headers,
        bundle=bundle,
        systems=_systems(list(headers.values()), bundle),
    )


def _read_bundle(path: Path) -> dict[str, Any]:
    try:
        bundle = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"--fhir: expected a FHIR Bundle in {path}, got {type(error).__name__}"
        ) from error
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise InvalidInput(f"--fhir: expected a FHIR Bundle in {path}, got another resource")
    return bundle


def _bare_record(headers: Sequence[StudyHeader]) -> dict[str, Any]:
    """An EHR that knows the patients of the images and nothing else."""
    sexes = {"M": "male", "F": "female", "O": "other"}
    entries: dict[str, dict[str, Any]] = {}
    for number, header in enumerate(headers, start=1):
        identity = header.patient
        resource: dict[str, Any] = {
            "resourceType": "Patient",
            "id": f"demo-{number}",
            "identifier": [{"system": _PATIENT_SYSTEM, "value": identity.patient_id}],
        }
        if identity.birth_date:
            resource["birthDate"] = identity.birth_date
        if identity.sex in sexes:
            resource["gender"] = sexes[identity.sex]
        entries.setdefault(identity.patient_id, {"resource": resource})
    return {"resourceType": "Bundle", "type": "collection", "entry": list(entries.values())}


def _systems(headers: Sequence[StudyHeader], bundle: dict[str, Any] | None) -> dict[str, str]:
    """Which identifier system of the EHR stands behind each issuer of the images."""
    systems = {}
    patients = [
        e["resource"]
        for e in (bundle or {}).get("entry") or []
        if e.get("resource", {}).get("resourceType") == "Patient"
    ]
    for header in headers:
        for patient in patients:
            for identifier in patient.get("identifier") or []:
                if identifier.get("value") == header.patient.patient_id:
                    systems[header.patient.issuer or ""] = str(identifier.get("system", ""))
    return systems
