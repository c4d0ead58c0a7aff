"""Trained weights of others that the detector's training begins with.

They come from a checkpoint of ultralytics or a safetensors file under the same names
(`model.0.conv.weight`, …), as ultralytics' yolov5*.yaml with the anchor-free head ("v5u") has
them, with three channels and any number of classes as a rule. Ours has one channel and one class.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from bonetumor.detection.vision import load_ultralytics
from bonetumor.domain.errors import InvalidInput

STEM = "model.0.conv.weight"  # what a picture meets first
_CLASSES = "model.24.cv3.0.2.bias"  # one value for each class
_BACKBONE, _NECK = 10, 24  # the layers before these
_COLOURS = 3
_BY_WIDTH = {16: "yolov5n.yaml", 32: "yolov5s.yaml", 48: "yolov5m.yaml", 64: "yolov5l.yaml",
             80: "yolov5x.yaml"}  # fmt: skip
_NOT_LEARNT = ("num_batches_tracked", "dfl.conv.weight")  # a counter, and the numbers 0 to 15

Weights = Mapping[str, torch.Tensor]


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, as float32 where they are floating point.

    Raises:
        InvalidInput: it is none.
    """
    try:
        loaded = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidInput(
            f"weights: expected a safetensors file in {path}, got {type(error).__name__}"
        ) from error
    return {k: t.float() if t.is_floating_point() else t for k, t in loaded.items()}


def greyed(weights: Weights) -> dict[str, torch.Tensor]:
    """The weights for one channel: those of red, green and blue are summed, which changes nothing
    for a grey picture, where the three are equal."""
    stem = weights.get(STEM)
    if stem is None or stem.ndim != 4 or stem.shape[1] != _COLOURS:
        return dict(weights)
    return {**weights, STEM: stem.sum(dim=1, keepdim=True)}


def architecture_of(weights: Weights) -> str:
    """The yaml of ultralytics' that the weights are of: yolov5n to x have first layers of
    different width. Backbones must be alike in full; neck and head may be others or missing.

    Raises:
        InvalidInput: they are of none of these.
    """
    stem = weights.get(STEM)
    architecture = _BY_WIDTH.get(len(stem)) if stem is not None and stem.ndim else None
    if architecture is None:
        raise InvalidInput(
            "detector: expected weights of yolov5n, s, m, l or x to start from, whose "
            f"{STEM} has {', '.join(map(str, _BY_WIDTH))} channels, got {described_stem(weights)}"
        )
    load_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    own = DetectionModel(architecture, nc=1, ch=1, verbose=False).state_dict()
    backbone = [n for n in _learnt(own) if _layer(n) < _BACKBONE]
    shapes = {name: tensor.shape for name, tensor in greyed(weights).items()}
    others = [name for name in backbone if shapes.get(name) != own[name].shape]
    if others:
        got = weights.get(others[0])
        raise InvalidInput(
            f"detector: expected the backbone of {architecture} to start from, whose first layer "
            f"is as wide, got {len(backbone) - len(others)} of its {len(backbone)} tensors; "
            f"{others[0]} is {'missing' if got is None else f'of shape {tuple(got.shape)}'}"
        )
    return architecture


def finds_one_class(weights: Weights) -> bool:
    """Whether the weights have a head for one class, as ours has: it then stays."""
    return _CLASSES in weights and weights[_CLASSES].shape == (1,)


def described_stem(weights: Weights) -> str:
    """What the weights have as first layer, in words."""
    if STEM not in weights:
        return f"{len(weights)} tensors without it"
    return f"one of shape {tuple(weights[STEM].shape)}"


def describe_taken(weights: Weights, taken: Iterable[str], own: Iterable[str]) -> str:
    """How many tensors of `weights` were taken, and what of the network, whose tensors `own`
    names, begins with having learnt nothing. Counters and constants do not count."""
    taken, owned = set(_learnt(taken)), _learnt(own)
    parts, new = (Counter(map(_part, names)) for names in (owned, set(owned) - taken))
    left = [
        f"{part} starts new"
        if new[part] == parts[part]
        else f"{new[part]} of the {part}'s {parts[part]} start new"
        for part in parts
        if new[part]
    ]
    return "; ".join([f"taken: {len(taken)} of {len(_learnt(weights))} tensors", *left])


def _learnt(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.endswith(_NOT_LEARNT)]


def _layer(name: str) -> int:
    """The number of the layer that a tensor of ultralytics' networks is of."""
    return int(name.split(".")[1])


def _part(name: str) -> str:
    layer = _layer(name)
    return "backbone" if layer < _BACKBONE else "neck" if layer < _NECK else "head"
