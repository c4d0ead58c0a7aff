"""From predictions to the figures of `evaluation.json`, each with a 95 % interval.

Intervals are percentile bootstraps over patients. Keys are documented in `deploy/evaluation.md`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bonetumor.domain.assessment import TumourClass
from bonetumor.evaluation import classification as classes
from bonetumor.evaluation.detection import IOUS, SIZES, ScoredImage, area_of, froc, tally
from bonetumor.evaluation.findings import summarise_findings

_ROUNDS = 500
_FALSE_RATES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_LEAST_SLICE = 10
_PROBED = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifiedCase:
    """One patient: the true class, and the probabilities and prediction set of each subset of
    modalities that the patient has. `served`: the subset that serving would use, if any. Serving
    abstains where the image was not `assessed`, because it is out of distribution."""

    patient: str
    truth: int
    probabilities: dict[str, tuple[float, ...]]
    sets: dict[str, tuple[bool, ...]]
    served: str | None
    image_size: list[float]
    metadata: list[float]
    labels: dict[str, str] = field(default_factory=dict)
    assessed: bool = True


def summarise_detection(images: Sequence[ScoredImage], threshold: float) -> dict[str, Any]:
    """Average precision, FROC, and what is found at the operating point."""
    curve = froc(images)
    return {
        "threshold": threshold,
        "map50": _precision(images, (0.5,)),
        "map50_95": _precision(images, IOUS),
        "map50_by_size": {size: _precision(images, (0.5,), size) for size in SIZES},
        **summarise_findings(images, threshold),
        "froc": [
            {"false_per_image": rate, "sensitivity": _at(curve, rate)} for rate in _FALSE_RATES
        ],
    }


def summarise_classes(cases: Sequence[ClassifiedCase]) -> dict[str, Any]:
    """The ablation over subsets, calibration, coverage, abstention, slices and leakage probes."""
    result: dict[str, Any] = {
        "patients": len(cases),
        "not_assessed": sum(not c.assessed for c in cases),
        "by_class": {str(c): sum(x.truth == i for x in cases) for i, c in enumerate(TumourClass)},
        "subsets": {
            s: _subset([c for c in cases if s in c.probabilities], s) for s in _subsets(cases)
        },
    }
    served = [c for c in cases if c.served]
    if served:
        result["served"] = _served(served)
    result["probes"] = _probes(cases)
    return result


def summarise_centres(
    images: Sequence[ScoredImage], cases: Sequence[ClassifiedCase], threshold: float
) -> dict[str, Any]:
    """The chief figures of each centre, and their range over the centres; empty with only one."""
    labels = [i.labels for i in images] + [c.labels for c in cases]
    centres = sorted({own["centre"] for own in labels if "centre" in own})
    if len(centres) < 2:
        return {}
    each = {
        centre: _chief(
            [i for i in images if i.labels.get("centre") == centre],
            [c for c in cases if c.labels.get("centre") == centre],
            threshold,
        )
        for centre in centres
    }
    names = dict.fromkeys(name for figures in each.values() for name in figures)
    return {"each": each, "range": {name: _range(name, each.values()) for name in names}}


def _chief(
    images: Sequence[ScoredImage], cases: Sequence[ClassifiedCase], threshold: float
) -> dict[str, dict[str, Any]]:
    """Detection, and classification by each subset of modalities."""
    found = summarise_findings(images, threshold)
    chief = {
        "mAP@0.5": _precision(images, (0.5,)),
        "mAP@0.5, small": _precision(images, (0.5,), "small"),
        "sensitivity": found["sensitivity"],
        "false boxes per normal image": found["false_positives_per_normal"],
    }
    for subset in _subsets(cases):
        own = [c for c in cases if subset in c.probabilities]
        figures = _scored(own, np.array([c.probabilities[subset] for c in own]))
        chief |= {f"{name}, {subset}": figures[name] for name in ("precision", "f1", "auc")}
    return chief


def _range(name: str, centres: Iterable[dict[str, dict[str, Any]]]) -> list[float] | None:
    found = (figures[name]["value"] for figures in centres if name in figures)
    values = [v for v in found if v is not None and np.isfinite(v)]
    return [min(values), max(values)] if values else None


def _subsets(cases: Sequence[ClassifiedCase]) -> list[str]:
    return sorted({s for c in cases for s in c.probabilities}, key=lambda s: (s.count("+"), s))


def _subset(cases: Sequence[ClassifiedCase], subset: str) -> dict[str, Any]:
    probabilities = np.array([c.probabilities[subset] for c in cases])
    modalities = subset.split("+")
    gains = {
        added: _gain(cases, subset, "+".join(m for m in modalities if m != added))
        for added in (modalities if len(modalities) > 1 else ())
    }
    return {**_scored(cases, probabilities), "gains": gains}


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


def _scored(cases: Sequence[ClassifiedCase], probabilities: classes.Floats) -> dict[str, Any]:
    truth = np.array([c.truth for c in cases], np.int64)
    groups = [c.patient for c in cases]
    point = classes.scores(probabilities, truth)
    bounds = classes.intervals(
        lambda rows: classes.scores(probabilities[rows], truth[rows]), groups, rounds=_ROUNDS
    )
    return {
        "n": len(cases),
        **{name: {"value": point[name], "ci95": list(bounds[name])} for name in point},
        "calibration_error": classes.calibration_error(probabilities, truth),
        "chance_calibration_error": classes.chance_calibration_error(probabilities),
    }


def _served(cases: Sequence[ClassifiedCase]) -> dict[str, Any]:
    probabilities = np.array([c.probabilities[c.served or ""] for c in cases])
    sets = np.array([c.sets[c.served or ""] for c in cases])
    truth = np.array([c.truth for c in cases], np.int64)
    alone = (sets.sum(axis=1) == 1) & np.array([c.assessed for c in cases])
    right = probabilities.argmax(axis=1) == truth
    return {
        **_scored(cases, probabilities),
        "reliability": classes.reliability(probabilities, truth),
        "sets": classes.coverage(sets, truth),
        "abstained": float(1 - alone.mean()),
        "accuracy_when_answered": float(right[alone].mean()) if alone.any() else None,
        "risk_coverage": classes.risk_coverage(probabilities, truth),
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


def _probes(cases: Sequence[ClassifiedCase]) -> dict[str, Any]:
    """What image size alone, and age, sex, site and box shape alone, would reach."""
    truth = np.array([c.truth for c in cases], np.int64)
    if len(cases) < _PROBED or min(np.bincount(truth, minlength=3)) < 5:
        return {}
    groups = [c.patient for c in cases]
    answer = {}
    for name, features in (
        ("image_size_only", np.array([c.image_size for c in cases])),
        ("age_sex_site_and_box", np.array([c.metadata for c in cases])),
    ):
        value, low, high = classes.probe_auc(features, truth, groups)
        answer[name] = {"auc": {"value": value, "ci95": [low, high]}}
    return answer


def _precision(
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
