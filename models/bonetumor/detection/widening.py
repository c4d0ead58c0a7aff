"""A trained network's weights for a wider one of the same plan, which begins where it ended.

Net2WiderNet (Chen et al., Net2Net, arXiv:1511.05641): every channel is there several times, and
what reads the copies shares its weights among them, so that the function stays the same. The
shares are unequal by chance: copies of equal weights would stay copies for ever.
"""

from collections.abc import Mapping

import torch

_UNEQUAL = 0.5  # spread of the shares, as a part of the spread of the weights that are shared


def fitting(
    weights: Mapping[str, torch.Tensor], onto: Mapping[str, torch.Tensor], *, seed: int
) -> dict[str, torch.Tensor]:
    """`weights` as `onto` has them, by name: as they are where the shapes are equal, widened where
    `onto`'s are whole multiples of theirs, left out elsewhere.

    Weights of convolutions are float32, shape (out, in, rows, columns); all others are taken as
    values of one channel each, shape (channels,).
    """
    chance = torch.Generator().manual_seed(seed)
    fits = {}
    for name, own in onto.items():
        if name in weights and (tensor := _widened(weights[name], own.shape, chance)) is not None:
            fits[name] = tensor
    return fits


def _widened(
    tensor: torch.Tensor, shape: torch.Size, chance: torch.Generator
) -> torch.Tensor | None:
    if tensor.shape == shape:
        return tensor
    if tensor.shape[2:] != shape[2:] or any(
        wide % narrow for wide, narrow in zip(shape[:2], tensor.shape[:2], strict=False)
    ):
        return None
    wide = tensor.repeat_interleave(shape[0] // tensor.shape[0], dim=0)
    if tensor.ndim == 1 or (copies := shape[1] // tensor.shape[1]) == 1:
        return wide
    shares = torch.randn((*wide.shape[:2], copies, *wide.shape[2:]), generator=chance)
    shares = (shares - shares.mean(dim=2, keepdim=True)) * tensor.std() * _UNEQUAL
    return (wide.unsqueeze(2) / copies + shares).flatten(1, 2)
