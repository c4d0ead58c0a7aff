"""The figures of each source: a centre, a hospital, a published collection."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bonetumor.evaluation.cases import ClassifiedCase
from bonetumor.evaluation.detection import ScoredImage
from bonetumor.evaluation.findings import summarise_findings
from bonetumor.evaluation.summary import precision_of, scored, subsets_of

_UNNAMED = "not named"
_CLASS_FIGURES = ("n", "auc", "malignant_auc", "picture_properties_auc")


def summarise_sources(
    images: Sequence[ScoredImage], cases: Sequence[ClassifiedCase], threshold: float
) -> dict[str, Any]:
    """For each centre what is found at the operating point, and how well each subset of modalities
    tells the classes; also with a single one, and with those that name none under one name."""

    def centre(labels: dict[str, str]) -> str:
        return labels.get("centre", _UNNAMED)

    names = sorted({centre(i.labels) for i in images} | {centre(c.labels) for c in cases})
    return {
        name: {
            "detection": summarise_findings(
                [i for i in images if centre(i.labels) == name], threshold
            ),
            "classification": _classification([c for c in cases if centre(c.labels) == name]),
        }
        for name in names
    }


def _classification(cases: Sequence[ClassifiedCase]) -> dict[str, Any]:
    subsets = {}
    for subset in subsets_of(cases):
        figures = scored([c for c in cases if subset in c.probabilities], subset)
        subsets[subset] = {name: figures[name] for name in _CLASS_FIGURES}
    return {
        "patients": len(cases),
        "not_assessed": sum(not c.assessed for c in cases),
        "subsets": subsets,
    }


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
        "mAP@0.5": precision_of(images, (0.5,)),
        "mAP@0.5, small": precision_of(images, (0.5,), "small"),
        "sensitivity": found["sensitivity"],
        "false boxes per normal image": found["false_positives_per_normal"],
    }
    for subset in subsets_of(cases):
        own = [c for c in cases if subset in c.probabilities]
        figures = scored(own, subset)
        chief |= {f"{name}, {subset}": figures[name] for name in ("precision", "f1", "auc")}
    return chief


def _range(name: str, centres: Iterable[dict[str, dict[str, Any]]]) -> list[float] | None:
    found = (figures[name]["value"] for figures in centres if name in figures)
    values = [v for v in found if v is not None and np.isfinite(v)]
    return [min(values), max(values)] if values else None
