"""Cohorts made, checked and loaded: what training and evaluation read."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pydicom.uid import JPEGLSLossless

from bonetumor.cohort.record import (
    Cohort,
    ImageRecord,
    LabRecord,
    PatientRecord,
    Split,
    write_cohort,
)
from bonetumor.domain.errors import BoneTumorError, InvalidInput
from bonetumor.domain.image import ClinicalImage
from bonetumor.domain.labs import LabPanel, LabResult
from bonetumor.domain.pathology import PathologySlide, SlideTiles
from bonetumor.phantom.dicom import image_to_dicom, to_dicom
from bonetumor.phantom.fhir import to_fhir
from bonetumor.phantom.normals import Normals, find_normals
from bonetumor.phantom.patient import PhantomPatient, draw_normal, draw_patient
from bonetumor.service.ports import SlideReader
from bonetumor.worker.loose import read_images

_TWO_VIEWS = 0.35
_NO_SLIDES = 0.2
_NO_BLOOD = 0.15
_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortPlan:
    """A synthetic cohort: patients with tumours, and as many normals as `normals` says.

    `validation_share`: how many of both are for validation, the others being for training; without
    it they fall into three splits like those of any cohort.
    """

    patients: int
    normals: int
    seed: int
    longest_px: int = 960
    real_normals: Path | None = None
    validation_share: float | None = None


def make_cohort(plan: CohortPlan, folder: Path) -> Iterator[int]:
    """Draws the cohort into `folder`; yields how many patients are done.

    Images are DICOM (JPEG-LS lossless), slides PNG, and the EHR's side of each patient a FHIR
    bundle, so that the same cohort can be sent through the product.
    """
    if min(plan.patients, plan.normals) < 0 or plan.patients + plan.normals < 1:
        raise InvalidInput(
            "cohort: expected at least one patient or normal, "
            f"got {plan.patients} and {plan.normals}"
        )
    for name in ("images", "slides", "fhir"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    real = find_normals(plan.real_normals) if plan.real_normals else None
    records: list[PatientRecord] = []
    # One thread a process: the processes are as many as the cores.
    with ProcessPoolExecutor(os.cpu_count(), initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        for work, count in ((_one_patient, plan.patients), (_one_normal, plan.normals)):
            drawn = pool.map(partial(work, plan, real, folder), range(count), chunksize=8)
            for number, record in enumerate(drawn):
                split = _split(plan.validation_share, number)
                records.append(record.model_copy(update={"split": split}))
                yield len(records)
    write_cohort(folder, records)


def load_images(
    cohort: Cohort, record: PatientRecord, problems: list[str]
) -> Iterator[tuple[ImageRecord, ClinicalImage]]:
    """The patient's images; what cannot be read, or has a box outside, is reported and left out."""
    for image in record.images:
        try:
            frames = list(read_images(cohort.folder / image.file))
        except BoneTumorError as error:
            problems.append(f"{record.patient}: {image.file}: {error}")
            continue
        number = (image.frame or 1) - 1
        if number >= len(frames):
            problems.append(
                f"{record.patient}: {image.file}: expected frame {number + 1}, got {len(frames)}"
            )
            continue
        found = frames[number]
        rows, columns = found.pixels.shape
        outside = [b for b in image.boxes if b[2] > columns + 1 or b[3] > rows + 1]
        if outside:
            problems.append(
                f"{record.patient}: {image.file}: expected boxes inside {columns} x {rows}, "
                f"got {outside[0]}"
            )
            continue
        yield image, found


def load_slides(
    cohort: Cohort, record: PatientRecord, reader: SlideReader, problems: list[str]
) -> tuple[SlideTiles, ...]:
    """Tiles of the patient's slides."""
    tiles = []
    for name in record.slides:
        path = cohort.folder / name
        try:
            kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
            slide = PathologySlide(source=name, content_type=kind, data=path.read_bytes())
            tiles.append(reader.tiles(slide))
        except (BoneTumorError, OSError) as error:
            problems.append(f"{record.patient}: {name}: {error}")
    return tuple(tiles)


def panel_of(record: PatientRecord) -> LabPanel | None:
    """The patient's blood as the FHIR adapter would read it; None where there is none."""
    if not record.labs:
        return None
    return LabPanel(
        results=tuple(
            LabResult(**lab.model_dump(), taken_at=None, source="cohort") for lab in record.labs
        )
    )


def _split(validation_share: float | None, number: int) -> Split | None:
    """Validation is spread evenly over the numbers."""
    if validation_share is None:
        return None
    before, after = (int(n * validation_share) for n in (number, number + 1))
    return "validation" if after > before else "train"


def _one_patient(
    plan: CohortPlan, real: Normals | None, folder: Path, number: int
) -> PatientRecord:
    chance = np.random.default_rng([plan.seed, number, 9])
    views = 2 if chance.random() < _TWO_VIEWS else 1
    patient = draw_patient(plan.seed, number, longest_px=plan.longest_px, views=views, normals=real)
    name = f"p{number:06d}"
    images = []
    for view, radiograph in enumerate(patient.radiographs):
        dataset = to_dicom(patient, view)
        dataset.compress(JPEGLSLossless, generate_instance_uid=False)
        file = f"images/{name}-{view + 1}.dcm"
        dataset.save_as(folder / file, enforce_file_format=True)
        images.append(ImageRecord(file=file, boxes=radiograph.boxes))
    patient = replace(
        patient,
        slides=patient.slides if chance.random() >= _NO_SLIDES else (),
        blood=patient.blood if chance.random() >= _NO_BLOOD else (),
    )
    (folder / "fhir" / f"{name}.json").write_text(json.dumps(to_fhir(patient)))
    return PatientRecord(
        patient=name,
        centre="phantom",
        tumour_class=patient.tumour_class,
        tumour_type=patient.tumour_type,
        age_years=patient.age_years,
        sex="M" if patient.sex == "M" else "F",
        site=patient.radiograph.site,
        images=tuple(images),
        slides=_write_slides(patient, folder, name),
        labs=tuple(
            LabRecord(analyte=m.analyte, value=m.value, unit=m.unit, low=m.low, high=m.high)
            for m in patient.blood
        ),
        fhir=f"fhir/{name}.json",
    )


def _one_normal(plan: CohortPlan, real: Normals | None, folder: Path, number: int) -> PatientRecord:
    radiograph = draw_normal(plan.seed, number, longest_px=plan.longest_px, normals=real)
    dataset = image_to_dicom(radiograph, f"{plan.seed}-normal-{number}")
    dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    name = f"n{number:06d}"
    file = f"images/{name}.dcm"
    dataset.save_as(folder / file, enforce_file_format=True)
    return PatientRecord(
        patient=name, centre="phantom", site=radiograph.site, images=(ImageRecord(file=file),)
    )


def _write_slides(patient: PhantomPatient, folder: Path, name: str) -> tuple[str, ...]:
    files = []
    for number, slide in enumerate(patient.slides, start=1):
        file = f"slides/{name}-{number}.png"
        Image.fromarray(slide).save(folder / file, compress_level=1)
        files.append(file)
    return tuple(files)
