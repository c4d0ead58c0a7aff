"""The one door to torchvision.

A torchvision that was built for CUDA cannot register its operators beside a CPU build of torch
and dies at import ("operator torchvision::nms does not exist"), and takes ultralytics and parts
of transformers with it. On exactly that error we declare the two operators it looks for, give
`nms` a CPU kernel, and import again. Where torchvision loads, nothing is done.
"""

import importlib
import sys
from types import ModuleType

import torch

_SYMPTOM = "torchvision::nms does not exist"
_kept: list[torch.library.Library] = []


def load_torchvision() -> ModuleType:
    """torchvision, also where it was built for CUDA and torch was not."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if _SYMPTOM not in str(error):
            raise
    for name in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
        del sys.modules[name]
    _declare_operators()
    torchvision = importlib.import_module("torchvision")
    # Its guard asks whether its own binary loaded; the operators are there now, from us.
    importlib.import_module("torchvision.extension").__dict__["_has_ops"] = lambda: True
    return torchvision


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", nms, "CPU")
    _kept.append(library)  # the declaration lives as long as the Library object


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression.

    `boxes`: float, shape (n, 4), x0 y0 x1 y1; `scores`: float, shape (n,).
    Returns the indices that are kept, int64, by falling score.
    """
    order = scores.argsort(descending=True, stable=True)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while order.numel():
        first = order[0]
        kept.append(first)
        rest = order[1:]
        top_left = torch.maximum(boxes[first, :2], boxes[rest, :2])
        bottom_right = torch.minimum(boxes[first, 2:], boxes[rest, 2:])
        overlap = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        iou = overlap / (areas[first] + areas[rest] - overlap).clamp(min=1e-9)
        order = rest[iou <= iou_threshold]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.int64)
