"""A detector by cross-fitting: several networks, none of which has seen a part of the patients.

Each network learns from all patients but those of its fold, and perhaps but the normal pictures of
one source. Figures, the operating point and what is familiar come from pictures that the network
that answers has not seen; what ships is all networks together (bagging: Breiman, Machine Learning
24:123, 1996). So every patient is learned from, and no figure is of pictures that were.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bonetumor.cohort.record import Cohort, PatientRecord, Split
from bonetumor.detection.train import DetectorTraining
from bonetumor.detection.yolo import YoloDetector
from bonetumor.domain.errors import InvalidInput
from bonetumor.evaluation.detection import ScoredImage, operating_point
from bonetumor.evaluation.folds import HeldImage, summarise_folds
from bonetumor.weights.bundle import Bundle, open_bundle
from bonetumor.worker import training
from bonetumor.worker.cohorts import load_images
from bonetumor.worker.finishing import BundleText, draft_of, fusion_of

Say = Callable[[str], None]
_SHOWN_AFTER = 40  # held-out patients that training shows its last figures on; none is chosen by
_PER_NORMAL, _PER_UNSEEN_NORMAL = 0.1, 0.2
_LEAST_SCORE = 0.01
_ADULT_YEARS = 18
_NOTE = (
    "measured fold by fold on pictures that the answering network had not seen; the bundle answers "
    "by all networks together"
)


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


def folds_of(count: int, unseen: Sequence[str], cohort: Cohort) -> tuple[Fold, ...]:
    """As many folds as `count`; the first leave out a source of `unseen` each.

    Raises:
        InvalidInput: fewer than two folds, more sources than folds, or a source without normals.
    """
    if count < 2 or len(unseen) > count:
        raise InvalidInput(
            f"folds: expected at least two, and one for each source whose normal pictures are left "
            f"out, got {count} for {len(unseen)}"
        )
    known = sorted({r.centre for r in cohort.patients if r.is_normal and r.centre})
    for source in unseen:
        if source not in known:
            raise InvalidInput(
                f"folds: expected a centre with normal pictures, of {known}, got {source}"
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
    held = [_of(r, "validation") for r in _pool(cohort) if fold.holds(r)][:_SHOWN_AFTER]
    learned = _learned(cohort, fold)
    view = Cohort(cohort.folder, (*learned.patients, *held), ())
    without = f", no normal one of {fold.unseen}" if fold.unseen else ""
    say(f"{fold.name}: {len(learned.patients)} patients to learn from{without}")
    seeded = dataclasses.replace(plan, seed=plan.seed + fold.number)
    return training.fit_detector(view, seeded, work / fold.name, start, say)


def look_at_held(
    cohort: Cohort, fold: Fold, bundle: Bundle, problems: list[str]
) -> list[HeldImage]:
    """What the network of a fold, alone in `bundle`, says of each picture that it has not seen."""
    detector = YoloDetector(bundle, device="cpu", least_score=_LEAST_SCORE)
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


def choose_threshold(held: Sequence[HeldImage]) -> float:
    """The operating point: at most a tenth of a false box in a normal picture of the sources that
    the networks know, and at most a fifth in those of each source left out."""
    points = [operating_point([h.image for h in held if not h.unseen], _PER_NORMAL)]
    for source in sorted({h.labels.get("centre", "") for h in held if h.unseen}):
        own = [h.image for h in held if h.unseen and h.labels.get("centre", "") == source]
        points.append(operating_point(own, _PER_UNSEEN_NORMAL))
    return max(points)


def convert_folds(
    out: Path,
    cohort: Cohort,
    trained: Sequence[tuple[Fold, Path]],
    base: Bundle,
    text: BundleText,
    say: Say,
) -> list[HeldImage]:
    """A bundle of the networks of all folds together, and beside it, with the fold's name after
    its own, one of each alone. Thresholds and figures come from what each said of what it had not
    seen, which is answered. `base` lends what is no detector."""
    problems: list[str] = []
    held: list[HeldImage] = []
    for fold, checkpoint in trained:
        alone = out.with_name(f"{out.name}-{fold.name}")
        learned = _learned(cohort, fold)
        draft_of(alone, learned, [checkpoint], fusion_of(base), text, problems).save({})
        say(f"{fold.name}: looking at what it has not seen")
        held += look_at_held(cohort, fold, open_bundle(alone), problems)
    checkpoints = [checkpoint for _, checkpoint in trained]
    first, points = trained[0][0], _points_of_others(held)
    draft = draft_of(out, _learned(cohort, first), checkpoints, fusion_of(base), text, problems)
    draft.detector["score_threshold"] = choose_threshold(held)
    draft.set_familiar([h.measures for h in held if h.fold == first.number and not h.unseen])
    figures = summarise_folds(held, points)
    draft.save({"note": _NOTE, "detection": figures, "fusion": draft.fusion.metrics})
    training.report(problems, say)
    say(f"bundle {text.version} written to {out}: mAP@0.5 {figures['map50']['value']:.3f}")
    return held


def _points_of_others(held: Sequence[HeldImage]) -> dict[int, float]:
    """For each fold the operating point that the other folds would choose."""
    folds = sorted({h.fold for h in held})
    return {fold: choose_threshold([h for h in held if h.fold != fold]) for fold in folds}


def _learned(cohort: Cohort, fold: Fold) -> Cohort:
    """What the network of a fold has seen, all of it as train split."""
    seen = tuple(_of(r, "train") for r in _pool(cohort) if not fold.holds(r))
    return Cohort(cohort.folder, seen, ())


def _pool(cohort: Cohort) -> list[PatientRecord]:
    """Train and validation: the test split is told once, at the end."""
    return [r for r in cohort.patients if r.part != "test"]


def _of(record: PatientRecord, part: Split) -> PatientRecord:
    return record.model_copy(update={"split": part})


def _labels(record: PatientRecord) -> dict[str, str]:
    named = {
        "centre": record.centre,
        "class": record.tumour_class,
        "type": record.tumour_type,
        "site": record.site,
        "age": None
        if record.age_years is None
        else ("child" if record.age_years < _ADULT_YEARS else "adult"),
    }
    return {k: str(v) for k, v in named.items() if v is not None}
