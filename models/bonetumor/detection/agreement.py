"""Where the boxes that non-maximum suppression drops agree with the one it keeps, and one box for
each lesion.

The neighbours of the best-scored box are guesses at the same edges; their mean is nearer to the
tumour than the best alone (box voting: Gidaris and Komodakis, ICCV 2015). Measured:
`deploy/decisions/0005-detector.md`.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bonetumor.detection.vision import load_ultralytics

_LEAST_IOU = 0.5
_LEAST_SHARE = 0.3  # of the kept box's score: fainter guesses know less
_NESTED = 0.7  # of the smaller box that lies in the greater


def agreed(kept: NDArray[np.float32], prediction: NDArray[np.float32]) -> NDArray[np.float32]:
    """`kept`, (n, 6) of x0, y0, x1, y1, score, class, with each box moved to the mean of those in
    `prediction`, (5, anchors) of centre, size and score, that overlap it, weighed by score.

    Scores stay. Which boxes take part depends on the score of the kept one, not on the operating
    point, so that a detector with any threshold moves a box to the same place.
    """
    centre, half, scores = prediction[:2], prediction[2:4] / 2, prediction[4]
    boxes = np.concatenate([centre - half, centre + half]).T
    overlaps = _load_overlap()(torch.from_numpy(kept[:, :4]), torch.from_numpy(boxes)).numpy()
    moved = kept.copy()
    for row, overlap in zip(moved, overlaps, strict=True):
        partners = (overlap > _LEAST_IOU) & (scores >= _LEAST_SHARE * row[4])
        if partners.any():  # the box itself, unless it has no area
            row[:4] = np.average(boxes[partners], axis=0, weights=scores[partners])
    return moved


def single(kept: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of `kept`, (n, 6), the surest first, those that do not lie in a surer box or about one:
    suppression by intersection over union leaves a small box within a large one of the same lesion,
    and both would be counted."""
    chosen: list[NDArray[np.float32]] = []
    for row in kept:
        if not any(_shared(row, other) >= _NESTED for other in chosen):
            chosen.append(row)
    return np.stack(chosen) if chosen else kept


def _shared(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """How much of the smaller box lies in the other, 0 to 1."""
    sides = np.minimum(first[2:4], second[2:4]) - np.maximum(first[:2], second[:2])
    areas = [float(np.prod(box[2:4] - box[:2])) for box in (first, second)]
    return float(np.prod(sides.clip(0))) / max(min(areas), 1e-9)


@cache  # to load ultralytics is no matter of every image: it writes its settings each time
def _load_overlap() -> Any:
    load_ultralytics()
    from ultralytics.utils.metrics import box_iou

    return box_iou
