"""A trained ResNet that the encoders of lesion and slide begin as, from a site's own folder.

Either the state dict of a ResNet of torchvision (resnet18, 34, 50, …; He et al., CVPR 2016), or a
folder of transformers. Both are brought under transformers' names, which are those of our encoders.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import ResNetConfig, ResNetModel

from bonetumor.domain.errors import InvalidInput

# The mean and the deviation of ImageNet's pixels, red, green and blue, 0..1, by which torchvision
# and transformers normalise what they train on.
_MEAN, _DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
_STEM = "embedder.embedder.convolution.weight"
_COUNTER = "num_batches_tracked"  # what training alone counts; files may lack it
_CLASSIFIER = ("fc.", "classifier.")
_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(\w+)")
_OF_BLOCK = re.compile(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d)\.convolution\.weight")
_SIZES = (
    "embedding_size", "hidden_sizes", "depths", "layer_type", "hidden_act",
    "downsample_in_first_stage", "downsample_in_bottleneck",
)  # fmt: skip
_UNREADABLE = (OSError, EOFError, SafetensorError, UnpicklingError, RuntimeError)
_UNBUILT = (
    StrictDataclassError, KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResNetEncoder:
    """A ResNet without its classifier.

    `sizes`: as `ResNetConfig` names them; `weights`: under the names of `ResNetModel`;
    `pixel_mean`, `pixel_deviation`: of red, green and blue, 0..1: it learnt on pixels less the
    one, over the other.
    """

    sizes: dict[str, object]
    weights: dict[str, Tensor]
    pixel_mean: list[float]
    pixel_deviation: list[float]

    def weights_for(self, channels: int) -> dict[str, Tensor]:
        """The weights for pictures of one channel or three: the first layer's are summed over
        colours, or shared among them, so that the function of a grey picture stays."""
        stem = self.weights[_STEM]
        if stem.shape[1] > channels:
            stem = stem.sum(dim=1, keepdim=True)
        elif stem.shape[1] < channels:
            stem = stem.expand(-1, channels, -1, -1) / channels
        return {**self.weights, _STEM: stem}


def read_resnet(path: Path) -> ResNetEncoder:
    """A ResNet from a file (`.safetensors`, or `.pth` or `.pt` that holds tensors alone) with
    torchvision's names, or from a folder with transformers' config.json and model.safetensors.

    Raises:
        InvalidInput: there is none, or its tensors are not those of a ResNet.
    """
    if path.is_dir():
        return _from_folder(path)
    weights = {_renamed(name): tensor for name, tensor in _read(path).items()}
    return _checked(_sizes_of(weights, path), weights, path)


def _from_folder(folder: Path) -> ResNetEncoder:
    config = _described(folder / "config.json")
    if config.get("model_type") != "resnet":
        raise InvalidInput(
            f"--resnet-weights: expected a config.json of model_type resnet in {folder}, "
            f"got {config.get('model_type')}"
        )
    sizes = {name: config[name] for name in _SIZES if name in config}
    defaults = ResNetConfig()
    sizes = {name: sizes.get(name, getattr(defaults, name)) for name in _SIZES}
    read = _read(folder / "model.safetensors")
    weights = {name.removeprefix("resnet."): tensor for name, tensor in read.items()}
    note = folder / "preprocessor_config.json"
    return _checked(sizes, weights, folder, _described(note) if note.is_file() else {})


def _described(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(
            f"--resnet-weights: expected a JSON object in {path}, got {type(error).__name__}"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, without those of a classifier, as float32 where they are floating
    point. Of a pickle, tensors alone are read, so that nothing in it is run."""
    try:
        if path.suffix == ".safetensors":
            read = load_file(path)
        else:
            read = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise InvalidInput(
            f"--resnet-weights: expected tensors in {path}, got {type(error).__name__}"
        ) from error
    if not isinstance(read, dict) or not all(isinstance(v, Tensor) for v in read.values()):
        raise InvalidInput(
            f"--resnet-weights: expected a state dict, names with tensors, in {path}, got another "
            f"{type(read).__name__}"
        )
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in read.items()
        if not name.startswith(_CLASSIFIER)
    }


def _renamed(name: str) -> str:
    """transformers' name of a tensor that torchvision calls `name`; others stay as they are."""
    stem, _, value = name.partition(".")
    if stem in ("conv1", "bn1"):
        return f"embedder.embedder.{_kind(stem)}.{value}"
    match = _BLOCK.fullmatch(name)
    if match is None:
        return name
    stage, block, kind, number, value = match.groups()
    place = f"encoder.stages.{int(stage) - 1}.layers.{block}"
    if kind == "downsample.":
        return f"{place}.shortcut.{'normalization' if int(number) else 'convolution'}.{value}"
    return f"{place}.layer.{int(number) - 1}.{_kind(kind)}.{value}"


def _kind(name: str) -> str:
    return "convolution" if name.startswith("conv") else "normalization"


def _sizes_of(weights: dict[str, Tensor], path: Path) -> dict[str, object]:
    """The sizes of the ResNet that has these weights."""
    found = [m for name in weights if (m := _OF_BLOCK.fullmatch(name))]
    places = {tuple(map(int, m.groups())): weights[m.string] for m in found}
    last = max((number for _, _, number in places), default=0)
    stages = sorted({stage for stage, _, _ in places})
    try:
        return {
            "embedding_size": len(weights[_STEM]),
            "hidden_sizes": [len(places[each, 0, last]) for each in stages],
            "depths": [len({b for stage, b, _ in places if stage == each}) for each in stages],
            "layer_type": "bottleneck" if last == 2 else "basic",
        }
    except (KeyError, TypeError) as error:
        raise InvalidInput(
            "--resnet-weights: expected the names of torchvision's ResNets (conv1.weight, "
            f"layer1.0.conv1.weight, …) in {path}, got "
            f"{', '.join(sorted(weights)[:3]) or 'none'}"
        ) from error


def _checked(
    sizes: dict[str, object],
    weights: dict[str, Tensor],
    path: Path,
    normalised: dict[str, Any] | None = None,
) -> ResNetEncoder:
    """The encoder, if the weights are all those of a ResNet of these sizes, and no others."""
    stem = weights.get(_STEM)
    channels = stem.shape[1] if stem is not None and stem.ndim == 4 else 3
    if channels not in (1, 3):
        raise InvalidInput(
            f"--resnet-weights: expected a ResNet of one channel or three in {path}, got {channels}"
        )
    try:
        with torch.device("meta"):
            model = ResNetModel(ResNetConfig(num_channels=channels, **sizes))
    except _UNBUILT as error:
        raise InvalidInput(
            f"--resnet-weights: expected sizes of a ResNet in {path}, got {sizes}"
        ) from error
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    given = {name: tensor.shape for name, tensor in weights.items()}
    for name in [*own, *given]:
        if own.get(name) != given.get(name) and not name.endswith(_COUNTER):
            raise InvalidInput(
                f"--resnet-weights: expected the tensors of a ResNet ({sizes['layer_type']}, "
                f"depths {sizes['depths']}, widths {sizes['hidden_sizes']}) in {path}, got "
                f"{name} {_shape(given.get(name))} instead of {_shape(own.get(name))}"
            )
    told = normalised or {}
    return ResNetEncoder(
        sizes=sizes,
        weights=weights,
        pixel_mean=_of_colours(told.get("image_mean", _MEAN)),
        pixel_deviation=_of_colours(told.get("image_std", _DEVIATION)),
    )


def _shape(shape: torch.Size | None) -> str:
    return "missing" if shape is None else f"of shape {tuple(shape)}"


def _of_colours(values: list[float]) -> list[float]:
    """One value for red, green and blue each; a grey ResNet's processor names one alone."""
    return [float(v) for v in (values * 3 if len(values) == 1 else values)]
