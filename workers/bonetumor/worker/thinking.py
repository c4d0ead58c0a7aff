"""Building the networks. Imported by GPU workers and `assess` only: torch is heavy."""

from dataclasses import dataclass
from importlib.metadata import version

import torch

from bonetumor.detection.yolo import YoloDetector
from bonetumor.domain.assessment import Algorithm
from bonetumor.domain.errors import Misconfigured
from bonetumor.fusion.classifier import FusionClassifier
from bonetumor.service.ports import Detector, Fusion, Model, SlideReader
from bonetumor.slides.pictures import SlidePictures
from bonetumor.weights.bundle import Bundle, open_bundle, shipped_bundle
from bonetumor.worker.settings import Settings

_MAX_TILES = 16


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Detector and fusion of one bundle."""

    algorithm: Algorithm
    detector: Detector
    fusion: Fusion


def build_model(settings: Settings) -> Model:
    """Loads and checks the configured bundle.

    Raises:
        WeightsMismatch: a file is not the one that the manifest names.
        Misconfigured: clinical mode with weights that know synthetic patients only.
    """
    bundle = build_bundle(settings)
    if settings.model.threads:
        torch.set_num_threads(settings.model.threads)
    device = _device(settings.model.device)
    return LoadedModel(
        describe_algorithm(bundle),
        YoloDetector(bundle, device=device),
        FusionClassifier(bundle, device=device),
    )


def build_bundle(settings: Settings) -> Bundle:
    """The configured bundle, checked against its manifest and the mode."""
    bundle = open_bundle(settings.model.bundle or shipped_bundle())
    if settings.mode == "clinical" and "synthetic" in bundle.manifest.training_data.lower():
        raise Misconfigured(
            "mode: expected weights trained on patients for clinical mode, got a bundle trained on "
            f"{bundle.manifest.training_data}"
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


def build_slides(bundle_tile_px: int = 128) -> SlideReader:
    """The reader of slide pictures."""
    return SlidePictures(tile_px=bundle_tile_px, max_tiles=_MAX_TILES)


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise Misconfigured("model.device: expected a CUDA GPU, got none that torch can use")
    return wanted
