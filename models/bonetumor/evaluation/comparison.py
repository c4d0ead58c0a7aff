"""Several models on the same cases: seeds, designs, versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bonetumor.evaluation import classification as classes

_ROUNDS = 500
_SHOWN = ("precision", "f1", "auc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """One model: how it was made, and for each case the probabilities of each subset of modalities
    that the case has, in the order of the cases."""

    version: str
    design: str
    seed: int
    answers: Sequence[Mapping[str, tuple[float, ...]]]


def compare(rivals: Sequence[Rival], truth: Sequence[int], groups: Sequence[str]) -> dict[str, Any]:
    """For each subset each model's macro precision, F1 and AUC with 95 % intervals over patients,
    and how far they are from the first model's (paired: the same patients are drawn for both); and
    for each design the mean over its models and their range."""
    subsets = sorted(
        {s for rival in rivals for answer in rival.answers for s in answer},
        key=lambda s: (s.count("+"), s),
    )
    return {
        "models": [
            {"version": rival.version, "design": rival.design, "seed": rival.seed}
            for rival in rivals
        ],
        "subsets": {subset: _compared(rivals, subset, truth, groups) for subset in subsets},
    }


def _compared(
    rivals: Sequence[Rival], subset: str, truth: Sequence[int], groups: Sequence[str]
) -> dict[str, Any]:
    rows = [i for i, answer in enumerate(rivals[0].answers) if subset in answer]
    true = np.array([truth[i] for i in rows], np.int64)
    probabilities = [np.array([rival.answers[i][subset] for i in rows]) for rival in rivals]

    def measure(drawn: classes.Ints) -> dict[str, float]:
        scored = [classes.scores(p[drawn], true[drawn]) for p in probabilities]
        return {
            f"{place} {name} {kind}": value
            for place, own in enumerate(scored)
            for name in _SHOWN
            for kind, value in (("", own[name]), ("difference", own[name] - scored[0][name]))
        }

    point = measure(np.arange(len(rows)))
    bounds = classes.intervals(measure, [groups[i] for i in rows], rounds=_ROUNDS)
    figures = {key: {"value": value, "ci95": list(bounds[key])} for key, value in point.items()}
    each = [
        {
            name: {
                **figures[f"{place} {name} "],
                "from_first": figures[f"{place} {name} difference"],
            }
            for name in _SHOWN
        }
        for place in range(len(rivals))
    ]
    return {"n": len(rows), "models": each, "designs": _designs(rivals, each)}


def _designs(rivals: Sequence[Rival], each: Sequence[dict[str, Any]]) -> dict[str, Any]:
    designs: dict[str, Any] = {}
    for design in dict.fromkeys(rival.design for rival in rivals):
        own = [e for rival, e in zip(rivals, each, strict=True) if rival.design == design]
        values = {name: [e[name]["value"] for e in own] for name in _SHOWN}
        designs[design] = {
            "models": len(own),
            **{
                name: {"mean": float(np.mean(v)), "least": min(v), "greatest": max(v)}
                for name, v in values.items()
            },
        }
    return designs
