"""Synthetic cohorts drawn: patients and normals of the phantom, written as a cohort."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from threading import Thread

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
from bonetumor.cohort.sources import (
    SOURCES,
    CohortSource,
    MeasuredSources,
    measure_sources,
    write_sources,
)
from bonetumor.domain.errors import InvalidInput
from bonetumor.phantom.dicom import image_to_dicom, to_dicom
from bonetumor.phantom.fhir import to_fhir
from bonetumor.phantom.normals import Normals, find_normals
from bonetumor.phantom.patient import PhantomPatient, draw_normal, draw_patient

_TWO_VIEWS = 0.35
_NO_SLIDES = 0.2
_NO_BLOOD = 0.15
_NORMALS_CHANGED = "cropped, mirrored, exposed anew, in part with synthetic tumours painted in"


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortPlan:
    """A synthetic cohort: patients with tumours, and as many normals as `normals` says.

    `validation_share`: how many of both are for validation, the others being for training; without
    it they fall into three splits like those of any cohort. Without `slides` all else is the same.
    """

    patients: int
    normals: int
    seed: int
    longest_px: int = 960
    real_normals: Path | None = None
    validation_share: float | None = None
    slides: bool = True


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
    normals = sources_of_normals(plan.real_normals) if plan.real_normals else ()
    records: list[PatientRecord] = []
    # Begun anew, not forked: a fork has the locks of its parent's threads, but not the threads.
    with ProcessPoolExecutor(
        os.cpu_count(), mp_context=get_context("spawn"), initializer=_end_with_parent
    ) as pool:
        for work, count in ((_one_patient, plan.patients), (_one_normal, plan.normals)):
            drawn = pool.map(partial(work, plan, real, folder), range(count), chunksize=8)
            for number, record in enumerate(drawn):
                split = _split(plan.validation_share, number)
                records.append(record.model_copy(update={"split": split}))
                yield len(records)
    write_cohort(folder, records)
    write_sources(folder, (_phantom(plan), *normals))


def _phantom(plan: CohortPlan) -> CohortSource:
    return CohortSource(
        name=_centre(plan),
        kind="synthetic",
        credit="Drawn by bonetumor's phantom.",
        licence="Drawn by this program; nobody else's rights, but for real normals named apart.",
        licence_confirmed=True,
        changes="none",
    )


def sources_of_normals(folder: Path) -> tuple[CohortSource, ...]:
    """What the real normals of a folder come from, by `sources.json` there or in the folder above,
    with the hash of the pictures. A drawn cohort states them as in its pictures, not among them.

    Raises:
        InvalidInput: there is no picture, or one of no source.
    """
    return tuple(
        CohortSource(
            **source.model_dump(exclude={"changes", "counts"}),
            changes=f"{source.changes}; {_NORMALS_CHANGED}",
            counts={"pictures": source.counts["images"]},
            files=(),
        )
        for source in measure_normals(folder).sources
    )


def measure_normals(folder: Path) -> MeasuredSources:
    """The sources of a folder of real normals as they are, and how they differ from what is stated.

    Raises:
        InvalidInput: there is no picture, or one of no source.
    """
    above = not (folder / SOURCES).is_file() and (folder.parent / SOURCES).is_file()
    base = folder.parent if above else folder
    files = [path.relative_to(base).as_posix() for path in find_normals(folder).pictures]
    pictures = [PatientRecord(patient=f, images=(ImageRecord(file=f),)) for f in files]
    return measure_sources(Cohort(base, tuple(pictures), ()))


def _end_with_parent() -> None:
    """Without this, processes whose parent is killed would wait for its work for ever."""
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


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
    patient = draw_patient(
        plan.seed, number, longest_px=plan.longest_px, views=views, normals=real, slides=plan.slides
    )
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
        centre=_centre(plan),
        origin="synthetic",
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
        patient=name,
        centre=_centre(plan),
        origin="synthetic",
        site=radiograph.site,
        images=(ImageRecord(file=file),),
    )


def _centre(plan: CohortPlan) -> str:
    return f"phantom, seed {plan.seed}"


def _write_slides(patient: PhantomPatient, folder: Path, name: str) -> tuple[str, ...]:
    files = []
    for number, slide in enumerate(patient.slides, start=1):
        file = f"slides/{name}-{number}.png"
        Image.fromarray(slide).save(folder / file, compress_level=1)
        files.append(file)
    return tuple(files)
