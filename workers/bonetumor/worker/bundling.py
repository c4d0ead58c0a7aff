"""The whole of training in one go: cohort, detector, fusion, bundle."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bonetumor.cohort.record import FILE, Cohort
from bonetumor.detection.train import DetectorTraining
from bonetumor.domain.errors import InvalidInput
from bonetumor.fusion.train import FusionTraining
from bonetumor.worker import training
from bonetumor.worker.cohorts import CohortPlan, make_cohort
from bonetumor.worker.finishing import BundleText, write

Say = Callable[[str], None]
_PATIENTS, _NORMALS, _SEED = 4300, 2100, 7
SYNTHETIC = BundleText(
    version="synthetic-unnamed",  # another than any shipped one: the networks are others
    training_data="synthetic patients only (bonetumor phantom)",
    limits="Has never seen a real tumour. Its scores say nothing about real patients.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundlePlan:
    """What to train on and where to put it. `scale` shrinks the synthetic cohort and the
    epochs."""

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
    text = _text(plan)
    cohort = _cohort(plan, say)
    detector = DetectorTraining(epochs=_scaled(DetectorTraining().epochs, plan.scale))
    checkpoint = training.fit_detector(
        cohort, detector, plan.work / "detector", plan.start_from, say
    )
    fusion = training.fit_fusion(
        cohort,
        FusionTraining(epochs=_scaled(FusionTraining().epochs, plan.scale)),
        plan.work / "fusion",
        say,
    )
    write(plan.out, cohort, checkpoint, fusion, text, say)


def _cohort(plan: BundlePlan, say: Say) -> Cohort:
    if plan.cohort is not None:
        return training.open_cohort(plan.cohort, say)
    folder = plan.work / "cohort"
    if not (folder / FILE).is_file():
        size = CohortPlan(
            patients=_scaled(_PATIENTS, plan.scale, least=150),
            normals=_scaled(_NORMALS, plan.scale, least=30),
            seed=_SEED,
            real_normals=plan.real_normals,
        )
        for done in make_cohort(size, folder):
            if done % 200 == 0:
                say(f"cohort: {done} of {size.patients + size.normals} patients drawn")
    return training.open_cohort(folder, say)


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
        text = dataclasses.replace(
            text,
            training_data="synthetic tumours (bonetumor phantom), in part painted into real "
            f"normal radiographs ({plan.real_normals.resolve().parent.name})",
        )
    return dataclasses.replace(
        text,
        version=plan.version or text.version,
        training_data=plan.training_data or text.training_data,
    )


def _scaled(count: int, scale: float, least: int = 2) -> int:
    return max(least, round(count * scale))
