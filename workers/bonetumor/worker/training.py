"""Training on a cohort: detector, fusion, and the bundle that holds both with their figures."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from bonetumor.cohort.record import Cohort, ImageRecord, Split, read_cohort
from bonetumor.detection.train import DetectorTraining, LabelledPicture, train_detector
from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.image import BoundingBox, ClinicalImage
from bonetumor.fusion.evidence import CaseTensors, Preparation
from bonetumor.fusion.text import read_text_encoder, stand_in_vocabulary, tokenizer_from
from bonetumor.fusion.train import FusionTraining, Trained, train_fusion
from bonetumor.slides.pictures import SlidePictures
from bonetumor.weights.bundle import open_bundle
from bonetumor.worker.cohorts import load_images, load_slides, panel_of

Say = Callable[[str], None]
_MAX_TILES = 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Start:
    """The weights that a detector's training begins with, and what they are called."""

    name: str
    weights: dict[str, torch.Tensor]


def detector_of(bundle: Path | None) -> Start | None:
    """The detector of a bundle, to begin with."""
    if bundle is None:
        return None
    opened = open_bundle(bundle)
    return Start(name=opened.manifest.version, weights=opened.tensors("detector.safetensors"))


def fit_detector(
    cohort: Cohort, plan: DetectorTraining, work: Path, start: Start | None, say: Say
) -> Path:
    """Trains the detector on the cohort's train split; answers the checkpoint in `work`."""
    problems: list[str] = []
    work.mkdir(parents=True, exist_ok=True)
    (work / "training.json").write_text(json.dumps(_noted(plan, cohort.folder, start)))
    checkpoint = train_detector(
        plan,
        pictures(cohort, "train", problems),
        pictures(cohort, "validation", problems),
        work,
        say,
        start_from=start.weights if start else None,
    )
    report(problems, say)
    return checkpoint


def fit_fusion(
    cohort: Cohort, plan: FusionTraining, work: Path, say: Say, *, biobert: Path | None = None
) -> Trained:
    """Trains the fusion network on the cohort and leaves it in `work`.

    `biobert`: folder of the BERT that the text encoder begins as; else the small stand-in.
    """
    work.mkdir(parents=True, exist_ok=True)
    vocabulary, weights = stand_in_vocabulary(), None
    if biobert is not None:
        text = read_text_encoder(biobert)
        vocabulary, weights = text.vocabulary, text.weights
        plan = dataclasses.replace(plan, bert=text.sizes, cased=text.cased)
    tokenizer = tokenizer_from(vocabulary, cased=plan.cased)
    preparation = Preparation(plan.crop_px, plan.tile_px, tokenizer)
    problems: list[str] = []
    trained = train_fusion(
        plan,
        list(_cases(cohort, "train", preparation, plan, problems)),
        list(_cases(cohort, "validation", preparation, plan, problems)),
        vocabulary,
        say,
        checkpoint=work / "fusion.checkpoint",
        text_weights=weights,
    )
    report(problems, say)
    save_file({k: v.contiguous() for k, v in trained.state.items()}, work / "fusion.safetensors")
    kept = {"vocabulary": vocabulary, "config": trained.config, "metrics": trained.metrics}
    (work / "fusion.json").write_text(json.dumps(kept))
    return trained


def read_fusion(work: Path) -> Trained:
    """What `fit_fusion` left in `work`."""
    try:
        kept = json.loads((work / "fusion.json").read_text())
        return Trained(state=load_file(work / "fusion.safetensors"), **kept)
    except OSError as error:
        raise InvalidInput(f"training: expected a trained fusion network in {work}") from error


def _noted(plan: DetectorTraining, cohort: Path, start: Start | None) -> dict[str, Any]:
    """What a bundle's manifest says of the detector's training."""
    return {
        **dataclasses.asdict(plan),
        "cohort": cohort.name,
        "started_from": start.name if start else None,
    }


def labelled(
    cohort: Cohort, part: Split, problems: list[str]
) -> Iterator[tuple[ImageRecord, ClinicalImage]]:
    """Every usable image of a split, with its boxes."""
    for record in cohort.of(part):
        yield from load_images(cohort, record, problems)


def pictures(cohort: Cohort, part: Split, problems: list[str]) -> Iterator[LabelledPicture]:
    """Every usable image of a split, for the detector's training."""
    for record, image in labelled(cohort, part, problems):
        yield LabelledPicture(name=record.file, pixels=image.pixels, boxes=record.boxes)


def _cases(
    cohort: Cohort, part: Split, preparation: Preparation, plan: FusionTraining, problems: list[str]
) -> Iterator[tuple[CaseTensors, int]]:
    """Each patient of a known class once for every image with a box."""
    slides = SlidePictures(tile_px=plan.tile_px, max_tiles=_MAX_TILES)
    for record in cohort.of(part):
        if record.tumour_class is None:
            continue
        label = list(TumourClass).index(record.tumour_class)
        tiles = load_slides(cohort, record, slides, problems)
        panel = panel_of(record)
        seen = False
        for described, image in load_images(cohort, record, problems):
            if described.boxes and not (part != "train" and seen):
                box = _jittered(largest(described.boxes), f"{plan.seed} {described.file}")
                yield preparation.prepare(image, box, tiles, panel), label
                seen = True
        if not seen and tiles:
            yield preparation.prepare(None, None, tiles, panel), label


def largest(boxes: Iterable[tuple[float, float, float, float]]) -> BoundingBox:
    """The box of the greatest area."""
    x0, y0, x1, y1 = max(boxes, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
    return BoundingBox(x0=x0, y0=y0, x1=x1, y1=y1)


def _jittered(box: BoundingBox, key: str) -> BoundingBox:
    """The true box as a detector would give it: a little off, the same for the same key."""
    rng = np.random.default_rng(list(key.encode()))
    width, height = box.x1 - box.x0, box.y1 - box.y0
    shift = rng.normal(0, 0.06, 4) * np.array([width, height, width, height])
    return BoundingBox(
        x0=float(box.x0 + shift[0]),
        y0=float(box.y0 + shift[1]),
        x1=float(box.x1 + shift[2]),
        y1=float(box.y1 + shift[3]),
    )


def report(problems: list[str], say: Say) -> None:
    """Says each problem once."""
    for problem in dict.fromkeys(problems):
        say(f"not used: {problem}")


def open_cohort(folder: Path, say: Say) -> Cohort:
    """The cohort of a folder; what cannot be used of it is said."""
    cohort = read_cohort(folder)
    report(list(cohort.problems), say)
    return cohort
