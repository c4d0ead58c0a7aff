"""From predictions to the figures of `evaluation.json`, each with a 95 % interval.

Intervals are percentile bootstraps over patients. Keys are documented in `deploy/evaluation.md`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bonetumor.domain.assessment import TumourClass
from bonetumor.evaluation import classification as classes
from bonetumor.evaluation.cases import MALIGNANT, ClassifiedCase, summarise_probes
from bonetumor.evaluation.curves import (
    confusion,
    precision_recall,
    roc_of_classes,
    roc_of_images,
    thin,
)
from bonetumor.evaluation.detection import IOUS, SIZES, ScoredImage, area_of, froc, tally
from bonetumor.evaluation.findings import summarise_findings

_ROUNDS = 500
_FALSE_RATES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_LEAST_SLICE = 10


def summarise_detection(images: Sequence[ScoredImage], threshold: float) -> dict[str, Any]:
    """Average precision, FROC, and what is found at the operating point."""
    curve = froc(images)
    return {
        "threshold": threshold,
        "map50": precision_of(images, (0.5,)),
        "map50_95": precision_of(images, IOUS),
        "map50_by_size": {size: precision_of(images, (0.5,), size) for size in SIZES},
        **summarise_findings(images, threshold),
        "froc": [
            {"false_per_image": rate, "sensitivity": _at(curve, rate)} for rate in _FALSE_RATES
        ],
        "precision_recall": precision_recall(images, 0.5),
        "image_roc": roc_of_images(images),
    }


def summarise_classes(cases: Sequence[ClassifiedCase]) -> dict[str, Any]:
    """The ablation over subsets, calibration, coverage, abstention, slices and leakage probes."""
    result: dict[str, Any] = {
        "patients": len(cases),
        "not_assessed": sum(not c.assessed for c in cases),
        "by_class": {str(c): sum(x.truth == i for x in cases) for i, c in enumerate(TumourClass)},
        "subsets": {
            s: _subset([c for c in cases if s in c.probabilities], s) for s in subsets_of(cases)
        },
    }
    served = [c for c in cases if c.served]
    if served:
        result["served"] = _served(served)
    result["probes"] = summarise_probes(cases)
    return result


def subsets_of(cases: Sequence[ClassifiedCase]) -> list[str]:
    """The names of the subsets of modalities that there are, the smallest first."""
    return sorted({s for c in cases for s in c.probabilities}, key=lambda s: (s.count("+"), s))


def _subset(cases: Sequence[ClassifiedCase], subset: str) -> dict[str, Any]:
    modalities = subset.split("+")
    gains = {
        added: _gain(cases, subset, "+".join(m for m in modalities if m != added))
        for added in (modalities if len(modalities) > 1 else ())
    }
    return {**scored(cases, subset), **_curves(cases, subset), "gains": gains}


def _curves(cases: Sequence[ClassifiedCase], subset: str | None) -> dict[str, Any]:
    probabilities, truth = _answers(cases, subset)
    return {
        "confusion": confusion(probabilities, truth),
        "roc": roc_of_classes(probabilities, truth, [c.patient for c in cases]),
    }


def _gain(cases: Sequence[ClassifiedCase], subset: str, without: str) -> dict[str, Any]:
    """What a modality adds, paired; rows of different subsets are of different patients."""
    truth = np.array([c.truth for c in cases], np.int64)
    more, less = (np.array([c.probabilities[s] for c in cases]) for s in (subset, without))

    def measure(rows: classes.Ints) -> dict[str, float]:
        after, before = (classes.scores(p[rows], truth[rows]) for p in (more, less))
        return {name: after[name] - before[name] for name in ("f1", "auc")}

    point = measure(np.arange(len(cases)))
    bounds = classes.intervals(measure, [c.patient for c in cases], rounds=_ROUNDS)
    return {name: {"value": point[name], "ci95": list(bounds[name])} for name in point}


def scored(cases: Sequence[ClassifiedCase], subset: str | None) -> dict[str, Any]:
    """The figures of one subset, or of whatever serving uses (None), and beside them what the
    picture's properties alone reach on the same patients.

    `malignant_auc` and `picture_properties_auc` are of malignant against other tumours.
    """
    probabilities, truth = _answers(cases, subset)
    malignant = truth == MALIGNANT
    guessed = np.array([c.property_score for c in cases], np.float64)

    def measure(rows: Any) -> dict[str, float]:
        own, shown = probabilities[rows], rows[np.isfinite(guessed[rows])]
        return {
            **classes.scores(own, truth[rows]),
            "malignant_auc": classes.binary_auc(own[:, MALIGNANT], malignant[rows]),
            "picture_properties_auc": classes.binary_auc(guessed[shown], malignant[shown]),
        }

    point = measure(np.arange(len(cases)))
    bounds = classes.intervals(measure, [c.patient for c in cases], rounds=_ROUNDS)
    return {
        "n": len(cases),
        **{name: {"value": point[name], "ci95": list(bounds[name])} for name in point},
        "calibration_error": classes.calibration_error(probabilities, truth),
        "chance_calibration_error": classes.chance_calibration_error(probabilities),
    }


def _answers(
    cases: Sequence[ClassifiedCase], subset: str | None
) -> tuple[classes.Floats, classes.Ints]:
    """Probabilities, shape (n, 3), and true classes."""
    used = [c.served or "" if subset is None else subset for c in cases]
    probabilities = np.array([c.probabilities[s] for c, s in zip(cases, used, strict=True)])
    return probabilities, np.array([c.truth for c in cases], np.int64)


def _served(cases: Sequence[ClassifiedCase]) -> dict[str, Any]:
    probabilities, truth = _answers(cases, None)
    sets = np.array([c.sets[c.served or ""] for c in cases])
    alone = (sets.sum(axis=1) == 1) & np.array([c.assessed for c in cases])
    right = probabilities.argmax(axis=1) == truth
    return {
        **scored(cases, None),
        **_curves(cases, None),
        "reliability": classes.reliability(probabilities, truth),
        "sets": classes.coverage(sets, truth),
        "abstained": float(1 - alone.mean()),
        "accuracy_when_answered": float(right[alone].mean()) if alone.any() else None,
        "risk_coverage": thin(classes.risk_coverage(probabilities, truth)),
        "decision_curve": classes.decision_curve(probabilities, truth),
        "slices": {
            label: _slices(cases, probabilities, truth, label)
            for label in sorted({k for c in cases for k in c.labels})
        },
    }


def _slices(
    cases: Sequence[ClassifiedCase], probabilities: classes.Floats, truth: classes.Ints, label: str
) -> dict[str, Any]:
    values = [c.labels.get(label, "unknown") for c in cases]
    answer = {}
    for value in sorted(set(values)):
        rows = np.array([v == value for v in values])
        if int(rows.sum()) >= _LEAST_SLICE:
            answer[value] = {
                "n": int(rows.sum()),
                "accuracy": float((probabilities.argmax(axis=1) == truth)[rows].mean()),
                "auc": classes.macro_auc(probabilities[rows], truth[rows]),
            }
    return answer


def precision_of(
    images: Sequence[ScoredImage], ious: Sequence[float], size: str | None = None
) -> dict[str, Any]:
    """Average precision, the mean over the IoUs, resampling patients."""
    matched = [[tally(i, least) for i in images] for least in ious]

    def measure(rows: Sequence[int]) -> float:
        return float(np.mean([area_of([tallies[r] for r in rows], size) for tallies in matched]))

    groups = [i.patient for i in images]
    low, high = classes.interval(measure, groups, rounds=_ROUNDS if len(ious) == 1 else 100)
    return {"value": measure(range(len(images))), "ci95": [low, high]}


def _at(curve: Sequence[tuple[float, float, float]], rate: float) -> float:
    reached = [s for _, false, s in curve if false <= rate]
    return max(reached, default=0.0)
