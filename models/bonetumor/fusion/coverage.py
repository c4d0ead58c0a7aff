"""Whether conformal sets cover as promised."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import betabinom
from torch import Tensor

from bonetumor.fusion.calibration import conformal_rank, fit_conformal


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
