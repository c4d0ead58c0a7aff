"""Why: what each modality contributed, and where on the image the class was read from."""

from collections.abc import Callable, Sequence
from itertools import combinations
from math import factorial

import torch
from torch import Tensor

from bonetumor.domain.assessment import HeatMap, Modality
from bonetumor.domain.image import BoundingBox
from bonetumor.fusion.evidence import CaseTensors
from bonetumor.fusion.network import FusionNetwork

_DIGITS = 3


def shapley(
    used: Sequence[Modality], worth: Callable[[tuple[Modality, ...]], float]
) -> dict[Modality, float]:
    """The Shapley value of each modality; `worth` of a subset is the probability it gives.

    With three modalities at most, all subsets are tried: the values are exact.
    """
    values = {}
    for modality in used:
        others = [m for m in used if m is not modality]
        total = 0.0
        for size in range(len(others) + 1):
            weight = factorial(size) * factorial(len(used) - size - 1) / factorial(len(used))
            for subset in combinations(others, size):
                grown = tuple(m for m in used if m is modality or m in subset)
                total += weight * (worth(grown) - worth(subset))
        values[modality] = round(total, _DIGITS)
    return values


def heat_map(
    network: FusionNetwork, case: CaseTensors, tokens: list[Tensor], region: BoundingBox, label: int
) -> HeatMap:
    """Gradient-weighted class activation (Selvaraju et al., ICCV 2017) over the crop, which shows
    `region` of the image.

    `tokens`: of the case, as the network encodes it; the image's own is encoded anew.
    Taken from the last but one stage of the image encoder: the last one is too coarse for a crop.
    Its greatest value is 1; all are 0 where nothing of the crop speaks for the class.
    """
    features: list[Tensor] = []

    def keep(_module: torch.nn.Module, _inputs: object, output: Tensor) -> Tensor:
        features.append(output.detach().requires_grad_())
        return features[0]

    hook = network.image_encoder.encoder.stages[-2].register_forward_hook(keep)
    try:
        with torch.enable_grad():
            score = network.mix([network.encode_images([case]), *tokens[1:]])[0, label]
            [gradient] = torch.autograd.grad(score, features[0])
    finally:
        hook.remove()
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    strength = torch.relu((weights * features[0].detach()).sum(dim=1))[0].cpu()
    strength = strength / strength.max().clamp(min=1e-9)
    return HeatMap(
        region=region,
        values=tuple(tuple(round(float(v), _DIGITS) for v in row) for row in strength),
    )
