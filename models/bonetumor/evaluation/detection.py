"""How well boxes are found: average precision, FROC, sensitivity, false positives."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from bonetumor.domain.image import Corners, iou

SMALL_PX = 32.0
MEDIUM_PX = 96.0
IOUS = tuple(float(v) for v in np.arange(0.5, 0.96, 0.05))
_SIDE_PX = 640.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredImage:
    """One image: its true boxes (none on a normal one) and what was found, box and score.

    `longest_px` is the image's longer side, for sizes at 640 px; `labels` are for slices.
    """

    patient: str
    truth: tuple[Corners, ...]
    found: tuple[tuple[Corners, float], ...]
    longest_px: int
    labels: dict[str, str] = field(default_factory=dict)


def size_of(box: Corners, longest_px: int) -> str:
    """small, medium or large after COCO's areas, with the image's longer side at 640 px."""
    scale = _SIDE_PX / longest_px
    side = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1]))) * scale
    return "small" if side < SMALL_PX else "medium" if side < MEDIUM_PX else "large"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """One image matched at one IoU: for each found box its score, whether it met a true box, and
    the size that decides whether it counts (that of the true box it met, else its own)."""

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    sizes: NDArray[np.str_]
    truth_sizes: tuple[str, ...]


def tally(image: ScoredImage, least_iou: float) -> Tally:
    """Matches once, so that resampling images need not."""
    matched = _match(image, least_iou)
    truth_sizes = tuple(size_of(b, image.longest_px) for b in image.truth)
    sizes = [
        size_of(box, image.longest_px) if met is None else truth_sizes[met]
        for (box, _), met in zip(image.found, matched, strict=True)
    ]
    return Tally(
        scores=np.array([score for _, score in image.found], np.float64),
        hits=np.array([met is not None for met in matched], np.bool_),
        sizes=np.array(sizes, np.str_),
        truth_sizes=truth_sizes,
    )


def average_precision(
    images: Sequence[ScoredImage], least_iou: float, *, size: str | None = None
) -> float:
    """Area under the precision–recall curve, interpolated at every recall (PASCAL VOC 2010).

    With `size`, only true boxes of that size count: what meets another true box, and what is of
    another size and meets none, counts neither for nor against (as COCO does). NaN without any.
    """
    return area_of([tally(i, least_iou) for i in images], size)


def area_of(tallies: Sequence[Tally], size: str | None = None) -> float:
    """The average precision of images that were matched already."""
    positives = sum(len(t.truth_sizes) if size is None else t.truth_sizes.count(size)
                    for t in tallies)  # fmt: skip
    if not positives:
        return float("nan")  # nothing to find
    scores = np.concatenate([t.scores for t in tallies])
    hits = np.concatenate([t.hits for t in tallies])
    if size is not None:
        counts = np.concatenate([t.sizes for t in tallies]) == size
        scores, hits = scores[counts], hits[counts]
    if not len(scores):
        return 0.0
    found = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    recall = np.concatenate([[0.0], found / positives])
    precision = found / np.arange(1, len(scores) + 1)
    ceiling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * ceiling))


def sensitivity(
    images: Sequence[ScoredImage],
    threshold: float,
    least_iou: float = 0.5,
    *,
    size: str | None = None,
) -> tuple[int, int]:
    """True boxes, of a size if it is given, found at the operating point, of how many."""
    found = total = 0
    for image in images:
        kept = _above(image, threshold)
        met = {m for m in _match(kept, least_iou) if m is not None}
        sizes = [size_of(box, image.longest_px) for box in image.truth]
        chosen = [i for i, own in enumerate(sizes) if size in (None, own)]
        total += len(chosen)
        found += sum(i in met for i in chosen)
    return found, total


def false_positives(images: Iterable[ScoredImage], threshold: float) -> list[int]:
    """False boxes on each normal image at the operating point."""
    return [len(_above(i, threshold).found) for i in images if not i.truth]


def froc(images: Sequence[ScoredImage], least_iou: float = 0.5) -> list[tuple[float, float, float]]:
    """(threshold, false boxes per image over all images, sensitivity), the strictest first."""
    total = sum(len(i.truth) for i in images)
    ranked = sorted(
        (
            (score, met is not None)
            for image in images
            for (_, score), met in zip(image.found, _match(image, least_iou), strict=True)
        ),
        key=lambda pair: -pair[0],
    )
    hits = false = 0
    curve = []
    for score, hit in ranked:
        hits, false = hits + hit, false + (not hit)
        curve.append((score, false / max(1, len(images)), hits / max(1, total)))
    return curve


def operating_point(images: Sequence[ScoredImage], false_positives_per_normal: float) -> float:
    """The least score at which normal images show no more false boxes than allowed, so many fewer
    that, with 95 % confidence (Garwood, Biometrika 1936), it holds for others too; none at all if
    they are too few for that."""
    normals = [i for i in images if not i.truth]
    scores = sorted((score for i in normals for _, score in i.found), reverse=True)
    limit = false_positives_per_normal * len(normals)
    counts = np.arange(1, len(scores))
    allowed = int((chi2.ppf(0.95, 2 * (counts + 1)) / 2 <= limit).sum())
    return float(scores[allowed]) + 1e-6 if len(scores) > allowed else 0.05


def _above(image: ScoredImage, threshold: float) -> ScoredImage:
    kept = tuple(pair for pair in image.found if pair[1] >= threshold)
    return ScoredImage(
        patient=image.patient, truth=image.truth, found=kept, longest_px=image.longest_px
    )


def _match(image: ScoredImage, least_iou: float) -> list[int | None]:
    """For each found box the true box it meets: the most certain first, each true box once."""
    free = set(range(len(image.truth)))
    answers: list[int | None] = [None] * len(image.found)
    for index in sorted(range(len(image.found)), key=lambda i: -image.found[i][1]):
        box = image.found[index][0]
        best = max(free, key=lambda t: iou(box, image.truth[t]), default=None)
        if best is not None and iou(box, image.truth[best]) >= least_iou:
            answers[index] = best
            free.remove(best)
    return answers
