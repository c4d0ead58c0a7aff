"""Curves and tables for plots: ROC, precision and recall, confusion; at most 200 points each."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from bonetumor.domain.assessment import TumourClass
from bonetumor.evaluation.classification import Floats, Ints, binary_auc, intervals
from bonetumor.evaluation.detection import ScoredImage, tally

_MOST_POINTS = 200
_ROUNDS = 500
_T = TypeVar("_T")


def thin(points: Sequence[_T], most: int = _MOST_POINTS) -> list[_T]:
    """At most that many of the points, evenly spread, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[i] for i in np.linspace(0, len(points) - 1, most).round().astype(int)]


def roc(scores: Floats, positive: NDArray[np.bool_], groups: Sequence[str]) -> dict[str, Any]:
    """How scores tell the positive rows: `n` and how many of them are `positive`, `auc` with its
    interval over groups, and the `points` of the curve, the strictest threshold first.

    Without rows of both kinds there are no points, and the AUC is NaN.
    """
    measured = _bootstrapped(lambda rows: {"auc": binary_auc(scores[rows], positive[rows])}, groups)
    return {**measured, **_curve(scores, positive)}


def roc_of_images(images: Sequence[ScoredImage]) -> dict[str, Any]:
    """Images with a tumour against normal ones, by the score of an image's most certain box; of
    one without a box, or that was not assessed, it is nought."""
    scores = [max((score for _, score in i.counted), default=0.0) for i in images]
    return roc(
        np.array(scores, np.float64),
        np.array([bool(i.truth) for i in images], np.bool_),
        [i.patient for i in images],
    )


def roc_of_classes(
    probabilities: Floats, truth: Ints, groups: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Each class against the rest, by its probability. `probabilities`: shape (n, 3)."""
    labels = {str(name): label for label, name in enumerate(TumourClass)}

    def measure(rows: Any) -> dict[str, float]:
        own, true = probabilities[rows], truth[rows]
        return {name: binary_auc(own[:, label], true == label) for name, label in labels.items()}

    measured = _bootstrapped(measure, groups)
    return {
        name: {"auc": measured[name], **_curve(probabilities[:, label], truth == label)}
        for name, label in labels.items()
    }


def precision_recall(images: Sequence[ScoredImage], least_iou: float) -> list[dict[str, float]]:
    """Of the boxes above each score the share that meets a true one, and the share of true ones
    that is met; the most certain first. Empty where there is nothing to find."""
    tallies = [tally(i, least_iou) for i in images]
    total = sum(t.truths[None] for t in tallies)
    if not total:
        return []
    scores = np.concatenate([t.scores for t in tallies])
    order = np.argsort(-scores, kind="stable")
    met = np.cumsum(np.concatenate([t.hits for t in tallies])[order])
    points = zip(scores[order].tolist(), met.tolist(), strict=True)
    return thin(
        [
            {"threshold": score, "recall": found / total, "precision": found / number}
            for number, (score, found) in enumerate(points, start=1)
        ]
    )


def confusion(probabilities: Floats, truth: Ints) -> list[list[int]]:
    """How many of each true class (row) are called each class (column), in the order of
    TumourClass."""
    pairs = np.bincount(3 * truth + probabilities.argmax(axis=1), minlength=9)
    return [[int(n) for n in row] for row in pairs.reshape(3, 3)]


def _bootstrapped(
    measure: Callable[[Any], dict[str, float]], groups: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Each figure of all rows, and its interval over groups."""
    point = measure(np.arange(len(groups)))
    bounds = intervals(measure, groups, rounds=_ROUNDS)
    return {name: {"value": point[name], "ci95": list(bounds[name])} for name in point}


def _curve(scores: Floats, positive: NDArray[np.bool_]) -> dict[str, Any]:
    points: list[dict[str, float]] = []
    if positive.any() and not positive.all():
        false, true, thresholds = roc_curve(positive, scores)  # without points on straight lines
        points = [
            {"threshold": float(at), "false_positive_rate": float(f), "sensitivity": float(t)}
            for at, f, t in zip(thresholds, false, true, strict=True)
        ]
    return {"n": len(scores), "positive": int(positive.sum()), "points": thin(points)}
