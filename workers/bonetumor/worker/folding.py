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
from bonetumor.fusion.calibration import answer_all
from bonetumor.fusion.evidence import Labelled, Preparation
from bonetumor.fusion.train import FusionTraining, Learnt, Trained, learn_fusion
from bonetumor.weights.bundle import Bundle, open_bundle
from bonetumor.worker import training
from bonetumor.worker.cohorts import load_images
from bonetumor.worker.finishing import BundleText, draft_of, draft_together, fusion_of, join

Say = Callable[[str], None]
_SHOWN_AFTER = 40  # held-out patients that training shows its last figures on; none is chosen by
_PARTS: tuple[Split, Split] = ("train", "validation")
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
        return self.is_apart(record) or self._is_unseen(record)

    def is_apart(self, record: PatientRecord) -> bool:
        """Whether a patient is of this part; every patient is of one."""
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
    held = [r for r in _pool(cohort) if fold.holds(r)][:_SHOWN_AFTER]
    learned, shown = _learned(cohort, fold), _view(cohort, held, "validation")
    view = Cohort(cohort.folder, (*learned.patients, *shown.patients), ())
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
    drafts = {}
    for fold, checkpoint in trained:
        alone = bundle_of(out, fold)
        learned = _learned(cohort, fold)
        drafts[fold] = draft_of(alone, learned, checkpoint, fusion_of(base), text, problems)
        drafts[fold].save({})
        say(f"{fold.name}: looking at what it has not seen")
        held += look_at_held(cohort, fold, open_bundle(alone), problems)
    points = _points_of_others(held)
    together = draft_together(out, list(drafts.values()))
    together.detector["score_threshold"] = choose_threshold(held)
    together.detector["folds"] = len(drafts)
    together.set_familiar(_familiar(held, trained[0][0]))
    for fold, each in drafts.items():
        each.detector["score_threshold"] = points[fold.number]
        each.detector["fold"] = dataclasses.asdict(fold)
        each.set_familiar(_familiar(held, fold))
        each.save({"note": _NOTE})
    figures = summarise_folds(held, points)
    together.save({"note": _NOTE, "detection": figures, "fusion": together.fusion.metrics})
    training.report(problems, say)
    say(f"bundle {text.version} written to {out}: mAP@0.5 {figures['map50']['value']:.3f}")
    return held


def bundle_of(out: Path, fold: Fold) -> Path:
    """Where the bundle of one network alone lies: beside that of all."""
    return out.with_name(f"{out.name}-{fold.name}")


def bundles_of(out: Path, count: int) -> list[tuple[Fold, Path]]:
    """The bundles of single networks beside that of all, with the fold of each; none for 0.

    Raises:
        InvalidInput: a bundle says that it is of another fold.
    """
    found = []
    for number in range(count):
        fold = Fold(number=number, count=count)
        path = bundle_of(out, fold)
        stated = open_bundle(path).manifest.detector.get("fold") or {}
        if (stated.get("number"), stated.get("count")) != (number, count):
            raise InvalidInput(f"folds: expected fold {number} of {count} in {path}, got {stated}")
        found.append((dataclasses.replace(fold, unseen=stated.get("unseen")), path))
    return found


def _familiar(held: Sequence[HeldImage], fold: Fold) -> list[tuple[float, float]]:
    """The measures of what a network has not seen, from sources that it knows."""
    return [h.measures for h in held if h.fold == fold.number and not h.unseen]


def _points_of_others(held: Sequence[HeldImage]) -> dict[int, float]:
    """For each fold the operating point that the other folds would choose."""
    folds = sorted({h.fold for h in held})
    return {fold: choose_threshold([h for h in held if h.fold != fold]) for fold in folds}


def fit_fusion_folds(
    cohort: Cohort,
    folds: Sequence[Fold],
    found: Path,
    plan: FusionTraining,
    work: Path,
    say: Say,
    *,
    parts: training.TrainedParts = training.NO_PARTS,
) -> Trained:
    """The fusion network for a detector of folds, left in `work` as `training.fit_fusion` does.

    Each patient's lesion is where the network finds it that has not seen the patient. One fusion
    network for each fold learns from the others and answers for it; the one that is given learns
    from all, and is calibrated on those answers (cross-conformal: Vovk, Ann Math Artif Intell 74,
    2015). The bundles of single folds beside `found` get theirs, calibrated on the answers for the
    other folds, so that `evaluate` can ask each patient's own.
    """
    work.mkdir(parents=True, exist_ok=True)
    setup = training.set_up_fusion(cohort, plan, open_bundle(found), parts, say)
    learned, apart = _cases(cohort, folds, found, setup.preparation, say)
    nets, answers = {}, {}
    for fold in folds:
        others = [case for n, cases in learned.items() if n != fold.number for case in cases]
        nets[fold] = _learn(setup, others, fold.name, work, say)
        answers[fold.number] = answer_all(nets[fold].network, apart[fold.number])
    for fold, net in nets.items():
        known = [a for n, own in answers.items() if n != fold.number for a in own]
        alone = open_bundle(bundle_of(found, fold))
        join(
            alone.folder, net.calibrated(known), alone, BundleText.of(alone, alone.manifest.version)
        )
    everyone = [case for cases in learned.values() for case in cases]
    every_answer = [answer for own in answers.values() for answer in own]
    trained = _learn(setup, everyone, "all", work, say).calibrated(every_answer)
    training.keep_fusion(trained, parts, work)
    return trained


def _cases(
    cohort: Cohort, folds: Sequence[Fold], found: Path, preparation: Preparation, say: Say
) -> tuple[dict[int, list[Labelled]], dict[int, list[Labelled]]]:
    """By fold, its patients as they are learned from, and as they would be served."""
    learned: dict[int, list[Labelled]] = {}
    apart: dict[int, list[Labelled]] = {}
    problems: list[str] = []
    for fold in folds:
        say(f"{fold.name}: the detector looks at its patients")
        detector = open_bundle(bundle_of(found, fold))
        own = [r for r in _pool(cohort) if fold.is_apart(r)]
        to_learn, to_calibrate = (
            training.Cases(_view(cohort, own, part), preparation, detector) for part in _PARTS
        )
        learned[fold.number] = list(to_learn.to_learn())
        apart[fold.number] = list(to_calibrate.to_calibrate())
        problems += [*to_learn.problems, *to_calibrate.problems]
    training.report(problems, say)
    return learned, apart


def _learn(
    setup: training.FusionSetup, cases: Sequence[Labelled], name: str, work: Path, say: Say
) -> Learnt:
    say(f"fusion, {name}: {len(cases)} cases to learn from")
    return learn_fusion(
        setup.plan,
        cases,
        setup.vocabulary,
        say,
        checkpoint=work / f"fusion-{name}.checkpoint",
        pretrained=setup.pretrained,
    )


def _learned(cohort: Cohort, fold: Fold) -> Cohort:
    """What the network of a fold has seen, all of it as train split."""
    return _view(cohort, [r for r in _pool(cohort) if not fold.holds(r)], "train")


def _pool(cohort: Cohort) -> list[PatientRecord]:
    """Train and validation: the test split is told once, at the end."""
    return [r for r in cohort.patients if r.part != "test"]


def _view(cohort: Cohort, records: Sequence[PatientRecord], part: Split) -> Cohort:
    """Some of a cohort's patients, all of them of one split."""
    moved = tuple(record.model_copy(update={"split": part}) for record in records)
    return Cohort(cohort.folder, moved, ())


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
