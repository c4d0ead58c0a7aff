"""Probabilities that mean what they say: temperature scaling and split conformal sets."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import betabinom
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
        own = probabilities[truth == label, label].double().sort(descending=True).values
        rank = conformal_rank(len(own), miss_rate)
        least.append(0.0 if rank > len(own) else float(own[rank - 1]))
    return least


def conformal_rank(cases: int, miss_rate: float) -> int:
    """The place, from 1 and the greatest first, of the probability that a class needs; beyond the
    last one if there are too few cases."""
    return math.ceil((cases + 1) * (1.0 - miss_rate) - 1e-9)


def resplits(
    probabilities: Tensor,
    truth: Tensor,
    groups: Sequence[str],
    *,
    miss_rate: float,
    rounds: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
    """Whether the sets cover as promised: thresholds from a random half of the groups, coverage on
    the other, `rounds` times.

    For each class `covered`, the mean over the rounds, `promised`, which is its expectation, and
    `inside`, the share of rounds whose coverage lies within the 95 % bounds of its distribution:
    of m cases, with the k-th of n as the threshold, BetaBinomial(m, k, n + 1 - k) are covered
    (Vovk, ACML 2012).
    """
    rng = np.random.default_rng(seed)
    names = sorted(set(groups))
    seen: dict[int, list[tuple[float, float, bool]]] = {}
    for _ in range(rounds):
        calibrating = set(rng.permutation(names)[: len(names) // 2].tolist())
        first = torch.tensor([group in calibrating for group in groups])
        least = fit_conformal(probabilities[first], truth[first], miss_rate)
        for label, needed in enumerate(least):
            n = int((truth[first] == label).sum())
            tested = probabilities[~first][truth[~first] == label, label]
            rank = conformal_rank(n, miss_rate)
            if rank > n or not len(tested):
                continue
            law = betabinom(len(tested), rank, n + 1 - rank)
            low, high = law.interval(0.95)
            held = int((tested.double() >= needed).sum())
            seen.setdefault(label, []).append(
                (held / len(tested), rank / (n + 1), bool(low <= held <= high))
            )
    return {
        "rounds": rounds,
        "by_class": {
            str(label): dict(
                zip(
                    ("covered", "promised", "inside"), np.mean(values, axis=0).tolist(), strict=True
                )
            )
            for label, values in sorted(seen.items())
        },
    }
