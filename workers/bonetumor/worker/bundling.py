"""The whole of training in one go: cohorts, detector, operating point, fusion, bundle."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import dropwhile
from pathlib import Path

from bonetumor.cohort.record import FILE, Cohort
from bonetumor.detection.train import DetectorTraining, read_checkpoint
from bonetumor.domain.errors import InvalidInput
from bonetumor.fusion.train import FusionTraining
from bonetumor.weights.bundle import open_bundle, shipped_bundle
from bonetumor.worker import training
from bonetumor.worker.drawing import CohortPlan, make_cohort
from bonetumor.worker.finishing import BundleText, calibrate, convert, join, tune

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A cohort drawn anew, and how the detector goes on with it."""

    cohort: CohortPlan
    training: DetectorTraining


def _pictures(patients: int, normals: int, *, seed: int, validation_share: float) -> CohortPlan:
    """What a detector learns from."""
    return CohortPlan(
        patients=patients,
        normals=normals,
        seed=seed,
        validation_share=validation_share,
        slides=False,
    )


_GOING_ON = 0.0005  # the learning rate that trained weights bear
ROUNDS = (
    Round(cohort=_pictures(4300, 2100, seed=7, validation_share=0.05), training=DetectorTraining()),
    *(
        Round(
            cohort=_pictures(5000, 800, seed=seed, validation_share=0.05),
            training=DetectorTraining(
                epochs=5, learning_rate=_GOING_ON, augmentation=0.25, seed=seed
            ),
        )
        for seed in (808, 909, 1010, 1111, 1212)
    ),
    *(  # the last are of a network twice as wide, which begins as the narrow one
        Round(
            cohort=_pictures(5000, 800, seed=cohort, validation_share=0.07),
            training=DetectorTraining(
                architecture="yolov5s.yaml",
                epochs=epochs,
                learning_rate=0.0004,
                augmentation=0.25,
                seed=seed,
            ),
        )
        for cohort, epochs, seed in ((1414, 2, 1414), (1414, 3, 1415), (1515, 2, 1515))
    ),
)
_LEAST = 30
CASES = CohortPlan(patients=1900, normals=0, seed=404, validation_share=0.2)
APART = CohortPlan(patients=4000, normals=0, seed=707, validation_share=1.0)
NORMALS = CohortPlan(patients=0, normals=1200, seed=608, validation_share=1.0)
SYNTHETIC = BundleText(
    version="synthetic-unnamed",  # another than any shipped one: the networks are others
    training_data="synthetic patients only (bonetumor phantom)",
    limits="Has never seen a real tumour. Its scores say nothing about real patients.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundlePlan:
    """What to train on and where to put it.

    `start_from`: a bundle whose detector training goes on from. `scale` shrinks cohorts and epochs.
    """

    out: Path
    work: Path
    cohort: Path | None = None
    real_normals: Path | None = None
    start_from: Path | None = None
    version: str | None = None
    training_data: str | None = None
    scale: float = 1.0


def make_bundle(plan: BundlePlan, say: Say) -> None:
    """Trains everything and writes the bundle. What `work` already holds is not done again."""
    if plan.cohort is None:
        _from_seeds(plan, say)
    else:
        _from_cohort(plan, training.open_cohort(plan.cohort, say), say)


def _from_cohort(plan: BundlePlan, cohort: Cohort, say: Say) -> None:
    """One cohort for everything; its validation split sets the operating point."""
    text = _text(plan)
    start = training.detector_of(plan.start_from)
    training_plan = DetectorTraining()
    if start is not None:
        training_plan = replace(
            training_plan, architecture=start.architecture, learning_rate=_GOING_ON
        )
    checkpoint = training.fit_detector(
        cohort, _shorter(training_plan, plan.scale), plan.work / "detector", start, say
    )
    found = plan.work / "found"
    convert(found, cohort, checkpoint, open_bundle(shipped_bundle()), text, say)
    _join(plan, cohort, found, plan.out, say)


def _from_seeds(plan: BundlePlan, say: Say) -> None:
    """Cohort upon cohort, each of patients that the detector has not seen; other patients for the
    fusion network, others again to calibrate it, and other normals for the operating point."""
    text = _text(plan)
    start = training.detector_of(plan.start_from)
    for each in _rounds_from(start):
        cohort = _drawn(plan, each.cohort, say)
        work = plan.work / f"detector-{each.training.seed}"
        checkpoint = training.fit_detector(
            cohort, _shorter(each.training, plan.scale), work, start, say
        )
        start = training.Start(
            name=cohort.folder.name,
            architecture=each.training.architecture,
            weights=read_checkpoint(checkpoint),
        )
    untuned, found, joined = (plan.work / name for name in ("untuned", "found", "joined"))
    convert(untuned, cohort, checkpoint, open_bundle(shipped_bundle()), text, say)
    tune(found, _drawn(plan, NORMALS, say), open_bundle(untuned), text, say)
    _join(plan, _drawn(plan, CASES, say), found, joined, say)
    calibrate(plan.out, _drawn(plan, APART, say), open_bundle(joined), text, say)


def _rounds_from(start: training.Start | None) -> tuple[Round, ...]:
    """All of them for a beginning; else those after the first, from the start's architecture on."""
    if start is None:
        return ROUNDS
    rounds = tuple(
        dropwhile(lambda each: each.training.architecture != start.architecture, ROUNDS[1:])
    )
    if not rounds:
        known = sorted({each.training.architecture for each in ROUNDS[1:]})
        raise InvalidInput(
            f"train bundle: expected to start from one of {known}, got {start.architecture}"
        )
    return rounds


def _join(plan: BundlePlan, cohort: Cohort, found: Path, out: Path, say: Say) -> None:
    """Trains the fusion network on the boxes of the detector in `found`; `out` has both."""
    detector = open_bundle(found)
    training_plan = FusionTraining(epochs=_scaled(FusionTraining().epochs, plan.scale, least=2))
    fusion = training.fit_fusion(cohort, training_plan, detector, plan.work / "fusion", say)
    join(out, fusion, detector, _text(plan))


def _drawn(plan: BundlePlan, size: CohortPlan, say: Say) -> Cohort:
    """The synthetic cohort of a seed, drawn unless it is there."""
    folder = plan.work / f"phantom-{size.seed}"
    if not (folder / FILE).is_file():
        size = replace(
            size,
            patients=_scaled(size.patients, plan.scale, least=_LEAST),
            normals=_scaled(size.normals, plan.scale, least=_LEAST),
            real_normals=plan.real_normals,
        )
        for done in make_cohort(size, folder):
            if done % 200 == 0:
                say(f"{folder.name}: {done} of {size.patients + size.normals} patients drawn")
    return training.open_cohort(folder, say)


def _shorter(training_plan: DetectorTraining, scale: float) -> DetectorTraining:
    return replace(training_plan, epochs=_scaled(training_plan.epochs, scale, least=1))


def _text(plan: BundlePlan) -> BundleText:
    """Real cohorts must say what they are: every report will repeat it."""
    if plan.cohort is not None:
        if not plan.version or not plan.training_data:
            raise InvalidInput(
                "train bundle: expected --version and --training-data with --cohort, got none"
            )
        return BundleText(
            version=plan.version,
            training_data=plan.training_data,
            limits="Measured on its own cohort only. Not validated for clinical use.",
        )
    text = SYNTHETIC
    if plan.real_normals is not None:
        text = replace(
            text,
            training_data="synthetic tumours (bonetumor phantom), in part painted into real "
            f"normal radiographs ({plan.real_normals.resolve().parent.name})",
        )
    return replace(
        text,
        version=plan.version or text.version,
        training_data=plan.training_data or text.training_data,
    )


def _scaled(count: int, scale: float, *, least: int) -> int:
    return max(min(count, least), round(count * scale))
