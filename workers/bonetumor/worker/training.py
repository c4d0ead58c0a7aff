"""Training the bundle end to end: cohort, detector, operating point, fusion, manifest."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bonetumor.detection.evaluate import Scored, average_precision, operating_point
from bonetumor.detection.letterbox import letterbox
from bonetumor.detection.train import (
    DetectorTraining,
    fit_familiarity,
    read_checkpoint,
    train_detector,
)
from bonetumor.detection.yolo import YoloDetector
from bonetumor.dicom.presentation import present
from bonetumor.domain.image import ClinicalImage
from bonetumor.fusion.train import FusionTraining, Trained, train_fusion
from bonetumor.phantom.dicom import image_to_dicom
from bonetumor.phantom.patient import draw_normal, draw_patient
from bonetumor.phantom.radiograph import Radiograph
from bonetumor.slides.pictures import SlidePictures
from bonetumor.weights.bundle import open_bundle, write_bundle

_Plan = TypeVar("_Plan", DetectorTraining, FusionTraining)
VERSION = "synthetic-1"
_FALSE_POSITIVES_PER_NORMAL = 0.1
_FAMILIAR = 0.995
_LEAST_SCORE = 0.01
_ANY_DISTANCE = 1e12


def make_bundle(out: Path, work: Path, scale: float, say: Callable[[str], None]) -> None:
    """Trains everything from seeds and writes the bundle to `out`."""
    detector_plan = _scaled(
        DetectorTraining(), scale, ("patients", "normals", "validation", "epochs")
    )
    fusion_plan = _scaled(FusionTraining(), scale, ("patients", "calibration", "epochs"))
    checkpoint = train_detector(detector_plan, lambda r: render(r).pixels, work.absolute(), say)
    cut = SlidePictures(tile_px=fusion_plan.tile_px, max_tiles=6).cut
    fusion = train_fusion(fusion_plan, lambda p: render(p.radiograph), cut, say)
    write(out, checkpoint, detector_plan, fusion, say)


def write(
    out: Path, checkpoint: Path, plan: DetectorTraining, fusion: Trained, say: Callable[[str], None]
) -> None:
    """Writes the bundle, then measures with what was written and writes the figures into it."""
    state = read_checkpoint(checkpoint)
    config: dict[str, Any] = {
        "architecture": plan.architecture,
        "image_size_px": plan.image_size_px,
        "score_threshold": _LEAST_SCORE,
        "iou_threshold": 0.45,
        "max_detections": 20,
        "familiarity_threshold": _ANY_DISTANCE,
        "training": dataclasses.asdict(plan),
    }
    say("detector: summing up what training pictures look like")
    familiarity = fit_familiarity(
        state,
        plan,
        (letterbox(render(r).pixels, plan.image_size_px)[0] for r in _pictures(plan, 0, 160)),
    )
    tensors = {
        "detector.safetensors": {
            **state,
            "familiarity.mean": familiarity.mean,
            "familiarity.precision": familiarity.precision,
        },
        "fusion.safetensors": fusion.state,
    }

    def save(detector: dict[str, Any], metrics: dict[str, Any]) -> None:
        write_bundle(
            out,
            tensors=tensors,
            texts={"vocabulary.txt": fusion.vocabulary},
            description=_description(detector, fusion.config, metrics),
        )

    save(config, {})
    say("detector: measuring on synthetic patients kept apart")
    detector = YoloDetector(open_bundle(out), device="cpu")
    scored = [
        Scored(truth=r.box, found=detector.detect(render(r)).detections)
        for r in _pictures(plan, 2_000_000, 160)
    ]
    config["score_threshold"] = operating_point(scored, _FALSE_POSITIVES_PER_NORMAL)
    distances = [
        detector.familiarity(letterbox(render(r).pixels, plan.image_size_px)[0])
        for r in _pictures(plan, 3_000_000, 160)
    ]
    config["familiarity_threshold"] = float(np.quantile(distances, _FAMILIAR))
    metrics = {
        "note": "measured on synthetic patients; says nothing about real ones",
        "detection": {"n": len(scored), "average_precision_at_0.5": average_precision(scored, 0.5)},
        "fusion": fusion.metrics,
    }
    save(config, metrics)
    say(f"bundle {VERSION} written to {out}: {metrics['detection']}")


def render(image: Radiograph) -> ClinicalImage:
    """A phantom radiograph through the pixel pipeline that serving uses."""
    return next(iter(present(image_to_dicom(image, "training"))))


def _pictures(plan: DetectorTraining, first: int, count: int) -> list[Radiograph]:
    """Patients and, one in five, normals."""
    return [
        draw_normal(plan.seed, first + i)
        if i % 5 == 4
        else draw_patient(plan.seed, first + i).radiograph
        for i in range(count)
    ]


def _description(
    detector: dict[str, Any], fusion: dict[str, Any], metrics: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": "bonetumor",
        "version": VERSION,
        "training_data": "synthetic patients only (bonetumor phantom)",
        "intended_use": "Research, demonstration and integration tests. Not for primary diagnosis.",
        "limits": "Has never seen a real patient. Its scores say nothing about real patients.",
        "detector": detector,
        "fusion": fusion,
        "metrics": metrics,
    }


def _scaled(plan: _Plan, scale: float, names: tuple[str, ...]) -> _Plan:
    changes = {name: max(2, round(getattr(plan, name) * scale)) for name in names}
    return dataclasses.replace(plan, **changes)
