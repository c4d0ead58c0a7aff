"""Ratios of counts, such as lesions found of lesions or false boxes per image, with intervals.

Intervals are at 95 % over groups, which are patients. A bootstrap knows nothing beyond what it
draws from, so that none of 20 would get the interval from 0 to 0. At the ends exact or score
intervals over as many groups take its place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import chi2

from bonetumor.evaluation.classification import Floats, intervals

Counts = Mapping[str, tuple[Sequence[float], Sequence[float]]]
_ROUNDS = 1000
_Z = 1.959964


def shares(counts: Counts, groups: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each name how many of how many: `value`, `ci95` and `n`, the sum of the latter.

    `counts`: for each row how many counted, and of how many; both as long as `groups`. Where none
    or all counted, the interval is Wilson's (J Am Stat Assoc 1927) of as many groups.
    """
    return _ratios(counts, groups, most=1.0)


def rates(counts: Counts, groups: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Like `shares`, of counts that may be more than one of each, such as false boxes on an image.

    Where there was none at all, the upper bound is that of a Poisson variable for each group
    (Garwood, Biometrika 1936).
    """
    return _ratios(counts, groups, most=None)


def _ratios(
    counts: Counts, groups: Sequence[str], *, most: float | None
) -> dict[str, dict[str, Any]]:
    if not counts:
        return {}
    _, place = np.unique(np.array(groups, np.str_), return_inverse=True)
    members = int(place.max()) + 1 if len(place) else 0
    above, below = (
        np.array([np.bincount(place, pair[side], members) for pair in counts.values()])
        for side in (0, 1)
    )

    def measure(rows: Any) -> dict[str, float]:
        tops, bottoms = above[:, rows].sum(axis=1), below[:, rows].sum(axis=1)
        ratios = np.divide(tops, bottoms, out=np.full(len(tops), np.nan), where=bottoms > 0)
        return dict(zip(counts, ratios.tolist(), strict=True))

    point = measure(np.arange(members))
    bounds = intervals(measure, [str(i) for i in range(members)], rounds=_ROUNDS)
    answer: dict[str, dict[str, Any]] = {}
    for number, (name, value) in enumerate(point.items()):
        n = int(below[number].sum())
        concerned = int((below[number] > 0).sum())
        interval = _at_an_end(value, concerned, most) or bounds[name]
        if not n:
            answer[name] = {"value": None, "ci95": [None, None], "n": 0}
        else:
            answer[name] = {"value": value, "ci95": [float(b) for b in interval], "n": n}
    return answer


def _at_an_end(value: float, groups: int, most: float | None) -> tuple[float, float] | None:
    """The interval where the bootstrap has nothing to draw from, else None."""
    if most is None:
        return (0.0, float(chi2.ppf(0.975, 2)) / 2 / groups) if value == 0 else None
    if value not in (0, most):
        return None
    width = _Z**2 / (groups + _Z**2)
    return (0.0, width) if value == 0 else (1 - width, 1.0)


def marked(values: Sequence[float], chosen: Sequence[bool]) -> Floats:
    """The values of the rows that are chosen, nought for the others."""
    return np.where(np.array(chosen, np.bool_), np.array(values, np.float64), 0.0)
