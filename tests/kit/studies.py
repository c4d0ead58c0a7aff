"""Synthetic studies for the tests."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from bonetumor.dicom.presentation import present
from bonetumor.domain.image import BoundingBox, ClinicalImage
from bonetumor.domain.labs import LabPanel, LabResult
from bonetumor.domain.uid import derived_uid
from bonetumor.phantom.blood import BloodMarker
from bonetumor.phantom.dicom import image_to_dicom, to_dicom
from bonetumor.phantom.fhir import to_fhir
from bonetumor.phantom.patient import PhantomPatient, draw_patient
from bonetumor.phantom.radiograph import Radiograph

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


def write_many(folder: Path, key: str, count: int) -> tuple[list[Path], list[str]]:
    """So many studies of one image each, under UIDs of their own: files and study UIDs."""
    folder.mkdir(parents=True, exist_ok=True)
    image = dataset(90, 320)
    paths, uids = [], []
    for number in range(count):
        image.StudyInstanceUID = derived_uid("many", key, str(number))
        image.SeriesInstanceUID = derived_uid("many", key, str(number), "series")
        image.SOPInstanceUID = derived_uid("many", key, str(number), "image")
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        paths.append(folder / f"{key}-{number}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
        uids.append(str(image.StudyInstanceUID))
    return paths, uids


def record(number: int) -> dict:
    return to_fhir(patient(number))


def render(radiograph: Radiograph) -> ClinicalImage:
    """A phantom radiograph through the pixel pipeline that serving uses."""
    return next(iter(present(image_to_dicom(radiograph, "test"))))


def box_of(radiograph: Radiograph) -> BoundingBox:
    x0, y0, x1, y1 = radiograph.boxes[0]
    return BoundingBox(x0=x0, y0=y0, x1=x1, y1=y1)


def panel_of(drawn: PhantomPatient) -> LabPanel:
    """The patient's blood as the FHIR adapter would read it."""
    return panel_from(drawn.blood)


def panel_from(blood: Iterable[BloodMarker]) -> LabPanel:
    """Blood markers as the FHIR adapter would read them."""
    return LabPanel(
        results=tuple(
            LabResult(
                analyte=m.analyte,
                value=m.value,
                unit=m.unit,
                low=m.low,
                high=m.high,
                taken_at=None,
                source="phantom",
            )
            for m in blood
        )
    )
