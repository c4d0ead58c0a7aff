"""What is found at the operating point: sensitivity and false boxes, whole and by what images say
of themselves.

Images that were not assessed stay in every denominator: their tumours are missed, and on a normal
one there is no false box.
"""

from collections.abc import Callable, Sequence
from typing import Any

from bonetumor.evaluation.detection import SIZES, ScoredImage, false_positives, found_boxes
from bonetumor.evaluation.ratios import Counts, marked, rates, shares

_TUMOUR_LABELS = ("site", "type", "age")
_NORMAL_LABELS = ("site", "age", "fracture")
_Figures = dict[str, Any]


def summarise_findings(images: Sequence[ScoredImage], threshold: float) -> _Figures:
    """Sensitivity and false boxes with intervals over patients, and how many images were not
    assessed. Keys are documented in `deploy/evaluation.md`."""
    tumours = [i for i in images if i.truth]
    normals = [i for i in images if not i.truth]
    return {
        "images_with_tumour": len(tumours),
        "boxes": sum(len(i.truth) for i in tumours),
        "normal_images": len(normals),
        "not_assessed": {
            "with_tumour": sum(not i.assessed for i in tumours),
            "normal": sum(not i.assessed for i in normals),
        },
        **_sensitivities(tumours, threshold),
        **_false_boxes(normals, threshold),
    }


def _sensitivities(tumours: Sequence[ScoredImage], threshold: float) -> _Figures:
    def counts(least_iou: float, size: str | None = None) -> tuple[list[float], list[float]]:
        pairs = [found_boxes(i, threshold, least_iou, size=size) for i in tumours]
        return [float(found) for found, _ in pairs], [float(total) for _, total in pairs]

    found, total = counts(0.5)
    named: dict[str, tuple[Sequence[float], Sequence[float]]] = {
        "sensitivity": (found, total),
        "sensitivity_at_iou_0.3": counts(0.3),
        **{f"size {size}": counts(0.5, size) for size in SIZES},
        **_sliced(tumours, _TUMOUR_LABELS, found, total),
    }
    said = shares(named, [i.patient for i in tumours])
    return {
        "sensitivity": said["sensitivity"],
        "sensitivity_at_iou_0.3": said["sensitivity_at_iou_0.3"],
        "sensitivity_by_size": {size: said[f"size {size}"] for size in SIZES},
        **_gathered(tumours, _TUMOUR_LABELS, "sensitivity_by", said.__getitem__),
    }


def _false_boxes(normals: Sequence[ScoredImage], threshold: float) -> _Figures:
    groups = [i.patient for i in normals]
    false = [float(n) for n in false_positives(normals, threshold)]
    one = [1.0] * len(normals)
    said = rates({"all": (false, one), **_sliced(normals, _NORMAL_LABELS, false, one)}, groups)
    without = shares({"all": ([float(n == 0) for n in false], one)}, groups)
    return {
        "false_positives_per_normal": said["all"],
        "normals_without_any": without["all"],
        **_gathered(normals, _NORMAL_LABELS, "false_positives_by", said.__getitem__),
    }


def _sliced(
    images: Sequence[ScoredImage],
    labels: Sequence[str],
    above: Sequence[float],
    below: Sequence[float],
) -> Counts:
    """The counts of the images of each value of each label."""
    sliced = {}
    for label in labels:
        for value in _values(images, label):
            chosen = [i.labels.get(label) == value for i in images]
            sliced[f"{label} {value}"] = (
                marked(above, chosen).tolist(),
                marked(below, chosen).tolist(),
            )
    return sliced


def _gathered(
    images: Sequence[ScoredImage],
    labels: Sequence[str],
    name: str,
    figure: Callable[[str], _Figures],
) -> _Figures:
    return {
        f"{name}_{label}": {value: figure(f"{label} {value}") for value in _values(images, label)}
        for label in labels
    }


def _values(images: Sequence[ScoredImage], label: str) -> list[str]:
    return sorted({i.labels[label] for i in images if label in i.labels})
