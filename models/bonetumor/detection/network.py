"""YOLOv5's network as engines take it: summed up, folded, and with weights of eight bits.

Some processors multiply bfloat16, numbers of eight significant bits, several times faster than
float32 (Intel AMX, AVX-512 BF16). Something is lost wherever a number is rounded: the pixels, the
weights and biases, and what one layer hands to the next. Pixels of 0 to 255 have eight bits by
themselves, once their division by 255 is part of the first weights; and weights and biases can be
rounded once for all engines, when a bundle is made. What is left is what layers hand on.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any, cast

import torch

_NECK_LAYER = 9  # SPPF, the end of the backbone: where a picture is summed up
_WHITE = 255.0
# Rounding to eight bits moves a number by up to 2^-8 of itself, folding in float32 by some 2^-23 of
# what it is made of.
_ROUNDED = 2.0**-16


def collect_summaries(network: torch.nn.Module) -> list[torch.Tensor]:
    """The list that each pass through the network adds its backbone's summary to, (n, channels)."""
    summaries: list[torch.Tensor] = []
    _layers(network)[_NECK_LAYER].register_forward_hook(
        lambda _module, _inputs, output: summaries.append(output.mean(dim=(2, 3)))
    )
    return summaries


def fold(network: torch.nn.Module) -> torch.nn.Module:
    """A copy in float32 that takes pixels of 0 to 255 as they are, its batch normalisations part
    of its convolutions."""
    folded = copy.deepcopy(network).float().eval()
    cast(Any, folded).fuse(verbose=False)
    with torch.no_grad():
        _layers(folded)[0].conv.weight /= _WHITE
    return folded


@torch.no_grad()
def round_weights(network: torch.nn.Module) -> None:
    """Moves the weights, in place, so that they and the folded ones have eight significant bits,
    and so have the folded biases.

    Folding multiplies each channel by a factor of its batch normalisation. That is made a power of
    two, and what it was becomes part of the weights before they are rounded. What a bias is rounded
    by is taken from the mean. Gain and bias of the normalisation stay, so that training goes on as
    before, but for the bias of a channel that is switched off, which is all that it says. The last
    step, which engines compute in float32, stays too.
    """
    for block, divisor in _blocks(network):
        normal = block.bn
        gain = normal.weight.double().abs()
        # Small gains want a smaller power of two: a variance cannot be negative.
        power = torch.exp2(-torch.log2(2 * normal.eps**0.5 / gain).ceil().clamp(0))
        wanted = power * divisor / 2 ** math.ceil(math.log2(divisor))
        scale = _factor(normal).double().abs() / wanted
        on = gain > 0
        weight = block.conv.weight
        moved = _rounded(weight * scale.float()[:, None, None, None])
        weight.copy_(torch.where(on[:, None, None, None], moved, weight))
        variance = (gain / wanted).square() - normal.eps
        normal.running_var.copy_(torch.where(on, variance, normal.running_var))
        factor = _factor(normal).double()
        mean = torch.where(on, normal.running_mean * scale, normal.running_mean)
        bias = _rounded(normal.bias - factor * mean)
        normal.running_mean.copy_(torch.where(on, (normal.bias - bias) / factor, mean))
        normal.bias.copy_(torch.where(on, normal.bias, bias))


@torch.no_grad()
def is_rounded(network: torch.nn.Module) -> bool:
    """Whether bfloat16 takes nothing from the folded weights and biases."""
    for block, divisor in _blocks(network):
        normal, factor = block.bn, _factor(block.bn)
        weight = block.conv.weight * (factor / divisor)[:, None, None, None]
        bias = normal.bias - factor * normal.running_mean
        if not (_has_eight_bits(weight, weight) and _has_eight_bits(bias, normal.bias)):
            return False
    return True


def _blocks(network: torch.nn.Module) -> Iterator[tuple[Any, float]]:
    """Each convolution with its batch normalisation, and what folding divides its weights by."""
    first = _layers(network)[0]
    for module in network.modules():
        if hasattr(module, "conv") and hasattr(module, "bn"):
            yield module, _WHITE if module is first else 1.0


def _factor(normal: Any) -> torch.Tensor:
    """What folding multiplies the weights of each channel by, (channels,)."""
    factor: torch.Tensor = normal.weight / torch.sqrt(normal.running_var + normal.eps)
    return factor


def _has_eight_bits(numbers: torch.Tensor, made_of: torch.Tensor) -> bool:
    """But for what float32 loses of the greater of what they are made of."""
    least = _ROUNDED * torch.maximum(numbers.abs(), made_of.abs())
    return bool(((numbers - _rounded(numbers)).abs() <= least).all())


def _rounded(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.to(torch.bfloat16).to(numbers.dtype)


def _layers(network: torch.nn.Module) -> Any:
    return cast(Any, network).model
