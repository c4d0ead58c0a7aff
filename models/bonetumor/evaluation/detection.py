"""How well boxes are found: average precision, FROC, sensitivity, false positives."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from bonetumor.domain.image import Corners, iou

SMALL_PX = 32.0
MEDIUM_PX = 96.0
TINY_PX = 8.0
SIZES = ("tiny", "small", "medium", "large")
IOUS = tuple(float(v) for v in np.arange(0.5, 0.96, 0.05))
_SIDE_PX = 640.0
_TINY_SIDE_PX = 256.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredImage:
    """One image: its true boxes (none on a normal one) and what was found, box and score.

    `longest_px` is the image's longer side, for sizes at 640 px; `labels` are for slices. An image
    that was not `assessed`, because it is out of distribution, stays in every denominator: what
    was found there does not count, so its tumours are missed.
    """

    patient: str
    truth: tuple[Corners, ...]
    found: tuple[tuple[Corners, float], ...]
    longest_px: int
    labels: dict[str, str] = field(default_factory=dict)
    assessed: bool = True

    @property
    def counted(self) -> tuple[tuple[Corners, float], ...]:
        """What was found, where the image was assessed."""
        return self.found if self.assessed else ()


def size_of(box: Corners, longest_px: int) -> str:
    """small, medium or large after COCO's areas, with the image's longer side at 640 px."""
    side = _side_px(box, longest_px, _SIDE_PX)
    return "small" if side < SMALL_PX else "medium" if side < MEDIUM_PX else "large"


def is_of_size(box: Corners, longest_px: int, size: str | None) -> bool:
    """Whether a box is of one of `SIZES`; every box is of the size None.

    A tiny box, which is a small one too, measures less than 8 px, the square root of its area,
    with the image's longer side at 256 px.
    """
    if size == "tiny":
        return _side_px(box, longest_px, _TINY_SIDE_PX) < TINY_PX
    return size is None or size == size_of(box, longest_px)


def _side_px(box: Corners, longest_px: int, scaled_to_px: float) -> float:
    """The square root of a box's area, with the image's longer side scaled."""
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1]))) * scaled_to_px / longest_px


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """One image matched at one IoU: for each found box its score, whether it met a true box, and
    for each size whether it counts there (as the true box it met does, else by its own size);
    and how many true boxes there are of each size, and of any (None)."""

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    sizes: Mapping[str, NDArray[np.bool_]]
    truths: Mapping[str | None, int]


def tally(image: ScoredImage, least_iou: float) -> Tally:
    """Matches once, so that resampling images need not."""
    matched = match(image, least_iou)
    deciding = [
        box if met is None else image.truth[met]
        for (box, _), met in zip(image.counted, matched, strict=True)
    ]

    def of_size(boxes: Iterable[Corners], size: str | None) -> list[bool]:
        return [is_of_size(box, image.longest_px, size) for box in boxes]

    return Tally(
        scores=np.array([score for _, score in image.counted], np.float64),
        hits=np.array([met is not None for met in matched], np.bool_),
        sizes={size: np.array(of_size(deciding, size), np.bool_) for size in SIZES},
        truths={size: sum(of_size(image.truth, size)) for size in (None, *SIZES)},
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
    positives = sum(t.truths[size] for t in tallies)
    if not positives:
        return float("nan")  # nothing to find
    scores = np.concatenate([t.scores for t in tallies])
    hits = np.concatenate([t.hits for t in tallies])
    if size is not None:
        counts = np.concatenate([t.sizes[size] for t in tallies])
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
    counts = [found_boxes(image, threshold, least_iou, size=size) for image in images]
    return sum(found for found, _ in counts), sum(total for _, total in counts)


def found_boxes(
    image: ScoredImage, threshold: float, least_iou: float, *, size: str | None = None
) -> tuple[int, int]:
    """True boxes of one image that were found at the operating point, of how many."""
    met = set(match(at_operating_point(image, threshold), least_iou))
    chosen = [i for i, b in enumerate(image.truth) if is_of_size(b, image.longest_px, size)]
    return sum(i in met for i in chosen), len(chosen)


def false_positives(images: Iterable[ScoredImage], threshold: float) -> list[int]:
    """False boxes on each normal image at the operating point."""
    return [len(at_operating_point(i, threshold).counted) for i in images if not i.truth]


def froc(images: Sequence[ScoredImage], least_iou: float = 0.5) -> list[tuple[float, float, float]]:
    """(threshold, false boxes per image over all images, sensitivity), the strictest first."""
    total = sum(len(i.truth) for i in images)
    ranked = sorted(
        (
            (score, met is not None)
            for image in images
            for (_, score), met in zip(image.counted, match(image, least_iou), strict=True)
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


def at_operating_point(image: ScoredImage, threshold: float) -> ScoredImage:
    """The image with the boxes of at least that score."""
    return replace(image, found=tuple(pair for pair in image.found if pair[1] >= threshold))


def match(image: ScoredImage, least_iou: float) -> list[int | None]:
    """For each box that counts the true box it meets: the most certain first, each true box
    once."""
    found = image.counted
    free = set(range(len(image.truth)))
    answers: list[int | None] = [None] * len(found)
    for index in sorted(range(len(found)), key=lambda i: -found[i][1]):
        box = found[index][0]
        best = max(free, key=lambda t: iou(box, image.truth[t]), default=None)
        if best is not None and iou(box, image.truth[best]) >= least_iou:
            answers[index] = best
            free.remove(best)
    return answers
