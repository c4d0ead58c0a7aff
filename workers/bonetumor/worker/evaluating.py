"""`evaluate`: a bundle on a cohort's test split, through the code that serves.

Real and synthetic patients never share a figure.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bonetumor.cohort.record import Cohort, ImageRecord, Origin, PatientRecord, Split
from bonetumor.domain.assessment import Modality, TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.image import ClinicalImage
from bonetumor.domain.lesion import Detection
from bonetumor.evaluation.cases import ClassifiedCase, probed
from bonetumor.evaluation.detection import ScoredImage
from bonetumor.evaluation.properties import picture_properties
from bonetumor.evaluation.sources import summarise_centres, summarise_sources
from bonetumor.evaluation.summary import summarise_classes, summarise_detection
from bonetumor.fusion.classifier import FusionClassifier
from bonetumor.fusion.coverage import resplits
from bonetumor.service.assess import look, rank_of
from bonetumor.service.ports import FusionInput
from bonetumor.weights.bundle import open_bundle, shipped_bundle
from bonetumor.worker.cohorts import load_images, load_slides, panel_of
from bonetumor.worker.comparing import Answers, Comparison, probabilities_of
from bonetumor.worker.evaluation_page import write_pages
from bonetumor.worker.evaluation_pictures import Album, remove_pictures
from bonetumor.worker.folding import bundles_of
from bonetumor.worker.gate import Gate
from bonetumor.worker.thinking import LoadedModel, build_slides, choose_device, load_model
from bonetumor.worker.training import miss_rate_of

_LEAST_SCORE = 0.01
_ADULT_YEARS = 18
_Figures = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPlan:
    """What `evaluate` measures, and where it writes.

    `strange`: a folder of pictures that the out-of-distribution gate should tell from the
    cohort's. `others`: bundles with the same detector whose fusion networks are measured beside.
    `folds`: each patient is asked of the network that has not seen the patient (`folding`), whose
    bundles lie beside; the operating point is that of all.
    `pictures`: how many of the worst mistakes of each kind are drawn; none with nought.
    """

    cohort: Cohort
    bundle: Path | None
    out: Path
    part: Split
    strange: Path | None = None
    others: Sequence[Path] = ()
    pictures: int = 12
    folds: int = 0


@dataclass(slots=True, kw_only=True)
class Predictions:
    """What the model said of every patient, and what could not be used.

    `shown`: for each of `images` whose it is and where it lies. `answers`: for each of `cases`
    what each of the bundles compared says.
    """

    images: list[ScoredImage] = field(default_factory=list)
    shown: list[tuple[PatientRecord, ImageRecord]] = field(default_factory=list)
    cases: list[ClassifiedCase] = field(default_factory=list)
    answers: list[Answers] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


Track = Callable[[Sequence[PatientRecord]], Iterator[PatientRecord]]


class _Evaluation:
    """The models of one run, and the figures of the patients it is given."""

    def __init__(self, plan: EvaluationPlan) -> None:
        self.plan = plan
        self.bundle = open_bundle(plan.bundle or shipped_bundle())
        # Faint boxes are kept, so that the curves are whole; the operating point is applied here.
        self.model = load_model(self.bundle, device="auto", least_score=_LEAST_SCORE)
        self.folds = {
            fold: load_model(open_bundle(path), device="auto", least_score=_LEAST_SCORE)
            for fold, path in bundles_of(self.bundle.folder, plan.folds)
        }
        self.threshold = float(self.bundle.manifest.detector["score_threshold"])
        self.comparison = (
            Comparison(self.bundle, plan.others, choose_device("auto")) if plan.others else None
        )
        self.gate = Gate(self.bundle, plan.strange) if plan.strange is not None else None
        self.problems = list(plan.cohort.problems)

    def section(self, origin: Origin, patients: Sequence[PatientRecord], track: Track) -> _Figures:
        """All figures of the patients of one origin."""
        found = Predictions(problems=self.problems)
        for record in track(patients):
            model = self._answering(record)
            predict(self.plan.cohort, record, model, self.threshold, found, self.comparison)
        cases = probed(found.cases)
        result: _Figures = {
            "origin": origin,
            "patients": len(patients),
            "detection": summarise_detection(found.images, self.threshold),
            "classification": summarise_classes(cases),
            "sources": summarise_sources(found.images, cases, self.threshold),
            "centres": summarise_centres(found.images, cases, self.threshold),
        }
        _add_resplits(result["classification"]["subsets"], cases, miss_rate_of(self.bundle))
        if self.comparison is not None:
            result["classification"]["comparison"] = self.comparison.result(cases, found.answers)
        if self.gate is not None:
            result["out_of_distribution"] = self.gate.figures(self.plan.cohort, patients)
        if self.plan.pictures:
            album = Album(self.plan.cohort, self.plan.out, origin)
            result["pictures"] = album.draw(
                found.images, found.shown, self.threshold, self.plan.pictures
            )
        return result

    def _answering(self, record: PatientRecord) -> LoadedModel:
        """Who is asked of a patient: all networks, or the one that has not seen the patient."""
        own = (model for fold, model in self.folds.items() if fold.is_apart(record))
        return next(own, self.model)


def evaluate_bundle(plan: EvaluationPlan, track: Track) -> dict[str, Any]:
    """Writes `evaluation.json`, `index.html`, `model-card.md` and the pictures into `plan.out`;
    answers the first. Real and synthetic patients are measured apart.

    Raises:
        InvalidInput: the split holds nobody, or another bundle has another detector.
    """
    patients = [r for r in plan.cohort.patients if _is_asked(r, plan)]
    if not patients:
        raise InvalidInput(f"cohort: expected patients in the {plan.part} split, got none")
    evaluation = _Evaluation(plan)
    plan.out.mkdir(parents=True, exist_ok=True)
    remove_pictures(plan.out)
    apart: dict[Origin, list[PatientRecord]] = {
        "real": [p for p in patients if not p.is_synthetic],
        "synthetic": [p for p in patients if p.is_synthetic],
    }
    sections = [evaluation.section(o, own, track) for o, own in apart.items() if own]
    result = {**_about(evaluation, sections), **_placed(sections)}
    plain = _plain(result)
    (plan.out / "evaluation.json").write_text(json.dumps(plain, indent=2, allow_nan=False))
    write_pages(plain, plan.out)
    return result


def _is_asked(record: PatientRecord, plan: EvaluationPlan) -> bool:
    """Of folds everybody but the test split: nobody else has been left out of all networks."""
    return record.part != "test" if plan.folds else record.part == plan.part


def _about(evaluation: _Evaluation, sections: Sequence[_Figures]) -> _Figures:
    """What was measured on whom."""
    manifest, plan = evaluation.bundle.manifest, evaluation.plan
    whole = {"patients": sections[0]["patients"]} if len(sections) == 1 else {}
    return {
        "bundle": {
            "version": manifest.version,
            "sha256": manifest.sha256,
            "training_data": manifest.training_data,
            "intended_use": manifest.intended_use.value,
            "intended_use_statement": manifest.intended_use_statement,
        },
        "cohort": {
            "name": plan.cohort.folder.name,
            "split": f"{plan.folds} folds of train and validation" if plan.folds else plan.part,
            **whole,
            "not_used": list(dict.fromkeys(evaluation.problems)),
        },
    }


def _placed(sections: Sequence[_Figures]) -> _Figures:
    """The figures of the one origin that there is, else a section for each."""
    if len(sections) == 1:
        return sections[0]
    return {"origins": {section["origin"]: section for section in sections}}


def _add_resplits(
    subsets: dict[str, _Figures], cases: Sequence[ClassifiedCase], miss_rate: float
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
    first: ClinicalImage | None = None
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
        into.shown.append((record, described))
        first = first or image
        sure += [
            (rank_of(d, is_strange=looked.out_of_distribution), d, image)
            for d in looked.detections
            if d.score >= threshold
        ]
    if record.tumour_class is None:
        return
    record = _without_drawn(record)
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
    case = _classify(record, evidence, first, model.fusion)
    into.cases.append(replace(case, assessed=rank is None or rank[0]))
    if comparison is not None:
        into.answers.append(comparison.ask(evidence))


def _without_drawn(record: PatientRecord) -> PatientRecord:
    """The patient with none of the evidence that a phantom drew, which would stand in one figure
    with a real image."""
    return record.model_copy(
        update={
            "slides": () if Modality.PATHOLOGY in record.drawn else record.slides,
            "labs": () if Modality.LABS in record.drawn else record.labs,
        }
    )


def _classify(
    record: PatientRecord,
    evidence: FusionInput,
    first: ClinicalImage | None,
    fusion: FusionClassifier,
) -> ClassifiedCase:
    diagnoses = fusion.by_subset(evidence)
    rows, columns = first.pixels.shape if first else (0, 0)
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
        image_size=[float(columns), float(rows)],
        picture=tuple(picture_properties(first.pixels).tolist()) if first else (),
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
    if record.fractured is not None:
        named["fracture"] = "fractured" if record.fractured else "unfractured"
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
