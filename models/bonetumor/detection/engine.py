"""What runs the detector's network: torch, or OpenVINO on processors.

The choice follows from the machine, not from a stopwatch, so that training, evaluation and
serving on one machine always answer alike. Measured on a processor with AVX-512 BF16, yolov5n at
640 px, batch 1: see `deploy/decisions/0009-openvino.md`.
"""

import warnings
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from bonetumor.domain.errors import Misconfigured

_NECK_LAYER = 9  # SPPF, the end of the backbone: where a picture is summed up
# Its own choice, bfloat16, is faster still but moved scores by up to 0.02.
_EXACT = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
ENGINES = ("auto", "torch", "openvino")


class Engine(Protocol):
    """Runs the network on squares as `letterbox` makes them."""

    def __call__(
        self, squares: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`squares`: uint8, (n, side, side). Returns raw predictions, (n, 5, anchors), and the
        backbone's summaries, (n, channels)."""
        ...


def build_engine(network: torch.nn.Module, *, side_px: int, device: str, wanted: str) -> Engine:
    """The engine for a device; `auto` is OpenVINO on processors and torch elsewhere.

    Raises:
        Misconfigured: an engine that there is none of, or that the device cannot run.
    """
    if wanted not in ENGINES:
        raise Misconfigured(f"model.engine: expected one of {ENGINES}, got {wanted}")
    on_processor = torch.device(device).type == "cpu"
    if wanted == "openvino" and not on_processor:
        raise Misconfigured(f"model.engine: expected a processor for openvino, got {device}")
    if wanted == "torch" or not on_processor:
        return TorchEngine(network, device)
    return OpenVinoEngine(network, side_px)


class TorchEngine:
    """torch, in half precision on a GPU."""

    def __init__(self, network: torch.nn.Module, device: str) -> None:
        self._device = torch.device(device)
        self._half = self._device.type == "cuda"
        kept = _Summarised(network).eval().to(self._device)
        self._network = kept.half() if self._half else kept

    @torch.inference_mode()
    def __call__(
        self, squares: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As the protocol says."""
        pixels = torch.from_numpy(np.array(squares)).to(self._device)[:, None]
        pixels = pixels.half() if self._half else pixels.float()
        prediction, summary = self._network(pixels)
        return prediction.float().cpu().numpy(), summary.float().cpu().numpy()


class OpenVinoEngine:
    """OpenVINO, in single precision."""

    def __init__(self, network: torch.nn.Module, side_px: int) -> None:
        # The front end is used as such: `openvino.convert_model` reports to its maker.
        from openvino import Core
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        example = torch.zeros(1, 1, side_px, side_px, dtype=torch.uint8)
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # OpenVINO's way in is still this
            traced = torch.jit.trace(
                _Summarised(network).eval().float(), example, check_trace=False
            )
        decoder = TorchScriptPythonDecoder(traced)  # the front end does not keep it alive
        front = FrontEndManager().load_by_framework("pytorch")
        model = front.convert(front.load(decoder))
        model.reshape({model.inputs[0].any_name: [1, 1, side_px, side_px]})
        self._compiled: Any = Core().compile_model(model, "CPU", _EXACT)
        self._request: Any = self._compiled.create_infer_request()

    def __call__(
        self, squares: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As the protocol says; one square at a time, since more at once gain nothing here."""
        answers = [self._run(square) for square in squares]
        predictions, summaries = zip(*answers, strict=True)
        return np.concatenate(predictions), np.concatenate(summaries)

    def _run(self, square: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self._request.infer([np.ascontiguousarray(square)[None, None]])
        first, second = (self._request.get_output_tensor(i).data for i in range(2))
        return np.array(first, np.float32), np.array(second, np.float32)


class _Summarised(torch.nn.Module):
    """The network with its input scaled and its backbone's summary as a second answer."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self._summaries: list[torch.Tensor] = []
        layer = cast(Any, network).model[_NECK_LAYER]
        layer.register_forward_hook(
            lambda _module, _inputs, output: self._summaries.append(output.mean(dim=(2, 3)))
        )

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._summaries.clear()
        scaled = pixels.to(next(self.network.parameters()).dtype) / 255.0
        output = self.network(scaled)
        prediction = output[0] if isinstance(output, (tuple, list)) else output
        return prediction, self._summaries[0]
