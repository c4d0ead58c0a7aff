"""How well classes are told apart: discrimination, calibration, coverage, decisions.

Everywhere `probabilities` is float, shape (n, 3), in the order of TumourClass, and `truth` int,
shape (n,).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_MALIGNANT = 2


def scores(probabilities: Floats, truth: Ints) -> dict[str, float]:
    """Macro precision, recall, F1 and one-versus-rest AUC, and accuracy; NaN where undefined.

    A class that is never guessed, or does not occur, counts with nought. By counting, as this is
    done for each draw of a bootstrap: scikit-learn's functions check their inputs for longer than
    all else takes.
    """
    guess = probabilities.argmax(axis=1)
    pairs = np.bincount(3 * truth + guess, minlength=9).reshape(3, 3)
    right, guessed, occurs = pairs.diagonal(), pairs.sum(axis=0), pairs.sum(axis=1)
    return {
        "precision": float((right / np.maximum(guessed, 1)).mean()),
        "recall": float((right / np.maximum(occurs, 1)).mean()),
        "f1": float((2 * right / np.maximum(guessed + occurs, 1)).mean()),
        "auc": macro_auc(probabilities, truth),
        "accuracy": float((guess == truth).mean()),
    }


def macro_auc(probabilities: Floats, truth: Ints) -> float:
    """The mean one-versus-rest area under the ROC curve over the classes that occur."""
    areas = [
        binary_auc(probabilities[:, label], truth == label)
        for label, n in enumerate(np.bincount(truth, minlength=3))
        if 0 < n < len(truth)
    ]
    return float(np.mean(areas)) if areas else float("nan")


def binary_auc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The area under the ROC curve of telling the positive rows by their scores; NaN without rows
    of both kinds. By ranks (Hanley and McNeil, Radiology 1982), ties halved."""
    n = int(positive.sum())
    if not 0 < n < len(positive):
        return float("nan")
    return float((rankdata(scores)[positive].mean() - (n + 1) / 2) / (len(positive) - n))


def separation(higher: Sequence[float], lower: Sequence[float]) -> float:
    """The area under the ROC curve of telling `higher` from `lower`; NaN without either."""
    if not higher or not lower:
        return float("nan")
    labels = [1] * len(higher) + [0] * len(lower)
    return float(roc_auc_score(labels, [*higher, *lower]))


def interval(
    measure: Callable[[Any], float], groups: Sequence[str], *, rounds: int = 1000
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of `measure(rows)`, resampling whole groups."""
    return intervals(lambda rows: {"": measure(rows)}, groups, rounds=rounds)[""]


def intervals(
    measure: Callable[[Any], dict[str, float]],
    groups: Sequence[str],
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """The 95 % percentile bootstrap interval of each figure of `measure(rows)`.

    Images of one patient are not independent: patients are drawn, not rows.
    """
    rng = np.random.default_rng(seed)
    rows_of: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        rows_of.setdefault(group, []).append(row)
    members = [np.array(rows, np.int64) for rows in rows_of.values()]
    drawn: dict[str, list[float]] = {}
    for _ in range(rounds if members else 0):
        chosen = rng.integers(0, len(members), len(members))
        for name, value in measure(np.concatenate([members[i] for i in chosen])).items():
            drawn.setdefault(name, []).append(value)
    if not drawn:
        return dict.fromkeys(measure(np.array([], np.int64)), (float("nan"), float("nan")))
    return {name: _middle(np.array(values)) for name, values in drawn.items()}


def _middle(values: Floats) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def calibration_error(probabilities: Floats, truth: Ints, bins: int = 10) -> float:
    """Expected calibration error of the most likely class, in bins of equal width."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(
        sum(
            abs(confidence[place == b].mean() - right[place == b].mean()) * (place == b).mean()
            for b in range(bins)
            if (place == b).any()
        )
    )


def chance_calibration_error(
    probabilities: Floats, truths: int = 200, seed: int = 0, bins: int = 10
) -> float:
    """What `calibration_error` would be if the probabilities were right, which is not nothing with
    few cases: the mean over truths drawn from them."""
    rng = np.random.default_rng(seed)
    below = probabilities.cumsum(axis=1)[:, :-1]
    drawn = ((rng.random((len(below), 1)) > below).sum(axis=1) for _ in range(truths))
    return float(np.mean([calibration_error(probabilities, truth, bins) for truth in drawn]))


def reliability(probabilities: Floats, truth: Ints, bins: int = 10) -> list[dict[str, float]]:
    """For each bin: mean confidence, share right, and how many."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {
            "confidence": float(confidence[place == b].mean()),
            "right": float(right[place == b].mean()),
            "n": int((place == b).sum()),
        }
        for b in range(bins)
        if (place == b).any()
    ]


def coverage(sets: NDArray[np.bool_], truth: Ints) -> dict[str, Any]:
    """How often the prediction set holds the truth, overall and by class, and its mean size."""
    held = sets[np.arange(len(truth)), truth]
    by_class = {
        str(label): {
            "n": int((truth == label).sum()),
            "covered": float(held[truth == label].mean()),
        }
        for label in range(sets.shape[1])
        if (truth == label).any()
    }
    return {
        "covered": float(held.mean()),
        "mean_size": float(sets.sum(axis=1).mean()),
        "by_class": by_class,
    }


def risk_coverage(probabilities: Floats, truth: Ints) -> list[tuple[float, float]]:
    """(share answered, error among the answered) as the least certain are left out."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    wrong = np.cumsum(probabilities.argmax(axis=1)[order] != truth[order])
    n = np.arange(1, len(truth) + 1)
    return [(float(a), float(b)) for a, b in zip(n / len(truth), wrong / n, strict=True)]


def decision_curve(probabilities: Floats, truth: Ints) -> list[dict[str, float]]:
    """Net benefit of treating as malignant above each threshold, beside treating all and none
    (Vickers and Elkin, Med Decis Making 2006)."""
    malignant = truth == _MALIGNANT
    prevalence = float(malignant.mean())
    rows = []
    for threshold in np.arange(0.05, 0.96, 0.05):
        odds = threshold / (1 - threshold)
        treated = probabilities[:, _MALIGNANT] >= threshold
        benefit = (treated & malignant).mean() - odds * (treated & ~malignant).mean()
        rows.append(
            {
                "threshold": float(threshold),
                "model": float(benefit),
                "all": float(prevalence - odds * (1 - prevalence)),
                "none": 0.0,
            }
        )
    return rows


def probe_auc(features: Floats, truth: Ints, groups: Sequence[str]) -> tuple[float, float, float]:
    """Macro AUC of a model that sees only `features`, cross-validated by group, with interval.

    What such a model reaches is what a shortcut alone would reach.
    """
    answers = probe_answers(features, truth, groups, labels=3)
    low, high = interval(lambda rows: macro_auc(answers[rows], truth[rows]), groups, rounds=300)
    return macro_auc(answers, truth), low, high


def probe_answers(features: Floats, truth: Ints, groups: Sequence[str], *, labels: int) -> Floats:
    """Probabilities of each label, shape (n, labels), by boosted trees that have seen neither the
    row nor others of its group: in five folds. NaN among `features` is a value like others."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedGroupKFold

    answers = np.zeros((len(truth), labels))
    folds = StratifiedGroupKFold(n_splits=5, shuffle=True, random_state=0)
    for train, test in folds.split(features, truth, groups):
        model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
        model.fit(features[train], truth[train])
        answers[np.ix_(test, model.classes_.astype(int))] = model.predict_proba(features[test])
    return answers
