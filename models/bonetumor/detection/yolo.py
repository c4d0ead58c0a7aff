"""YOLOv5 behind the Detector port.

The network is ultralytics' YOLOv5 with the anchor-free head ("v5u"), one channel, one class.
Loading, pre-processing and the way back to stored pixels are ours, so that training, evaluation
and serving share them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from bonetumor.detection.agreement import agreed, single
from bonetumor.detection.engine import Engine, build_engine
from bonetumor.detection.ensemble import EnsembleEngine
from bonetumor.detection.familiarity import take_familiarity
from bonetumor.detection.letterbox import Letterbox, letterbox
from bonetumor.detection.mirror import MirroredEngine
from bonetumor.detection.scope import BEYOND_LIMBS, describe_beyond
from bonetumor.detection.sharing import SharedEngine
from bonetumor.detection.vision import load_ultralytics
from bonetumor.domain.errors import NonFiniteOutput, WeightsMismatch
from bonetumor.domain.image import ClinicalImage
from bonetumor.domain.lesion import Detection
from bonetumor.service.ports import Findings
from bonetumor.weights.bundle import Bundle, Entry, read_entry

_CHANNELS = 1
_Share = Annotated[float, Field(ge=0, le=1)]


class DetectorEntry(Entry):
    """The manifest's `detector`. A distance above `familiarity_threshold` is strange, and so is a
    lean above `trunk_threshold`; `beyond` is what images may say of themselves that the detector
    was not made for. A `mirrored` detector looks at each picture's mirror image too, one with
    `content_px` at pictures that are standardised to that, and one of several `networks` through
    each of them."""

    architecture: str
    image_size_px: int = Field(ge=32, multiple_of=32)
    score_threshold: _Share
    iou_threshold: _Share
    max_detections: int = Field(ge=1)
    familiarity_threshold: float = Field(gt=0)
    trunk_threshold: float
    beyond: frozenset[str] = BEYOND_LIMBS
    mirrored: bool = False
    content_px: int | None = Field(default=None, ge=32)
    networks: int = Field(default=1, ge=1)


class YoloDetector:
    """Finds tumours, as the manifest's `detector` entry says; `least_score` overrides its
    operating point, for measurements.

    `batch` images go through the network at once. With `shared`, several threads may ask.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str,
        engine: str = "auto",
        least_score: float | None = None,
        batch: int = 1,
        shared: bool = False,
    ) -> None:
        entry = read_entry(DetectorEntry, "detector", bundle.manifest.detector)
        self._entry = entry
        self._least_score = entry.score_threshold if least_score is None else least_score
        self._side_px = entry.image_size_px
        tensors = bundle.tensors("detector.safetensors")
        self._familiarity = take_familiarity(tensors)
        engines: list[Engine] = [
            build_engine(
                build_network(entry.architecture, state),
                side_px=self._side_px,
                device=device,
                wanted=engine,
                batch=batch,
            )
            for state in split_networks(tensors, entry.networks)
        ]
        self._summing = engines[0]  # one look of one network is enough to sum a picture up
        built = engines[0] if entry.networks == 1 else EnsembleEngine(engines)
        if entry.mirrored:
            built = MirroredEngine(built, self._side_px)
        self._engine = SharedEngine(built) if shared else built
        self._suppress = load_suppression()

    def detect(self, image: ClinicalImage) -> Findings:
        """Boxes in stored pixels, and whether the image is unlike all that was trained on."""
        [(_, findings)] = self.detect_all([image])
        return findings

    def detect_all(
        self, images: Iterable[ClinicalImage]
    ) -> Iterator[tuple[ClinicalImage, Findings]]:
        """Each image with what `detect` says of it; no more are held than a pass takes."""
        rest = iter(images)
        while together := list(islice(rest, self._engine.batch)):
            placed = [self._placed(image) for image in together]
            answers = self._engine(np.stack([square for square, _ in placed]))
            for image, (_, place), *answer in zip(together, placed, *answers, strict=True):
                yield image, self._findings(image, place, *answer)

    def _findings(
        self,
        image: ClinicalImage,
        placed: Letterbox,
        prediction: NDArray[np.float32],
        summary: NDArray[np.float32],
    ) -> Findings:
        if not bool(np.isfinite(prediction).all()):
            raise NonFiniteOutput("detector: expected finite boxes and scores, got NaN or infinity")
        kept = self._suppress(
            torch.from_numpy(prediction[None]),
            conf_thres=self._least_score,
            iou_thres=self._entry.iou_threshold,
            max_det=self._entry.max_detections,
        )[0]
        note = describe_beyond(image.reference, self._entry.beyond)
        return Findings(
            detections=_detections(self._boxes(kept.numpy(), prediction), placed, image),
            out_of_distribution=self._strangeness(summary) > 1 or bool(note),
            note=note,
        )

    def _boxes(
        self, kept: NDArray[np.float32], prediction: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """One for each lesion; detectors without `content_px` were tuned with nested boxes."""
        moved = agreed(kept, prediction)
        return moved if self._entry.content_px is None else single(moved)

    def _placed(self, image: ClinicalImage) -> tuple[NDArray[np.uint8], Letterbox]:
        return letterbox(image.pixels, self._side_px, self._entry.content_px)

    def measure(self, image: ClinicalImage) -> tuple[float, float]:
        """How far an image is from the training images, and how it leans to trunk and head."""
        return self._familiarity.measure(self._summary(image))

    def strangeness(self, image: ClinicalImage) -> float:
        """Above 1, an image is called unlike all that was trained on."""
        return self._strangeness(self._summary(image))

    def _summary(self, image: ClinicalImage) -> NDArray[np.float32]:
        square, _ = self._placed(image)
        _, [summary] = self._summing(square[None])
        return np.asarray(summary)

    def _strangeness(self, summary: NDArray[np.float32]) -> float:
        distance, lean = self._familiarity.measure(summary)
        return max(
            distance / self._entry.familiarity_threshold, 1 + lean - self._entry.trunk_threshold
        )


def build_network(architecture: str, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The network with the given weights; raises WeightsMismatch if they do not fit it."""
    load_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    try:
        network: torch.nn.Module = DetectionModel(architecture, ch=_CHANNELS, nc=1, verbose=False)
    except FileNotFoundError as error:
        raise WeightsMismatch(
            f"weights: expected an architecture that is known, got {architecture}"
        ) from error
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsMismatch(f"weights: expected those of {architecture}, got others") from error
    return network.eval()


def join_networks(states: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Several networks as a bundle holds them: by number, unless there is but one."""
    if len(states) == 1:
        return dict(states[0])
    return {f"{n}.{name}": t for n, state in enumerate(states) for name, t in state.items()}


def split_networks(
    tensors: Mapping[str, torch.Tensor], networks: int
) -> list[dict[str, torch.Tensor]]:
    """The state of each network, as `join_networks` put them together."""
    if networks == 1:
        return [dict(tensors)]
    return [
        {name.removeprefix(f"{n}."): t for name, t in tensors.items() if name.startswith(f"{n}.")}
        for n in range(networks)
    ]


def load_suppression() -> Any:
    """ultralytics' non-maximum suppression."""
    load_ultralytics()
    from ultralytics.utils.nms import non_max_suppression

    return non_max_suppression


def _detections(
    kept: NDArray[np.float32], placed: Letterbox, image: ClinicalImage
) -> tuple[Detection, ...]:
    found = []
    for x0, y0, x1, y1, score, *_ in kept.tolist():
        box = placed.to_stored(x0, y0, x1, y1)
        if box is not None:
            found.append(Detection(image=image.reference, box=box, score=score))
    return tuple(found)
