"""Training on a cohort: detector, fusion, and the bundle that holds both with their figures."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bonetumor.cohort.record import Cohort, ImageRecord, PatientRecord, Split, read_cohort
from bonetumor.detection.beginning import architecture_of, finds_one_class, read_tensors
from bonetumor.detection.familiarity import without_familiarity
from bonetumor.detection.train import (
    DetectorTraining,
    LabelledPicture,
    read_checkpoint,
    train_detector,
)
from bonetumor.detection.yolo import DetectorEntry, YoloDetector, split_networks
from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.image import BoundingBox, ClinicalImage, Corners, iou
from bonetumor.domain.pathology import SlideTiles
from bonetumor.fusion.evidence import Labelled, Preparation, modalities
from bonetumor.fusion.network import SMALL_RESNET
from bonetumor.fusion.resnet import read_resnet
from bonetumor.fusion.text import read_text_encoder, stand_in_vocabulary, tokenizer_from
from bonetumor.fusion.train import FusionTraining, Pretrained, Trained, train_fusion
from bonetumor.service.assess import look
from bonetumor.weights.bundle import Bundle, open_bundle, read_entry
from bonetumor.weights.source import Source, merge_sources
from bonetumor.worker.cohorts import load_images, load_slides, panel_of
from bonetumor.worker.origins import note_origin, sources_of_weights, trace_origin
from bonetumor.worker.thinking import build_slides, choose_device

Say = Callable[[str], None]
DETECTOR_ORIGIN, FUSION_ORIGIN = "detector-origin.json", "fusion-origin.json"
_READERS = {".pt": read_checkpoint, ".safetensors": read_tensors}
_ENOUGH = 2000  # patients to train on, from which trained parts of the fusion network learn too
_MEETS = 0.1  # a found box that covers less of the true one shows something else


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Start:
    """The weights that a detector's training begins with, what they are called, of which
    architecture they are, and what they were learnt from. `goes_on`: whether they find one class,
    as ours do, so that training goes on; else the head is new, and training begins."""

    name: str
    architecture: str
    weights: dict[str, torch.Tensor]
    sources: tuple[Source, ...] = ()
    goes_on: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedParts:
    """Where a site has trained weights that parts of the fusion network begin with: `biobert`, a
    BERT's folder; `resnet`, a ResNet's file or folder (`resnet.read_resnet`); `fusion`, a bundle
    whose fusion network goes on learning.

    `frozen`: whether BERT and ResNet stay as they are; None: below 2,000 patients to train on.
    """

    biobert: Path | None = None
    resnet: Path | None = None
    fusion: Path | None = None
    frozen: bool | None = None


NO_PARTS = TrainedParts()


def detector_of(source: Path | None) -> Start | None:
    """The detector to begin with: that of a bundle's folder, or a file's: a checkpoint of
    ultralytics (unpickling it runs what it says) or safetensors under the same names.

    Raises:
        InvalidInput: it is nothing of the kind, or its network is none of yolov5n to x.
    """
    if source is None:
        return None
    if source.is_dir():
        return _of_bundle(open_bundle(source))
    if not source.is_file() or source.suffix not in _READERS:
        raise InvalidInput(
            "--start-from: expected the folder of a bundle, or a file that ends in "
            f"{' or '.join(_READERS)}, got {source}"
        )
    weights = without_familiarity(_READERS[source.suffix](source))
    return Start(
        name=source.name,
        architecture=architecture_of(weights),
        weights=weights,
        sources=sources_of_weights(source.parent),
        goes_on=finds_one_class(weights),
    )


def _of_bundle(bundle: Bundle) -> Start:
    """Of several networks the first."""
    tensors = without_familiarity(bundle.tensors("detector.safetensors"))
    entry = read_entry(DetectorEntry, "detector", bundle.manifest.detector)
    weights, *_ = split_networks(tensors, entry.networks)
    return Start(
        name=bundle.manifest.version,
        architecture=entry.architecture,
        weights=weights,
        sources=bundle.manifest.known_sources,
    )


def fit_detector(
    cohort: Cohort, plan: DetectorTraining, work: Path, start: Start | None, say: Say
) -> Path:
    """Trains the detector on the cohort's train split; answers the checkpoint in `work`, where
    `detector-origin.json` names the sources of the cohort and of the start."""
    problems: list[str] = []
    work.mkdir(parents=True, exist_ok=True)
    _note(cohort, start.sources if start else (), work / DETECTOR_ORIGIN, say)
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
    cohort: Cohort,
    plan: FusionTraining,
    detector: Bundle,
    work: Path,
    say: Say,
    *,
    parts: TrainedParts = NO_PARTS,
) -> Trained:
    """Trains the fusion network on the cohort and leaves it in `work`, with `fusion-origin.json`.

    `detector`: the bundle whose boxes it learns on, which are those that it will be asked about.
    `parts`: what it begins with; without a BERT, the text encoder is a small stand-in.
    """
    work.mkdir(parents=True, exist_ok=True)
    _note(cohort, _sources_of(parts), work / FUSION_ORIGIN, say)
    setup = set_up_fusion(cohort, plan, detector, parts, say)
    cases = Cases(cohort, setup.preparation, detector)
    say("fusion: the detector looks at the patients")
    trained = train_fusion(
        setup.plan,
        list(cases.to_learn()),
        list(cases.to_calibrate()),
        setup.vocabulary,
        say,
        checkpoint=work / "fusion.checkpoint",
        pretrained=setup.pretrained,
    )
    report(cases.problems, say)
    keep_fusion(trained, parts, work)
    return trained


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FusionSetup:
    """How a fusion network is to learn: the plan as the parts that it begins with change it, their
    weights, the words that its text encoder knows, and how cases become tensors."""

    plan: FusionTraining
    pretrained: Pretrained
    vocabulary: str
    preparation: Preparation


def set_up_fusion(
    cohort: Cohort, plan: FusionTraining, detector: Bundle, parts: TrainedParts, say: Say
) -> FusionSetup:
    """For the cohort, the parts, and crops as the detector of a bundle sees pictures."""
    pretrained = read_parts(parts, plan)
    plan = dataclasses.replace(
        plan,
        frozen=_stay(parts, cohort, say),
        content_px=detector.manifest.detector.get("content_px"),
    )
    text = pretrained.text
    vocabulary = text.vocabulary if text else stand_in_vocabulary()
    tokenizer = tokenizer_from(vocabulary, cased=text.cased if text else plan.cased)
    preparation = Preparation(plan.crop_px, plan.tile_px, tokenizer, plan.wordings, plan.content_px)
    return FusionSetup(
        plan=plan, pretrained=pretrained, vocabulary=vocabulary, preparation=preparation
    )


def keep_fusion(trained: Trained, parts: TrainedParts, work: Path) -> None:
    """Leaves a trained fusion network in `work`, for `read_fusion`."""
    began_as = {"biobert": parts.biobert, "resnet": parts.resnet, "fusion": parts.fusion}
    trained.config["training"]["started_from"] = {k: p.name for k, p in began_as.items() if p}
    save_file({k: v.contiguous() for k, v in trained.state.items()}, work / "fusion.safetensors")
    kept = {"vocabulary": trained.vocabulary, "config": trained.config, "metrics": trained.metrics}
    (work / "fusion.json").write_text(json.dumps(kept))


def _sources_of(parts: TrainedParts) -> tuple[Source, ...]:
    files = [p if p.is_dir() else p.parent for p in (parts.biobert, parts.resnet) if p]
    whole = open_bundle(parts.fusion).manifest.known_sources if parts.fusion else ()
    return merge_sources(*map(sources_of_weights, files), whole)


def read_parts(parts: TrainedParts, plan: FusionTraining) -> Pretrained:
    """The weights of the parts.

    Raises:
        InvalidInput: they are none, or the ResNet is not of the size that the plan asks for.
    """
    text = read_text_encoder(parts.biobert) if parts.biobert else None
    resnet = read_resnet(parts.resnet) if parts.resnet else None
    if resnet and plan.resnet != SMALL_RESNET:
        others = {k: resnet.sizes[k] for k, v in plan.resnet.items() if resnet.sizes[k] != v}
        if others:
            raise InvalidInput(
                f"--resnet-weights: expected those of the ResNet that --resnet names, {plan.resnet}"
                f", got {others} in {parts.resnet}"
            )
    whole = open_bundle(parts.fusion).tensors("fusion.safetensors") if parts.fusion else None
    return Pretrained(text=text, resnet=resnet, whole=whole)


def _stay(parts: TrainedParts, cohort: Cohort, say: Say) -> bool:
    """Whether trained parts are frozen: for want of patients, unless it is said."""
    trained = " and ".join(str(path) for path in (parts.biobert, parts.resnet) if path)
    if not trained:
        return False
    patients = sum(record.tumour_class is not None for record in cohort.of("train"))
    if parts.frozen is None and patients < _ENOUGH:
        say(
            f"fusion: what begins as {trained} is frozen, for {patients} patients to train on are "
            f"fewer than {_ENOUGH:,} (--fine-tune trains it all the same)"
        )
        return True
    return bool(parts.frozen)


def read_fusion(work: Path) -> Trained:
    """What `fit_fusion` left in `work`."""
    try:
        kept = json.loads((work / "fusion.json").read_text())
        return Trained(state=load_file(work / "fusion.safetensors"), **kept)
    except OSError as error:
        raise InvalidInput(f"training: expected a trained fusion network in {work}") from error


def _note(cohort: Cohort, before: tuple[Source, ...], file: Path, say: Say) -> None:
    """Notes the cohort as it is now; `before` are the sources of what training begins with."""
    origin = trace_origin(cohort, say)
    note_origin(origin.model_copy(update={"sources": merge_sources(before, origin.sources)}), file)


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
    """Every usable image of a split, for the detector's training; rarer and graver tumours count
    twice where a pass can repeat pictures."""
    for record in cohort.of(part):
        for described, image in load_images(cohort, record, problems):
            yield LabelledPicture(
                name=described.file,
                pixels=image.pixels,
                boxes=described.boxes,
                source=record.centre or "",
                repeats=1 if record.tumour_class in (None, TumourClass.BENIGN) else 2,
            )


class Cases:
    """Patients of a known class, with the lesion where the detector finds it."""

    def __init__(self, cohort: Cohort, preparation: Preparation, detector: Bundle) -> None:
        self._cohort = cohort
        self._preparation = preparation
        self._detector = YoloDetector(detector, device=choose_device("auto"))
        self._slides = build_slides(preparation.tile_px)
        self.problems: list[str] = []

    def to_learn(self) -> Iterator[Labelled]:
        """Each patient once for every image with a box: the found one, else the true one."""
        for record, label, tiles in self._known("train"):
            panel = panel_of(record)
            shown = [
                (image, self._found(image, described.boxes))
                for described, image in load_images(self._cohort, record, self.problems)
                if described.boxes
            ]
            for image, box in shown:
                yield self._preparation.prepare(image, box, tiles, panel), label
            if not shown and tiles:
                yield self._preparation.prepare(None, None, tiles, panel), label

    def to_calibrate(self) -> Iterator[Labelled]:
        """Each patient once, as served: at the surest box, right or wrong, or without an image."""
        for record, label, tiles in self._known("validation"):
            images = load_images(self._cohort, record, self.problems)
            looked = look((image for _, image in images), self._detector)
            box = looked.surest.box if looked.surest else None
            case = self._preparation.prepare(looked.best, box, tiles, panel_of(record))
            if modalities(case):
                yield case, label

    def _known(self, part: Split) -> Iterator[tuple[PatientRecord, int, tuple[SlideTiles, ...]]]:
        for record in self._cohort.of(part):
            if record.tumour_class is not None:
                tiles = load_slides(self._cohort, record, self._slides, self.problems)
                yield record, list(TumourClass).index(record.tumour_class), tiles

    def _found(self, image: ClinicalImage, true: tuple[Corners, ...]) -> BoundingBox:
        """The box that the detector puts nearest to a true one, or the greatest true one."""
        met = {
            max(iou(d.box.as_tuple(), box) for box in true): d.box
            for d in self._detector.detect(image).detections
        }
        best = max(met, default=0.0)
        return met[best] if best >= _MEETS else _largest(true)


def _largest(boxes: Iterable[Corners]) -> BoundingBox:
    """The box of the greatest area."""
    x0, y0, x1, y1 = max(boxes, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
    return BoundingBox(x0=x0, y0=y0, x1=x1, y1=y1)


def miss_rate_of(bundle: Bundle) -> float:
    """That of the bundle's conformal sets, as its training noted it."""
    noted = bundle.manifest.fusion.get("training", {})
    return float(noted.get("miss_rate", FusionTraining().miss_rate))


def wordings_of(bundle: Bundle) -> int:
    """Of the blood markers, for each patient, that its fusion network learnt with: none before
    there were any."""
    return int(bundle.manifest.fusion.get("training", {}).get("wordings", 0))


def report(problems: list[str], say: Say) -> None:
    """Says each problem once."""
    for problem in dict.fromkeys(problems):
        say(f"not used: {problem}")


def open_cohort(folder: Path, say: Say) -> Cohort:
    """The cohort of a folder; what cannot be used of it is said."""
    cohort = read_cohort(folder)
    report(list(cohort.problems), say)
    return cohort
