"""Synthetic studies for the tests."""

from functools import cache
from pathlib import Path

from bonetumor.domain.uid import derived_uid
from bonetumor.phantom.dicom import to_dicom
from bonetumor.phantom.fhir import to_fhir
from bonetumor.phantom.patient import PhantomPatient, draw_patient

SEED = 2026


@cache
def patient(number: int, longest_px: int = 640) -> PhantomPatient:
    return draw_patient(SEED, number, longest_px=longest_px)


def dataset(number: int, longest_px: int = 640):
    return to_dicom(patient(number, longest_px))


def write(folder: Path, number: int, *, longest_px: int = 640, images: int = 1) -> list[Path]:
    """The study of a phantom patient as files; more images are copies under other UIDs."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(images):
        image = dataset(number, longest_px)
        if index:
            image.SOPInstanceUID = derived_uid("test", str(number), str(index))
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            image.InstanceNumber = str(index + 1)
        path = folder / f"{number}-{index}.dcm"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def record(number: int) -> dict:
    return to_fhir(patient(number))
