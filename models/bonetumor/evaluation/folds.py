"""Figures of cross-fitted networks: each picture answered by the one that has not seen it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bonetumor.domain.image import iou
from bonetumor.evaluation import classification as classes
from bonetumor.evaluation.detection import ScoredImage, area_of, tally

FOUND_IOU = 0.3  # a picture is found by a box that a reader would take for the tumour
_TINY_PX = 8.0  # of a box's shorter side, with the picture's longer side at 256
_SIDE_PX = 256.0
_ROUNDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldImage:
    """What the network of `fold` says of a picture that it has not seen. `unseen` if it has seen no
    normal picture of the whole source; `group` keeps pictures of one person together; `measures`
    are distance and lean, as `detection.familiarity` has them."""

    fold: int
    unseen: bool
    group: str
    labels: dict[str, str]
    measures: tuple[float, float]
    image: ScoredImage


def summarise_folds(held: Sequence[HeldImage], thresholds: Mapping[int, float]) -> dict[str, Any]:
    """Figures at the operating point of each fold, which should come from the others, each with a
    95 % interval over groups.

    A source that was left out counts in its own row alone; its pictures that the networks of the
    other folds answered stay in the pooled ones.
    """
    tumours = [h for h in held if h.image.truth]
    normals = [h for h in held if not h.image.truth and not h.unseen]
    unseen = [h for h in held if h.unseen]
    pooled = [*tumours, *normals]

    def found(rows: Sequence[HeldImage]) -> float:
        return float(np.mean([is_found(h.image, thresholds[h.fold]) for h in rows]))

    def false(rows: Sequence[HeldImage]) -> float:
        return float(np.mean([_above(h.image, thresholds[h.fold]) for h in rows]))

    return {
        "thresholds": {str(fold): value for fold, value in thresholds.items()},
        "pictures": {"tumour": len(tumours), "normal": len(normals), "unseen": len(unseen)},
        "map50": _figure(pooled, _precision),
        "map50_without_tiny": _figure([h for h in pooled if not _is_tiny(h.image)], _precision),
        "image_auc": _figure(pooled, _image_auc),
        "found": _figure(tumours, found),
        "false_boxes_per_normal": _figure(normals, false),
        **{f"found_by_{label}": _by(label, tumours, found) for label in ("class", "type", "age")},
        **{
            f"false_boxes_by_{label}": _by(label, normals, false)
            for label in ("centre", "site", "age")
        },
        "false_boxes_on_unseen": _by("centre", unseen, false),
    }


def is_found(image: ScoredImage, threshold: float) -> bool:
    """Whether a box above the threshold meets a true one."""
    return any(
        score >= threshold and iou(box, truth) >= FOUND_IOU
        for box, score in image.found
        for truth in image.truth
    )


def _figure(
    rows: Sequence[HeldImage], measure: Callable[[Sequence[HeldImage]], float]
) -> dict[str, Any]:
    if not rows:
        return {"value": None, "ci95": [None, None], "n": 0}
    low, high = classes.interval(
        lambda drawn: measure([rows[i] for i in drawn]), [h.group for h in rows], rounds=_ROUNDS
    )
    return {"value": measure(rows), "ci95": [low, high], "n": len(rows)}


def _by(
    label: str, rows: Sequence[HeldImage], measure: Callable[[Sequence[HeldImage]], float]
) -> dict[str, Any]:
    """The figure for each value of a label."""
    values = sorted({h.labels[label] for h in rows if label in h.labels})
    return {v: _figure([h for h in rows if h.labels.get(label) == v], measure) for v in values}


def _precision(rows: Sequence[HeldImage]) -> float:
    return area_of([tally(h.image, 0.5) for h in rows])


def _above(image: ScoredImage, threshold: float) -> int:
    return sum(score >= threshold for _, score in image.found)


def _image_auc(rows: Sequence[HeldImage]) -> float:
    top = [max((s for _, s in h.image.found), default=0.0) for h in rows]
    has = [bool(h.image.truth) for h in rows]
    return classes.separation(
        [t for t, yes in zip(top, has, strict=True) if yes],
        [t for t, yes in zip(top, has, strict=True) if not yes],
    )


def _is_tiny(image: ScoredImage) -> bool:
    """Whether a box of the picture is too small to be seen well at 256 px."""
    scale = _SIDE_PX / image.longest_px
    return any(min(b[2] - b[0], b[3] - b[1]) * scale < _TINY_PX for b in image.truth)
