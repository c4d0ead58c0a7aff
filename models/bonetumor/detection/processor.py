"""OpenVINO, which runs the detector's network on processors: see
`deploy/decisions/0009-openvino.md`."""

import warnings
from collections import deque
from itertools import cycle
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from bonetumor.detection.network import collect_summaries, fold, is_rounded

_TRACED_PX = 64  # any side will do, for the network is made for its own one afterwards


class OpenVinoEngine:
    """Convolutions in bfloat16 where the processor multiplies it by itself and the weights lose
    nothing by it, in float32 elsewhere; the last step, from features to boxes, always in float32.

    `batch` squares are at work at once, each on its share of torch's threads: these are less often
    idle than when all of them wait for each layer. The same processor and the same weights always
    answer alike.
    """

    def __init__(self, network: torch.nn.Module, side_px: int, batch: int = 2) -> None:
        # The front end is used as such: `openvino.convert_model` reports to its maker.
        from openvino import Core
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        self.batch = batch
        core = Core()
        able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = "bf16" if able and is_rounded(network) else "f32"
        self._boxes = _Boxes(fold(network))  # of its own: hooks stay on the one that is traced
        example = torch.zeros(1, 1, _TRACED_PX, _TRACED_PX, dtype=torch.uint8)
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # OpenVINO's way in is still this
            traced = torch.jit.trace(_Features(fold(network)), example, check_trace=False)
        decoder = TorchScriptPythonDecoder(traced)  # the front end does not keep it alive
        front = FrontEndManager().load_by_framework("pytorch")
        model = front.convert(front.load(decoder))
        model.reshape({model.inputs[0].any_name: [1, 1, side_px, side_px]})
        asked = {
            "NUM_STREAMS": batch,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        compiled: Any = core.compile_model(model, "CPU", asked)
        self._requests: list[Any] = [compiled.create_infer_request() for _ in range(batch)]

    def __call__(
        self, squares: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `Engine` says."""
        answers: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        at_work: deque[Any] = deque()
        for square, request in zip(squares, cycle(self._requests)):
            if len(at_work) == self.batch:
                answers.append(self._read(at_work.popleft()))
            request.wait()  # a call that was cut short leaves it at work
            request.start_async([np.ascontiguousarray(square)[None, None]], share_inputs=True)
            at_work.append(request)
        answers.extend(self._read(request) for request in at_work)
        predictions, summaries = zip(*answers, strict=True)
        return np.concatenate(predictions), np.concatenate(summaries)

    def _read(self, request: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        request.wait()
        # They are the request's own memory, which its next pass writes to.
        summary, *features = (tensor.data for tensor in request.output_tensors)
        return self._boxes([torch.from_numpy(f) for f in features]), summary.copy()


class _Features(torch.nn.Module):
    """A folded network up to its last step: the backbone's summary, then for each level what its
    boxes and what its scores are made of, channels last, as OpenVINO has them in memory."""

    def __init__(self, folded: torch.nn.Module) -> None:
        super().__init__()
        self.network = folded
        self._summaries = collect_summaries(folded)
        self._features: list[torch.Tensor] = []
        for last in _last_steps(_head(folded)):
            last.register_forward_pre_hook(lambda _module, given: self._features.append(given[0]))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self._summaries.clear()
        self._features.clear()
        self.network(pixels.float())
        return (self._summaries[0], *(f.permute(0, 2, 3, 1) for f in self._features))


class _Boxes:
    """The last step of a folded network: eight bits are too few for the place of a box, which in a
    picture of 640 pixels they round by two pixels."""

    def __init__(self, folded: torch.nn.Module) -> None:
        self._head = _head(folded)
        self._steps = _last_steps(self._head)

    @torch.inference_mode()
    def __call__(self, features: list[torch.Tensor]) -> NDArray[np.float32]:
        """`features`: for each level those of its boxes, then for each those of its scores, each
        (1, rows, columns, channels). Returns (1, 5, anchors)."""
        levels = len(features) // 2
        answers = [
            torch.nn.functional.linear(f.flatten(1, 2), step.weight.flatten(1), step.bias)
            for step, f in zip(self._steps, features, strict=True)
        ]
        raw = {
            "boxes": torch.cat(answers[:levels], dim=1).transpose(1, 2),
            "scores": torch.cat(answers[levels:], dim=1).transpose(1, 2),
            # For the rows and columns of each level.
            "feats": [f.permute(0, 3, 1, 2) for f in features[:levels]],
        }
        return np.asarray(self._head._inference(raw).numpy())  # noqa: SLF001 - it has no other


def _head(network: torch.nn.Module) -> Any:
    return cast(Any, network).model[-1]


def _last_steps(head: Any) -> list[torch.nn.Conv2d]:
    """Of each level the last convolution of its boxes, then of each that of its scores: of single
    pixels, all of them."""
    return [branch[-1] for branch in (*head.cv2, *head.cv3)]
