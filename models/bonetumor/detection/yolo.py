"""YOLOv5 behind the Detector port.

The network is ultralytics' YOLOv5 with the anchor-free head ("v5u"), one channel, one class.
Loading, pre-processing and the way back to stored pixels are ours, so that training, evaluation
and serving share them.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bonetumor.detection.letterbox import Letterbox, letterbox
from bonetumor.detection.vision import load_ultralytics
from bonetumor.domain.errors import NonFiniteOutput, WeightsMismatch
from bonetumor.domain.image import ClinicalImage
from bonetumor.domain.lesion import Detection
from bonetumor.service.ports import Findings
from bonetumor.weights.bundle import Bundle

_NECK_LAYER = 9  # SPPF, the end of the backbone: where a picture is summed up
_CHANNELS = 1


class YoloDetector:
    """Finds tumours. `config` is the manifest's `detector` entry."""

    def __init__(self, bundle: Bundle, *, device: str) -> None:
        self._config: dict[str, Any] = bundle.manifest.detector
        self._device = torch.device(device)
        tensors = bundle.tensors("detector.safetensors")
        self._mean = tensors.pop("familiarity.mean")
        self._precision = tensors.pop("familiarity.precision")
        self._network = build_network(self._config["architecture"], tensors).to(self._device)
        self._suppress = load_suppression()

    def detect(self, image: ClinicalImage) -> Findings:
        """Boxes in stored pixels, and whether the image is unlike all that was trained on."""
        square, placed = letterbox(image.pixels, int(self._config["image_size_px"]))
        prediction, summary = summarise(self._network, square)
        if not bool(torch.isfinite(prediction).all()):
            raise NonFiniteOutput("detector: expected finite boxes and scores, got NaN or infinity")
        kept = self._suppress(
            prediction,
            conf_thres=float(self._config["score_threshold"]),
            iou_thres=float(self._config["iou_threshold"]),
            max_det=int(self._config["max_detections"]),
        )[0]
        distance = familiarity_distance(summary, self._mean, self._precision)
        return Findings(
            detections=_detections(kept.cpu().numpy(), placed, image),
            out_of_distribution=distance > float(self._config["familiarity_threshold"]),
        )

    def familiarity(self, square: NDArray[np.uint8]) -> float:
        """How far a letterboxed picture is from the training pictures."""
        _, summary = summarise(self._network, square)
        return familiarity_distance(summary, self._mean, self._precision)


@torch.inference_mode()
def summarise(
    network: torch.nn.Module, square: NDArray[np.uint8]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw predictions, shape (1, 5, anchors), and the backbone's summary, shape (channels,).

    `square`: uint8, shape (side, side), as `letterbox` makes it.
    """
    device = next(network.parameters()).device
    pixels = torch.from_numpy(square).to(device).float().div(255.0)[None, None]
    summaries: list[torch.Tensor] = []
    hook = network.model[_NECK_LAYER].register_forward_hook(  # type: ignore[index,union-attr]
        lambda _module, _inputs, output: summaries.append(output.mean(dim=(2, 3))[0])
    )
    try:
        output = network(pixels)
    finally:
        hook.remove()
    prediction = output[0] if isinstance(output, (tuple, list)) else output
    return prediction, summaries[0].float().cpu()


def build_network(architecture: str, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The network with the given weights; raises WeightsMismatch if they do not fit it."""
    load_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    network: torch.nn.Module = DetectionModel(architecture, ch=_CHANNELS, nc=1, verbose=False)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsMismatch(f"weights: expected those of {architecture}, got others") from error
    return network.eval()


def load_suppression() -> Any:
    """ultralytics' non-maximum suppression."""
    load_ultralytics()
    from ultralytics.utils.nms import non_max_suppression

    return non_max_suppression


def familiarity_distance(
    summary: torch.Tensor, mean: torch.Tensor, precision: torch.Tensor
) -> float:
    """Mahalanobis distance of a picture's summary from the training pictures."""
    offset = summary - mean
    return float(torch.sqrt(torch.clamp(offset @ precision @ offset, min=0.0)))


def _detections(
    kept: NDArray[np.float32], placed: Letterbox, image: ClinicalImage
) -> tuple[Detection, ...]:
    found = []
    for x0, y0, x1, y1, score, *_ in kept.tolist():
        box = placed.to_stored(x0, y0, x1, y1)
        if box is not None:
            found.append(Detection(image=image.reference, box=box, score=score))
    return tuple(found)
