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


def fit_conformal(probabilities: Tensor, truth: Tensor, miss_rate: float) -> list[float]:
    """For each class, the probability it needs to be in the prediction set.

    Class-conditional split conformal prediction (Sadinle et al., JASA 2019): for exchangeable
    cases the set holds the truth with probability at least 1 - `miss_rate` within every class, so
    that rare malignant cases are not missed for the sake of many benign ones. A class with too
    few calibration cases for its rate is always in the set.

    `probabilities`: (n, classes); `truth`: int64 (n,).
    """
    least = []
    for label in range(probabilities.shape[1]):
        own = probabilities[truth == label, label].double()
        rank = (len(own) + 1) * (1.0 - miss_rate) / max(1, len(own))
        if rank > 1:
            least.append(0.0)
        else:
            least.append(1.0 - float(torch.quantile(1.0 - own, rank, interpolation="higher")))
    return least
