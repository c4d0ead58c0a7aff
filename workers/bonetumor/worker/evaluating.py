"""`evaluate`: a bundle on a cohort's test split, through the code that serves."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bonetumor.cohort.record import Cohort, PatientRecord, Split
from bonetumor.detection.yolo import YoloDetector
from bonetumor.domain.assessment import Modality, TumourClass
from bonetumor.domain.errors import BoneTumorError, InvalidInput
from bonetumor.domain.image import ClinicalImage
from bonetumor.domain.lesion import Detection
from bonetumor.evaluation import classification as classes
from bonetumor.evaluation.detection import ScoredImage
from bonetumor.evaluation.summary import (
    ClassifiedCase,
    summarise_centres,
    summarise_classes,
    summarise_detection,
)
from bonetumor.fusion.classifier import FusionClassifier
from bonetumor.fusion.coverage import resplits
from bonetumor.service.assess import look, rank_of
from bonetumor.service.ports import FusionInput
from bonetumor.weights.bundle import Bundle, open_bundle, shipped_bundle
from bonetumor.worker.cohorts import load_images, load_slides, panel_of
from bonetumor.worker.comparing import Comparison, probabilities_of
from bonetumor.worker.evaluation_page import write_pages
from bonetumor.worker.loose import read_images
from bonetumor.worker.thinking import LoadedModel, build_slides, choose_device, load_model
from bonetumor.worker.training import miss_rate_of

_LEAST_SCORE = 0.01
_ADULT_YEARS = 18


@dataclass(slots=True, kw_only=True)
class Predictions:
    """What the model said of every patient, and what could not be used."""

    images: list[ScoredImage] = field(default_factory=list)
    cases: list[ClassifiedCase] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


Track = Callable[[Sequence[PatientRecord]], Iterator[PatientRecord]]


def evaluate_bundle(
    cohort: Cohort,
    bundle: Path | None,
    out: Path,
    part: Split,
    track: Track,
    *,
    strange: Path | None = None,
    others: Sequence[Path] = (),
) -> dict[str, Any]:
    """Writes `evaluation.json`, `index.html` and `model-card.md` into `out`; answers the first.

    `strange`: a folder of pictures that the out-of-distribution gate should tell from the
    cohort's. `others`: bundles with the same detector whose fusion networks are measured beside.

    Raises:
        InvalidInput: the split holds nobody, or another bundle has another detector.
    """
    opened = open_bundle(bundle or shipped_bundle())
    # Faint boxes are kept, so that the curves are whole; the operating point is applied here.
    model = load_model(opened, device="auto", least_score=_LEAST_SCORE)
    threshold = float(opened.manifest.detector["score_threshold"])
    predictions = Predictions(problems=list(cohort.problems))
    patients = list(cohort.of(part))
    if not patients:
        raise InvalidInput(f"cohort: expected patients in the {part} split, got none")
    comparison = Comparison(opened, others, choose_device("auto")) if others else None
    for record in track(patients):
        predict(cohort, record, model, threshold, predictions, comparison)
    result: dict[str, Any] = {
        **_about(opened, cohort, part, len(patients), predictions.problems),
        "detection": summarise_detection(predictions.images, threshold),
        "classification": summarise_classes(predictions.cases),
        "centres": summarise_centres(predictions.images, predictions.cases, threshold),
    }
    _add_resplits(result["classification"]["subsets"], predictions.cases, miss_rate_of(opened))
    if comparison is not None:
        result["classification"]["comparison"] = comparison.result(predictions.cases)
    if strange is not None:
        result["out_of_distribution"] = _strangeness(cohort, patients, opened, strange)
    plain = _plain(result)
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(plain, indent=2, allow_nan=False))
    write_pages(plain, out)
    return result


def _about(
    bundle: Bundle, cohort: Cohort, part: Split, patients: int, problems: list[str]
) -> dict[str, Any]:
    """What was measured on whom."""
    manifest = bundle.manifest
    return {
        "bundle": {
            "version": manifest.version,
            "sha256": manifest.sha256,
            "training_data": manifest.training_data,
            "intended_use": manifest.intended_use.value,
            "intended_use_statement": manifest.intended_use_statement,
        },
        "cohort": {
            "name": cohort.folder.name,
            "split": part,
            "patients": patients,
            "not_used": list(dict.fromkeys(problems)),
        },
    }


def _add_resplits(
    subsets: dict[str, dict[str, Any]], cases: Sequence[ClassifiedCase], miss_rate: float
) -> None:
    """Whether sets that are calibrated on half of the cases cover the other half."""
    for name, figures in subsets.items():
        own = [c for c in cases if name in c.probabilities]
        figures["resplits"] = resplits(
            torch.tensor([c.probabilities[name] for c in own], dtype=torch.float64),
            torch.tensor([c.truth for c in own]),
            [c.patient for c in own],
            miss_rate=miss_rate,
        )


def _strangeness(
    cohort: Cohort, patients: Sequence[PatientRecord], bundle: Bundle, folder: Path
) -> dict[str, Any]:
    """How well the gate tells the folder's pictures from the cohort's."""
    detector = YoloDetector(bundle, device="cpu")
    familiar = [
        detector.strangeness(image)
        for record in patients
        for _, image in load_images(cohort, record, [])
    ]
    refused, strange = 0, []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            strange += [detector.strangeness(image) for image in read_images(path)]
        except BoneTumorError:
            refused += 1  # refused by rule: no radiograph, or no image at all
    return {
        "familiar": len(familiar),
        "strange": len(strange),
        "refused_by_rule": refused,
        "auroc": classes.separation(strange, familiar),
        "strange_flagged": sum(s > 1 for s in strange),
        "familiar_flagged": sum(s > 1 for s in familiar),
    }


def predict(
    cohort: Cohort,
    record: PatientRecord,
    model: LoadedModel,
    threshold: float,
    into: Predictions,
    comparison: Comparison | None = None,
) -> None:
    """Boxes on each image; probabilities for each subset of what the patient has."""
    sure: list[tuple[tuple[bool, float], Detection, ClinicalImage]] = []
    size: tuple[int, ...] | None = None
    for described, image in load_images(cohort, record, into.problems):
        looked = look([image], model.detector)
        into.images.append(
            ScoredImage(
                patient=record.group or record.patient,
                truth=described.boxes,
                found=tuple((d.box.as_tuple(), d.score) for d in looked.detections),
                longest_px=max(image.pixels.shape),
                labels=_labels(record),
                assessed=not looked.out_of_distribution,
            )
        )
        size = size or image.pixels.shape
        sure += [
            (rank_of(d, is_strange=looked.out_of_distribution), d, image)
            for d in looked.detections
            if d.score >= threshold
        ]
    if record.tumour_class is None:
        return
    slides = build_slides(model.fusion.preparation.tile_px)
    tiles = load_slides(cohort, record, slides, into.problems)
    rank, best, shown_on = max(sure, key=lambda ranked: ranked[0], default=(None, None, None))
    evidence = FusionInput(
        image=shown_on,
        box=best.box if best else None,
        slides=tiles or None,
        labs=panel_of(record),
        out_of_distribution=False,
    )
    case = _classify(record, evidence, size or (0, 0), model.fusion)
    into.cases.append(replace(case, assessed=rank is None or rank[0]))
    if comparison is not None:
        comparison.ask(evidence)


def _classify(
    record: PatientRecord, evidence: FusionInput, size: tuple[int, ...], fusion: FusionClassifier
) -> ClassifiedCase:
    diagnoses = fusion.by_subset(evidence)
    served = "+".join([(), *diagnoses][-1])  # the greatest subset comes last
    return ClassifiedCase(
        patient=record.group or record.patient,
        truth=list(TumourClass).index(record.tumour_class or TumourClass.BENIGN),
        probabilities=probabilities_of(diagnoses),
        sets={
            "+".join(used): tuple(c in diagnosis.prediction_set for c in TumourClass)
            for used, diagnosis in diagnoses.items()
        },
        served=served if served not in ("", Modality.LABS) else None,
        image_size=[float(size[1]), float(size[0])],
        metadata=_metadata(record),
        labels=_slices(record, served),
    )


def _metadata(record: PatientRecord) -> list[float]:
    """Age, sex, site and box shape: what a model could guess from without a look at the image."""
    boxes = [b for i in record.images for b in i.boxes]
    width, height = (boxes[0][2] - boxes[0][0], boxes[0][3] - boxes[0][1]) if boxes else (0.0, 0.0)
    age = float("nan") if record.age_years is None else float(record.age_years)
    sex = {"M": 0.0, "F": 1.0}.get(record.sex or "", 2.0)
    site = float(sum((record.site or "").encode()) % 997)
    return [age, sex, site, width, height, width / height if height else 0.0, float(len(boxes))]


def _labels(record: PatientRecord) -> dict[str, str]:
    named = {
        "site": record.site,
        "type": record.tumour_type,
        "sex": record.sex,
        "centre": record.centre,
    }
    if record.age_years is not None:
        named["age"] = "under 18" if record.age_years < _ADULT_YEARS else "18 and more"
    return {k: str(v) for k, v in named.items() if v is not None}


def _slices(record: PatientRecord, served: str) -> dict[str, str]:
    named = {
        "site": record.site,
        "sex": record.sex,
        "centre": record.centre,
        "missing pattern": served or "nothing",
    }
    if record.age_years is not None:
        named["age"] = ["0-9", "10-19", "20-39", "40-59", "60+"][
            int(np.digitize(record.age_years, [10, 20, 40, 60]))
        ]
    return {k: str(v) for k, v in named.items() if v is not None}


def _plain(value: Any) -> Any:
    """JSON without NaN: what is not defined is null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (np.floating, float)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
