"""Probabilities that mean what they say: temperature scaling and split conformal sets."""

import torch
from torch import Tensor

_GRID = torch.linspace(0.5, 5.0, 181)


def fit_temperature(logits: Tensor, truth: Tensor) -> float:
    """The temperature of the least negative log-likelihood (Guo et al., ICML 2017), by grid.

    `logits`: (n, 3); `truth`: int64 (n,).
    """
    losses = [float(torch.nn.functional.cross_entropy(logits / t, truth)) for t in _GRID]
    return float(_GRID[int(torch.tensor(losses).argmin())])


def fit_conformal(probabilities: Tensor, truth: Tensor, miss_rate: float) -> float:
    """The probability that a class needs to be in the prediction set.

    Split conformal prediction (Sadinle et al., JASA 2019): with n calibration cases the set holds
    the truth with probability at least 1 - `miss_rate` for exchangeable cases.
    """
    scores = 1.0 - probabilities[torch.arange(len(truth)), truth]
    rank = min(1.0, (len(truth) + 1) * (1.0 - miss_rate) / len(truth))
    return 1.0 - float(torch.quantile(scores.double(), rank, interpolation="higher"))
