"""Whether a cohort serves for what it is meant: what training would refuse later, said now."""

from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from itertools import count
from typing import get_args

from rich.table import Table

from bonetumor.cohort.record import Cohort, PatientRecord, Split
from bonetumor.detection.train import need_pictures
from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.fusion.calibration import conformal_rank, need_classes
from bonetumor.fusion.train import FusionTraining
from bonetumor.worker.cohorts import load_images, load_slides, need_normals, need_patients
from bonetumor.worker.thinking import build_slides


class Aim(StrEnum):
    """What a cohort is for: `train bundle`, a part of it, or one of the commands that follow."""

    BUNDLE = "bundle"
    DETECTOR = "detector"
    FUSION = "fusion"
    TUNE = "tune"
    CALIBRATE = "calibrate"
    EVALUATE = "evaluate"


def usable(cohort: Cohort, records: Iterable[PatientRecord], problems: list[str]) -> Cohort:
    """The cohort with nothing but the images and slides that can be read; what is wrong with the
    others is reported. `records`: its patients, perhaps with a bar that shows how far it is."""
    reader = build_slides(FusionTraining().tile_px)
    kept = []
    for record in records:
        images = tuple(described for described, _ in load_images(cohort, record, problems))
        slides = tuple(
            name
            for name in record.slides
            if load_slides(cohort, record.model_copy(update={"slides": (name,)}), reader, problems)
        )
        kept.append(record.model_copy(update={"images": images, "slides": slides}))
    return Cohort(cohort.folder, tuple(kept), cohort.problems)


def refusals(cohort: Cohort, aim: Aim) -> list[str]:
    """Why a usable cohort does not serve the aim, by the checks that the commands make.

    They are made before any network has looked: whoever has an image may be calibrated with,
    though the detector may find nothing on it.
    """
    found = []
    for check in _CHECKS[aim]:
        try:
            check(cohort)
        except InvalidInput as error:
            found.append(str(error))
    return found


def _need_training_pictures(cohort: Cohort) -> None:
    need_pictures("train", sum(len(r.images) for r in cohort.of("train")))


def _need_validation_pictures(cohort: Cohort) -> None:
    need_pictures("val", sum(len(r.images) for r in cohort.of("validation")))


def _need_classes_to_learn(cohort: Cohort) -> None:
    need_classes(
        [
            _place(r.tumour_class)
            for r in cohort.of("train")
            if r.tumour_class and (r.slides or any(i.boxes for i in r.images))
        ],
        "train on",
    )


def _need_classes_to_calibrate(cohort: Cohort) -> None:
    need_classes([_place(c) for c in _to_calibrate(cohort)], "calibrate with")


def _need_enough_to_calibrate(cohort: Cohort) -> None:
    """With fewer training goes on, but the class is in every prediction set."""
    rate = FusionTraining().miss_rate
    needed = next(n for n in count(1) if conformal_rank(n, rate) <= n)
    counts = Counter(_to_calibrate(cohort))
    few = [f"{counts[c]} {c}" for c in TumourClass if 0 < counts[c] < needed]
    if few:
        raise InvalidInput(
            f"cohort: expected at least {needed} patients of a class in the validation split, "
            f"without whom it is in every prediction set and the model abstains, "
            f"got {', '.join(few)}"
        )


def _need_tested(cohort: Cohort) -> None:
    need_patients(cohort, "test")


def _to_calibrate(cohort: Cohort) -> list[TumourClass]:
    return [
        r.tumour_class
        for r in cohort.of("validation")
        if r.tumour_class and (r.images or r.slides or r.labs)
    ]


def _place(tumour_class: TumourClass) -> int:
    return list(TumourClass).index(tumour_class)


_DETECTOR = (_need_training_pictures, _need_validation_pictures)
_CALIBRATION = (_need_classes_to_calibrate, _need_enough_to_calibrate)
_FUSION = (_need_classes_to_learn, *_CALIBRATION)
_CHECKS: dict[Aim, tuple[Callable[[Cohort], None], ...]] = {
    Aim.BUNDLE: (*_DETECTOR, need_normals, *_FUSION),
    Aim.DETECTOR: _DETECTOR,
    Aim.FUSION: _FUSION,
    Aim.TUNE: (need_normals,),
    Aim.CALIBRATE: _CALIBRATION,
    Aim.EVALUATE: (_need_tested,),
}


def count_patients(cohort: Cohort) -> Table:
    """Patients by source, class and split. A source is a centre, or the synthetic ones of it."""
    parts: tuple[Split, ...] = get_args(Split)
    counts = Counter((_source(r), _kind(r), r.part) for r in cohort.patients)
    table = Table("source", "class", *parts, "all")
    for source, kind in sorted({(s, k) for s, k, _ in counts}):
        own = [counts[source, kind, part] for part in parts]
        table.add_row(source, kind, *map(str, own), str(sum(own)))
    return table


def _source(record: PatientRecord) -> str:
    centre = record.centre or "no centre"
    return f"{centre} (synthetic)" if record.is_synthetic else centre


def _kind(record: PatientRecord) -> str:
    if record.tumour_class:
        return str(record.tumour_class)
    if not record.is_normal:
        return "tumour, no class"
    return "normal" if record.images else "no class, no image"
