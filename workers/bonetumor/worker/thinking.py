"""Building the networks. Imported by GPU workers and `assess` only: torch is heavy."""

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from bonetumor.detection.yolo import YoloDetector
from bonetumor.domain.assessment import Algorithm
from bonetumor.domain.errors import Misconfigured
from bonetumor.domain.image import ClinicalImage, ImageReference
from bonetumor.domain.pathology import PathologySlide, SlideTiles
from bonetumor.domain.uid import UID
from bonetumor.fusion.classifier import FusionClassifier
from bonetumor.fusion.language_model import language_model_writer
from bonetumor.fusion.text import Template
from bonetumor.fusion.wording import CheckedWriter
from bonetumor.service.ports import Model, SlideReader
from bonetumor.service.texts import BloodWriter
from bonetumor.slides.pictures import SlidePictures
from bonetumor.weights.bundle import Bundle, open_bundle, shipped_bundle
from bonetumor.weights.intended_use import IntendedUse
from bonetumor.weights.tiles import tile_px_of
from bonetumor.worker.settings import Settings

_MAX_TILES = 64


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Detector and fusion of one bundle, and who words the blood markers."""

    algorithm: Algorithm
    detector: YoloDetector
    fusion: FusionClassifier
    writer: BloodWriter


def build_model(settings: Settings) -> Model:
    """Loads and checks the configured bundle.

    Raises:
        WeightsMismatch: a file is not the one that the manifest names.
        Misconfigured: clinical mode with a bundle that is not for clinical use.
    """
    bundle = build_bundle(settings)
    if settings.model.threads:
        torch.set_num_threads(settings.model.threads)
    return load_model(
        bundle,
        device=settings.model.device,
        engine=settings.model.engine,
        writer=build_writer(settings),
        batch=settings.model.batch,
        shared=settings.model.studies > 1,
    )


def build_writer(settings: Settings) -> BloodWriter:
    """Who words the blood markers: the language model of the settings, checked, or the template.

    Raises:
        Misconfigured: the folder holds no language model.
    """
    folder = settings.model.language_model
    if folder is None:
        return Template()
    model = language_model_writer(folder, device=choose_device(settings.model.device))
    return CheckedWriter(model, model.writer)


def load_model(
    bundle: Bundle,
    *,
    device: str,
    engine: str = "auto",
    least_score: float | None = None,
    writer: BloodWriter | None = None,
    batch: int = 1,
    shared: bool = False,
) -> LoadedModel:
    """Detector and fusion of a bundle. `least_score` keeps fainter boxes than serving shows; with
    `shared` several threads may ask, and their images go in batches. Without a `writer` the
    template words the blood markers."""
    chosen = choose_device(device)
    return LoadedModel(
        describe_algorithm(bundle),
        YoloDetector(
            bundle,
            device=chosen,
            engine=engine,
            least_score=least_score,
            batch=batch,
            shared=shared,
        ),
        FusionClassifier(bundle, device=chosen),
        writer or Template(),
    )


def verify_bundle(folder: Path | None) -> str:
    """Opens a bundle, builds its networks and runs the detector once.

    Raises:
        ModelFault: a hash, a tensor or an answer is not what it should be.
    """
    bundle = open_bundle(folder or shipped_bundle())
    model = load_model(bundle, device="cpu")
    blank = ImageReference(
        sop_instance_uid=UID("0"),
        sop_class_uid=UID("0"),
        series_instance_uid=UID("0"),
        frame_number=None,
        rows=64,
        columns=64,
    )
    model.detector.detect(ClinicalImage(reference=blank, pixels=np.zeros((64, 64), np.uint8)))
    names = ", ".join(sorted(bundle.manifest.files))
    return (
        f"bundle {bundle.manifest.version}, for {bundle.manifest.intended_use} use: "
        f"{names} as in the manifest; networks run"
    )


def build_bundle(settings: Settings) -> Bundle:
    """The configured bundle, checked against its manifest and the mode."""
    bundle = open_bundle(settings.model.bundle or shipped_bundle())
    manifest = bundle.manifest
    if settings.mode == "clinical" and manifest.intended_use is not IntendedUse.CLINICAL:
        raise Misconfigured(
            'mode: expected model.bundle with intended_use "clinical" for clinical mode, got '
            f'{manifest.version} with intended_use "{manifest.intended_use}", trained on '
            f'{manifest.training_data}; with it mode "research" works'
        )
    return bundle


def describe_algorithm(bundle: Bundle) -> Algorithm:
    """The algorithm as results name it."""
    return Algorithm(
        name="bonetumor",
        version=version("bonetumor"),
        bundle_version=bundle.manifest.version,
        bundle_sha256=bundle.manifest.sha256,
        training_data=bundle.manifest.training_data,
    )


def build_slides(tile_px: int) -> SlideReader:
    """The reader of slide pictures, cut into tiles of the size that a network learned on."""
    return SlidePictures(tile_px=tile_px, max_tiles=_MAX_TILES)


class BundleSlides:
    """Reads slide pictures as the network of a bundle learned them; its manifest is read when the
    first one comes, by when the bundle could be opened."""

    def __init__(self, bundle: Path | None) -> None:
        self._bundle = bundle

    def tiles(self, slide: PathologySlide) -> SlideTiles:
        """As `SlidePictures.tiles`; also raises WeightsMismatch."""
        return self._reader.tiles(slide)

    @cached_property
    def _reader(self) -> SlideReader:
        return build_slides(tile_px_of(self._bundle))


def choose_device(wanted: str) -> str:
    """What torch runs on; raises Misconfigured where it has none such."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise Misconfigured("model.device: expected a CUDA GPU, got none that torch can use")
    return wanted
