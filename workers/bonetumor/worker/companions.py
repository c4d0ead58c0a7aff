"""Slides and blood drawn for real patients of whom only radiographs are known.

No public cohort has radiographs, slides and blood of the same patients. What is missing is drawn by
the phantom for the patient's own type, age and sex, and the record says that it was (`drawn`), so
that no figure takes it for real.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bonetumor.cohort.record import Cohort, LabRecord, PatientRecord, write_cohort
from bonetumor.cohort.sources import CohortSource, read_sources, unstated_cohort, write_sources
from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.phantom.blood import draw_blood
from bonetumor.phantom.slide import draw_slide
from bonetumor.phantom.tumour import TYPES, TumourType

_FOLDER = "drawn"
_PHANTOM = CohortSource(
    name="bonetumor phantom: slides and blood",
    kind="synthetic",
    credit="Drawn by bonetumor's phantom.",
    licence="Drawn by this program; nobody else's rights.",
    licence_confirmed=True,
    changes="none",
    files=(f"{_FOLDER}/*",),
)
_AGE_YEARS = 30  # of a patient whose age is not known
_NO_SLIDES = 0.2  # of patients, as in the phantom's cohorts
_NO_BLOOD = 0.15
# BTXRD's words for the phantom's types; its mixtures become the nearest or the widest type.
_NAMED = {
    "giant cell tumor": "giant cell tumour",
    "synovial osteochondroma": "synovial chondromatosis",
    "osteofibroma": "non-ossifying fibroma",
    "other bt": "fibrous dysplasia",
    "other mt": "other malignant tumour",
}
_BY_CLASS = {
    TumourClass.BENIGN: "fibrous dysplasia",
    TumourClass.INTERMEDIATE: "giant cell tumour",
    TumourClass.MALIGNANT: "other malignant tumour",
}


def accompany(cohort: Cohort, seed: int) -> int:
    """Draws slides and blood for the patients of a known class who have neither, but for as many as
    lack one in the phantom's cohorts: slides in `drawn/`, the rest in `cohort.jsonl`, and the
    phantom as one of the sources. Answers for how many.

    Raises:
        InvalidInput: there is no such patient.
    """
    alone = {r.patient for r in cohort.patients if r.tumour_class and not r.slides and not r.labs}
    if not alone:
        raise InvalidInput(
            "cohort: expected patients of a known class who have neither slides nor blood, got none"
        )
    (cohort.folder / _FOLDER).mkdir(exist_ok=True)
    records = [
        _accompanied(r, cohort.folder, seed) if r.patient in alone else r for r in cohort.patients
    ]
    write_cohort(cohort.folder, records)
    stated = read_sources(cohort.folder) or (unstated_cohort(cohort),)
    others = [source for source in stated if source.name != _PHANTOM.name]
    write_sources(cohort.folder, [*others, _PHANTOM])
    return len(alone)


def _accompanied(record: PatientRecord, folder: Path, seed: int) -> PatientRecord:
    """The same for the same patient and seed, whoever else is in the cohort."""
    name = int.from_bytes(hashlib.sha256(record.patient.encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, name])
    kind = _type_of(record)
    has_slides, has_blood = rng.random() >= _NO_SLIDES, rng.random() >= _NO_BLOOD
    slides = [
        _written(draw_slide(kind, rng), folder, f"{name:016x}-{number + 1}")
        for number in range(int(rng.integers(1, 3)) if has_slides else 0)
    ]
    age, sex = round(_AGE_YEARS if record.age_years is None else record.age_years), record.sex
    labs = [
        LabRecord(analyte=m.analyte, value=m.value, unit=m.unit, low=m.low, high=m.high)
        for m in (draw_blood(kind, age, sex or "F", rng) if has_blood else ())
    ]
    drawn = [what for what, there in (("pathology", slides), ("labs", labs)) if there]
    return record.model_copy(
        update={"slides": tuple(slides), "labs": tuple(labs), "drawn": tuple(drawn)}
    )


def _written(slide: NDArray[np.uint8], folder: Path, name: str) -> str:
    file = f"{_FOLDER}/{name}.png"
    Image.fromarray(slide).save(folder / file, compress_level=1)
    return file


def _type_of(record: PatientRecord) -> TumourType:
    """The phantom's type of a patient, by name, else by class."""
    by_name = {kind.name: kind for kind in TYPES}
    name = record.tumour_type or ""
    known = by_name.get(name) or by_name.get(_NAMED.get(name, ""))
    return known or by_name[_BY_CLASS[record.tumour_class or TumourClass.BENIGN]]
