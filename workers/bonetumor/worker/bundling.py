"""The whole of training in one go: cohorts, detector, operating point, fusion, bundle."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import dropwhile
from pathlib import Path
from typing import Any

from bonetumor.cohort.record import FILE, Cohort
from bonetumor.cohort.sources import read_sources
from bonetumor.detection.train import DetectorTraining, read_checkpoint
from bonetumor.domain.errors import InvalidInput
from bonetumor.fusion.train import FusionTraining
from bonetumor.weights.bundle import Bundle, open_bundle, synthetic_bundle
from bonetumor.weights.intended_use import IntendedUse
from bonetumor.weights.source import merge_sources
from bonetumor.worker import training
from bonetumor.worker.drawing import CohortPlan, make_cohort, measure_normals, sources_of_normals
from bonetumor.worker.finishing import BundleText, calibrate, convert, join, tune
from bonetumor.worker.folding import convert_folds, fit_fold, fit_fusion_folds, folds_of
from bonetumor.worker.origins import Origin, read_origin, trace_origin

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
IN_WINDOWS = DetectorTraining(  # for a few thousand real pictures
    image_size_px=320, content_px=256, epochs=40, learning_rate=0.001, normals=0.6, seed=21
)
_MADE_WITH = ("bonetumor", "torch", "ultralytics-opencv-headless")
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

    `start_from`: a bundle or a file (`training.detector_of`) with weights that the detector's
    training begins with, and `parts` those of the fusion network's. `scale` shrinks cohorts and
    epochs. `folds`: a detector of so many networks by cross-fitting (`folding`), the first of which
    leave out the normal pictures of a source of `unseen` each; 0 is one network.
    """

    out: Path
    work: Path
    cohort: Path | None = None
    real_normals: Path | None = None
    start_from: Path | None = None
    parts: training.TrainedParts = training.NO_PARTS
    version: str | None = None
    training_data: str | None = None
    intended_use: IntendedUse = IntendedUse.RESEARCH
    scale: float = 1.0
    folds: int = 0
    unseen: tuple[str, ...] = ()


def make_bundle(plan: BundlePlan, say: Say) -> None:
    """Trains everything and writes the bundle. What `work` already holds is not done again."""
    training.read_parts(plan.parts, FusionTraining())  # what is refused is refused before all else
    if (plan.unseen and not plan.folds) or (plan.folds and plan.cohort is None):
        raise InvalidInput(
            "train bundle: expected --cohort with --folds, and --folds with --unseen, got one alone"
        )
    if plan.cohort is None:
        _from_seeds(plan, say)
    elif plan.folds:
        _from_folds(plan, training.open_cohort(plan.cohort, say), say)
    else:
        _from_cohort(plan, training.open_cohort(plan.cohort, say), say)


def _from_cohort(plan: BundlePlan, cohort: Cohort, say: Say) -> None:
    """One cohort for everything; its validation split sets the operating point."""
    text = _begun(plan)
    start = training.detector_of(plan.start_from)
    training_plan = DetectorTraining()
    if start is not None:
        rate = _GOING_ON if start.goes_on else training_plan.learning_rate
        training_plan = replace(training_plan, architecture=start.architecture, learning_rate=rate)
    training_plan = _shorter(training_plan, plan.scale)
    work = plan.work / "detector"
    checkpoint = training.fit_detector(cohort, training_plan, work, start, say)
    origin = read_origin(work / training.DETECTOR_ORIGIN, of=work.name)
    text = _learnt(text, origin, detector=[_step(origin, training=asdict(training_plan))])
    found = plan.work / "found"
    convert(found, cohort, checkpoint, _lender(), text, say)
    _join(plan, cohort, found, plan.out, text, say)


def _from_folds(plan: BundlePlan, cohort: Cohort, say: Say) -> None:
    """One cohort, of standardised pictures: each network of the detector without a fold of it."""
    text, rounds, trained = _begun(plan), [], []
    start = training.detector_of(plan.start_from)
    training_plan = _shorter(
        replace(IN_WINDOWS, architecture=start.architecture) if start else IN_WINDOWS, plan.scale
    )
    folds = folds_of(plan.folds, plan.unseen, cohort)
    for fold in folds:
        checkpoint = fit_fold(cohort, fold, training_plan, plan.work, start, say)
        origin = read_origin(plan.work / fold.name / training.DETECTOR_ORIGIN, of=fold.name)
        rounds.append(_step(origin, training=asdict(training_plan), fold=asdict(fold)))
        trained.append((fold, checkpoint))
    text = _learnt(text, origin, detector=rounds)
    found = plan.work / "found"
    convert_folds(found, cohort, trained, _lender(), text, say)
    fusion_plan, work = _fusion_plan(plan), plan.work / "fusion"
    fusion = fit_fusion_folds(cohort, folds, found, fusion_plan, work, say, parts=plan.parts)
    text = _learnt(text, origin, fusion=_step(origin, training=asdict(fusion_plan)))
    join(plan.out, fusion, open_bundle(found), text)


def _from_seeds(plan: BundlePlan, say: Say) -> None:
    """Cohort upon cohort, each of patients that the detector has not seen; other patients for the
    fusion network, others again to calibrate it, and other normals for the operating point."""
    text, rounds = _begun(plan), []
    sizes = [*(each.cohort for each in ROUNDS), NORMALS, CASES, APART]
    text = replace(text, recipe={**text.recipe, "drawn": dict(map(_size, sizes))})
    for differs in measure_normals(plan.real_normals).differing if plan.real_normals else ():
        say(f"source differs: {differs}")
    start = training.detector_of(plan.start_from)
    for each in _rounds_from(start):
        cohort = _drawn(plan, each.cohort, say)
        work = plan.work / f"detector-{each.training.seed}"
        training_plan = _shorter(each.training, plan.scale)
        checkpoint = training.fit_detector(cohort, training_plan, work, start, say)
        origin = read_origin(work / training.DETECTOR_ORIGIN, of=work.name)
        rounds.append(_step(origin, training=asdict(training_plan)))
        start = training.Start(
            name=cohort.folder.name,
            architecture=each.training.architecture,
            weights=read_checkpoint(checkpoint),
            sources=origin.sources,
        )
    text = _learnt(text, origin, detector=rounds)
    untuned, found, joined = (plan.work / name for name in ("untuned", "found", "joined"))
    convert(untuned, cohort, checkpoint, _lender(), text, say)
    normals = _drawn(plan, NORMALS, say)
    origin = trace_origin(normals, say)
    text = _learnt(text, origin, operating_point=_step(origin))
    tune(found, normals, open_bundle(untuned), text, say)
    text = _join(plan, _drawn(plan, CASES, say), found, joined, text, say)
    apart = _drawn(plan, APART, say)
    origin = trace_origin(apart, say)
    text = _learnt(text, origin, calibration=_step(origin))
    calibrate(plan.out, apart, open_bundle(joined), text, say)


def _lender() -> Bundle:
    """Has the fusion network that stands in until ours is trained; nothing of it remains."""
    return open_bundle(synthetic_bundle())


def _rounds_from(start: training.Start | None) -> tuple[Round, ...]:
    """All of them for a beginning, in the start's width if it is wider; else those after the
    first, from the start's architecture on."""
    if start is None or (
        not start.goes_on and start.architecture == ROUNDS[0].training.architecture
    ):
        return ROUNDS
    if not start.goes_on:
        wide = start.architecture
        return tuple(
            replace(each, training=replace(each.training, architecture=wide)) for each in ROUNDS
        )
    rounds = tuple(
        dropwhile(lambda each: each.training.architecture != start.architecture, ROUNDS[1:])
    )
    if not rounds:
        known = sorted({each.training.architecture for each in ROUNDS[1:]})
        raise InvalidInput(
            f"train bundle: expected to start from one of {known}, got {start.architecture}"
        )
    return rounds


def _join(
    plan: BundlePlan, cohort: Cohort, found: Path, out: Path, text: BundleText, say: Say
) -> BundleText:
    """Trains the fusion network on the boxes of the detector in `found`; `out` has both. Answers
    the text with what it was trained on."""
    detector = open_bundle(found)
    training_plan = _fusion_plan(plan)
    fusion = training.fit_fusion(
        cohort, training_plan, detector, plan.work / "fusion", say, parts=plan.parts
    )
    origin = read_origin(plan.work / "fusion" / training.FUSION_ORIGIN, of="fusion")
    text = _learnt(text, origin, fusion=_step(origin, training=asdict(training_plan)))
    join(out, fusion, detector, text)
    return text


def _fusion_plan(plan: BundlePlan) -> FusionTraining:
    return FusionTraining(epochs=_scaled(FusionTraining().epochs, plan.scale, least=2))


def _begun(plan: BundlePlan) -> BundleText:
    """What the bundle says before anything is trained. The recipe names no folder of this machine:
    cohorts and normals stand in it by their hashes."""
    recipe = {
        "command": "train bundle",
        "made_with": {name: version(name) for name in _MADE_WITH},
        "scale": plan.scale,
        "start_from": _started(plan.start_from),
    }
    return replace(_text(plan), intended_use=plan.intended_use, recipe=recipe)


def _started(source: Path | None) -> dict[str, str] | None:
    """The bundle or the file that training begins with, by its hash."""
    if source is None:
        return None
    if source.is_dir():
        manifest = open_bundle(source).manifest
        return {"version": manifest.version, "sha256": manifest.sha256}
    return {"file": source.name, "sha256": hashlib.sha256(source.read_bytes()).hexdigest()}


def _learnt(text: BundleText, origin: Origin, **steps: Any) -> BundleText:
    """The text with one step more in its recipe, and the sources of that."""
    return replace(
        text, sources=merge_sources(text.sources, origin.sources), recipe={**text.recipe, **steps}
    )


def _step(origin: Origin, **plans: Any) -> dict[str, Any]:
    """A cohort by its hashes, and what was trained on it."""
    return {**origin.summary(), **plans}


def _size(size: CohortPlan) -> tuple[str, dict[str, Any]]:
    """How a cohort of the recipe is drawn, before `scale`."""
    return _name(size), {k: v for k, v in asdict(size).items() if k != "real_normals"}


def _name(size: CohortPlan) -> str:
    return f"phantom-{size.seed}"


def _drawn(plan: BundlePlan, size: CohortPlan, say: Say) -> Cohort:
    """The synthetic cohort of a seed, drawn unless it is there."""
    folder = plan.work / _name(size)
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
    else:
        _compare_normals(folder, plan.real_normals, say)
    return training.open_cohort(folder, say)


def _compare_normals(folder: Path, real_normals: Path | None, say: Say) -> None:
    """Says which normals a cohort that is there was drawn with, if they are others now."""
    now = sources_of_normals(real_normals) if real_normals else ()
    drawn, there = (
        {(s.name, s.files_sha256) for s in sources if not s.files}
        for sources in (read_sources(folder), now)
    )
    for name, files_sha256 in sorted(drawn ^ there, key=str):
        state = "drawn with" if (name, files_sha256) in drawn else "drawn without"
        say(f"source differs: {folder.name}: {state} {name}, {str(files_sha256)[:16]}…")


def _shorter(training_plan: DetectorTraining, scale: float) -> DetectorTraining:
    return replace(training_plan, epochs=_scaled(training_plan.epochs, scale, least=1))


def _text(plan: BundlePlan) -> BundleText:
    """Real cohorts must say what they are: every report will repeat it."""
    is_clinical = plan.intended_use is IntendedUse.CLINICAL
    if plan.cohort is not None:
        if not plan.version or not plan.training_data:
            raise InvalidInput(
                "train bundle: expected --version and --training-data with --cohort, got none"
            )
        return BundleText(
            version=plan.version,
            training_data=plan.training_data,
            limits="Measured on its own cohort only."
            + ("" if is_clinical else " Not validated for clinical use."),
        )
    if is_clinical:
        raise InvalidInput(
            "train bundle: expected --cohort with patients for --intended-use clinical, "
            "got synthetic ones alone"
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
