"""Slides and blood drawn for real patients of whom only radiographs are known.

No public cohort has radiographs, slides and blood of the same patients. What is missing is drawn by
the phantom for the patient's own type, age and sex, and the record says that it was (`drawn`), so
that no figure takes it for real.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from bonetumor.cohort.record import Cohort, LabRecord, PatientRecord
from bonetumor.domain.assessment import TumourClass
from bonetumor.phantom.blood import draw_blood
from bonetumor.phantom.slide import draw_slide
from bonetumor.phantom.tumour import TYPES, TumourType

Say = Callable[[str], None]
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


def draw_companions(cohort: Cohort, seed: int) -> Iterator[PatientRecord]:
    """Every patient of the cohort; those of a known class who have neither slides nor blood with
    both, in `slides/` of the cohort's folder, but for as many as in the phantom lack one."""
    (cohort.folder / "slides").mkdir(exist_ok=True)
    for number, record in enumerate(cohort.patients):
        if record.tumour_class is None or record.slides or record.labs:
            yield record
        else:
            yield _accompanied(record, cohort.folder, np.random.default_rng([seed, number]))


def _accompanied(record: PatientRecord, folder: Path, rng: np.random.Generator) -> PatientRecord:
    kind = _type_of(record)
    has_slides, has_blood = rng.random() >= _NO_SLIDES, rng.random() >= _NO_BLOOD
    slides, labs = [], []
    for number in range(int(rng.integers(1, 3)) if has_slides else 0):
        file = f"slides/{record.patient}-{number + 1}.png"
        Image.fromarray(draw_slide(kind, rng)).save(folder / file, compress_level=1)
        slides.append(file)
    if has_blood:
        age, sex = round(record.age_years or _AGE_YEARS), record.sex or "F"
        labs = [
            LabRecord(analyte=m.analyte, value=m.value, unit=m.unit, low=m.low, high=m.high)
            for m in draw_blood(kind, age, sex, rng)
        ]
    drawn = [name for name, there in (("pathology", slides), ("labs", labs)) if there]
    return record.model_copy(
        update={"slides": tuple(slides), "labs": tuple(labs), "drawn": tuple(drawn)}
    )


def _type_of(record: PatientRecord) -> TumourType:
    """The phantom's type of a patient, by name, else by class."""
    by_name = {kind.name: kind for kind in TYPES}
    name = record.tumour_type or ""
    known = by_name.get(name) or by_name.get(_NAMED.get(name, ""))
    return known or by_name[_BY_CLASS[record.tumour_class or TumourClass.BENIGN]]
