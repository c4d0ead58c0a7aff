"""A detector by cross-fitting: several networks, none of which has seen a part of the patients.

Each network learns from all patients but those of its fold, and perhaps but the normal pictures of
one source. Figures, the operating point and what is familiar come from pictures that the network
that answers has not seen; what ships is all networks together (bagging: Breiman, Machine Learning
24:123, 1996). So every patient is learned from, and no figure is of pictures that were.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonetumor.cohort.record import Cohort, PatientRecord
from bonetumor.detection.train import DetectorTraining
from bonetumor.detection.yolo import YoloDetector
from bonetumor.domain.errors import InvalidInput
from bonetumor.evaluation.detection import ScoredImage, operating_point
from bonetumor.evaluation.folds import HeldImage, summarise_folds
from bonetumor.weights.bundle import Bundle, open_bundle
from bonetumor.worker import training
from bonetumor.worker.cohorts import load_images

Say = Callable[[str], None]
_SHOWN_AFTER = 40  # held-out patients that training shows its last figures on; none is chosen by


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One part of the patients, `number` of `count`, and the source whose normal pictures the
    network of this fold does not learn from."""

    number: int
    count: int
    unseen: str | None = None

    @property
    def name(self) -> str:
        """Of the folder of its training."""
        return f"fold{self.number}"

    def holds(self, record: PatientRecord) -> bool:
        """Whether the network of this fold has not seen a patient of the cohort."""
        return self._is_apart(record) or self._is_unseen(record)

    def _is_apart(self, record: PatientRecord) -> bool:
        key = f"fold:{record.group or record.patient}"
        return int(hashlib.sha256(key.encode()).hexdigest(), 16) % self.count == self.number

    def _is_unseen(self, record: PatientRecord) -> bool:
        return record.is_normal and record.centre is not None and record.centre == self.unseen


def folds_of(count: int, unseen: Sequence[str]) -> tuple[Fold, ...]:
    """As many folds as `count`; the first leave out a source of `unseen` each.

    Raises:
        InvalidInput: fewer than two folds, or more sources than folds.
    """
    if count < 2 or len(unseen) > count:
        raise InvalidInput(
            f"folds: expected at least two, and one for each source whose normal pictures are left "
            f"out, got {count} for {len(unseen)}"
        )
    sources = [*unseen, *[None] * (count - len(unseen))]
    return tuple(Fold(number=n, count=count, unseen=s) for n, s in enumerate(sources))


def fit_fold(
    cohort: Cohort,
    fold: Fold,
    plan: DetectorTraining,
    work: Path,
    start: training.Start | None,
    say: Say,
) -> Path:
    """Trains the network of a fold on the train and validation splits without what it holds;
    answers its checkpoint in `work`."""
    pool = _pool(cohort)
    learned = [_of(r, "train") for r in pool if not fold.holds(r)]
    held = [_of(r, "validation") for r in pool if fold.holds(r)][:_SHOWN_AFTER]
    view = Cohort(cohort.folder, (*learned, *held), ())
    say(f"{fold.name}: {len(learned)} patients to learn from, without {fold.unseen or 'no source'}")
    seeded = dataclasses.replace(plan, seed=plan.seed + fold.number)
    return training.fit_detector(view, seeded, work / fold.name, start, say)


def look_at_held(
    cohort: Cohort, fold: Fold, bundle: Bundle, problems: list[str]
) -> list[HeldImage]:
    """What the network of a fold, alone in `bundle`, says of each picture that it has not seen."""
    detector = YoloDetector(bundle, device="cpu", least_score=0.01)
    answers = []
    for record in _pool(cohort):
        if not fold.holds(record):
            continue
        for described, image in load_images(cohort, record, problems):
            findings = detector.detect(image)
            answers.append(
                HeldImage(
                    fold=fold.number,
                    unseen=record.is_normal and record.centre == fold.unseen,
                    group=record.group or record.patient,
                    labels=_labels(record),
                    measures=detector.measure(image),
                    image=ScoredImage(
                        patient=described.file,
                        truth=described.boxes,
                        found=tuple((d.box.as_tuple(), d.score) for d in findings.detections),
                        longest_px=max(image.pixels.shape),
                    ),
                )
            )
    return answers


def choose_threshold(
    held: Iterable[HeldImage], per_normal: float, per_unseen_normal: float
) -> float:
    """The operating point: at most `per_normal` false boxes in a normal picture of all sources that
    the networks know, and at most `per_unseen_normal` in those of each source left out in turn."""
    rows = list(held)
    known = [h.image for h in rows if not h.unseen]
    points = [operating_point(known, per_normal)]
    for source in sorted({h.labels.get("centre", "") for h in rows if h.unseen}):
        own = [h.image for h in rows if h.unseen and h.labels.get("centre", "") == source]
        points.append(operating_point(own, per_unseen_normal))
    return max(points)


def write_figures(held: Sequence[HeldImage], threshold: float, path: Path) -> dict[str, Any]:
    """The figures of all folds together, beside the answers that they are made of."""
    figures = summarise_folds(held, threshold)
    path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def read_bundles(folders: Iterable[Path]) -> list[Bundle]:
    """The bundles of single folds."""
    return [open_bundle(folder) for folder in folders]


def _pool(cohort: Cohort) -> list[PatientRecord]:
    """Train and validation: the test split is told once, at the end."""
    return [r for r in cohort.patients if r.part != "test"]


def _of(record: PatientRecord, part: str) -> PatientRecord:
    return record.model_copy(update={"split": part})


def _labels(record: PatientRecord) -> dict[str, str]:
    named = {
        "centre": record.centre,
        "class": record.tumour_class,
        "type": record.tumour_type,
        "site": record.site,
        "age": None
        if record.age_years is None
        else ("child" if record.age_years < 18 else "adult"),
    }
    return {k: str(v) for k, v in named.items() if v is not None}
