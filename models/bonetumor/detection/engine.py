"""What runs the detector's network: torch, or OpenVINO on processors.

The choice follows from the machine, not from a stopwatch, so that training, evaluation and
serving on one machine always answer alike: see `deploy/decisions/0009-openvino.md`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bonetumor.detection.network import collect_summaries
from bonetumor.detection.processor import OpenVinoEngine
from bonetumor.domain.errors import Misconfigured

ENGINES = ("auto", "torch", "openvino")


class Engine(Protocol):
    """Runs the network on squares as `letterbox` makes them."""

    @property
    def batch(self) -> int:
        """How many squares one pass takes; more at once are several passes."""
        ...

    def __call__(
        self, squares: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`squares`: uint8, (n, side, side). Returns raw predictions, (n, 5, anchors), and the
        backbone's summaries, (n, channels)."""
        ...


def build_engine(
    network: torch.nn.Module, *, side_px: int, device: str, wanted: str, batch: int = 1
) -> Engine:
    """The engine for a device; `auto` is OpenVINO on processors and torch elsewhere.

    `batch` is for torch; OpenVINO has its own, and one square at a time where two answer otherwise.

    Raises:
        Misconfigured: an engine that there is none of, or that the device cannot run; a batch for
            OpenVINO, or one in which a square's answer depends on its neighbours, on this device.
    """
    if wanted not in ENGINES:
        raise Misconfigured(f"model.engine: expected one of {ENGINES}, got {wanted}")
    on_processor = torch.device(device).type == "cpu"
    if wanted == "openvino" and not on_processor:
        raise Misconfigured(f"model.engine: expected a processor for openvino, got {device}")
    if wanted == "torch" or not on_processor:
        engine = TorchEngine(network, device, batch)
        if not is_neutral(engine, side_px):
            raise Misconfigured(
                f"model.batch: expected answers that do not depend on the neighbours in a batch, "
                f"got others with {batch} on {device}; 1 always works"
            )
        return engine
    if batch > 1:
        raise Misconfigured(
            f'model.batch: expected 1 with OpenVINO, got {batch}; model.engine = "torch" takes more'
        )
    pair = OpenVinoEngine(network, side_px)
    return pair if is_neutral(pair, side_px) else OpenVinoEngine(network, side_px, batch=1)


def is_neutral(engine: Engine, side_px: int) -> bool:
    """Whether a square's answer, to the bit, is the same in each place of a batch and beside
    whatever else is in it. Libraries choose their kernels by shape and device, so that only the
    device at hand can tell."""
    places = engine.batch
    if places == 1:
        return True
    noise = np.random.default_rng(0).integers(0, 256, (places, side_px, side_px), np.uint8)
    beside_others = engine(noise)
    for moved in range(1, places):
        if not _same(engine(np.roll(noise, moved, axis=0)), beside_others, moved):
            return False
    alone = engine(noise[:1])
    return all(
        np.array_equal(one, many[:1]) for one, many in zip(alone, beside_others, strict=True)
    )


def _same(answers: Sequence[NDArray[Any]], first: Sequence[NDArray[Any]], moved: int) -> bool:
    return all(
        np.array_equal(np.roll(answer, -moved, axis=0), expected)
        for answer, expected in zip(answers, first, strict=True)
    )


class TorchEngine:
    """torch, in half precision on a GPU.

    Every pass has the same shape, its empty places black: a pass over fewer squares would round in
    another way, and a result would depend on what else there was to do.
    """

    def __init__(self, network: torch.nn.Module, device: str, batch: int = 1) -> None:
        self.batch = batch
        self._device = torch.device(device)
        self._half = self._device.type == "cuda"
        kept = _Summarised(network).eval().to(self._device)
        self._network = kept.half() if self._half else kept

    def __call__(
        self, squares: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As the protocol says."""
        passes = [
            self._run(squares[start : start + self.batch])
            for start in range(0, len(squares), self.batch)
        ]
        predictions, summaries = zip(*passes, strict=True)
        return np.concatenate(predictions), np.concatenate(summaries)

    @torch.inference_mode()
    def _run(self, squares: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        filled = np.zeros((self.batch, *squares.shape[1:]), np.uint8)
        filled[: len(squares)] = squares
        pixels = torch.from_numpy(filled).to(self._device)[:, None]
        pixels = pixels.half() if self._half else pixels.float()
        answers = self._network(pixels)
        prediction, summary = (a[: len(squares)].float().cpu().numpy() for a in answers)
        return prediction, summary


class _Summarised(torch.nn.Module):
    """The network with its input scaled and its backbone's summary as a second answer."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self._summaries = collect_summaries(network)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._summaries.clear()
        scaled = pixels.to(next(self.network.parameters()).dtype) / 255.0
        output = self.network(scaled)
        prediction = output[0] if isinstance(output, (tuple, list)) else output
        return prediction, self._summaries[0]
