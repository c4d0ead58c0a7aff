"""How well boxes are found: average precision and the operating point."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bonetumor.domain.lesion import Detection

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One picture: its true box, or None for a normal one, and what was found on it."""

    truth: Box | None
    found: tuple[Detection, ...]


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return width * height / (sum(areas) - width * height)


def average_precision(pictures: Sequence[Scored], least_iou: float) -> float:
    """Area under the precision–recall curve, interpolated at every recall (PASCAL VOC 2010)."""
    positives = sum(p.truth is not None for p in pictures)
    ranked = sorted(
        ((d.score, hit) for p in pictures for d, hit in _hits(p, least_iou)), key=lambda r: -r[0]
    )
    if not positives or not ranked:
        return 0.0
    hits = np.cumsum([hit for _, hit in ranked])
    recall = np.concatenate([[0.0], hits / positives])
    precision = hits / np.arange(1, len(ranked) + 1)
    ceiling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * ceiling))


def operating_point(pictures: Sequence[Scored], false_positives_per_normal: float) -> float:
    """The least score at which normal pictures show no more false boxes than allowed."""
    normals = [p for p in pictures if p.truth is None]
    scores = sorted((d.score for p in normals for d in p.found), reverse=True)
    allowed = int(false_positives_per_normal * len(normals))
    return float(scores[allowed]) + 1e-6 if len(scores) > allowed else 0.05


def _hits(picture: Scored, least_iou: float) -> list[tuple[Detection, bool]]:
    """Each detection and whether it is the first to meet the true box."""
    met, pairs = False, []
    for detection in sorted(picture.found, key=lambda d: -d.score):
        hit = (
            not met
            and picture.truth is not None
            and iou(detection.box.as_tuple(), picture.truth) >= least_iou
        )
        met = met or hit
        pairs.append((detection, hit))
    return pairs
