"""The worst mistakes at the operating point, one by one: lesions missed and false boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bonetumor.domain.image import Corners, iou
from bonetumor.evaluation.detection import ScoredImage, at_operating_point, match

_LEAST_IOU = 0.5


class Kind(StrEnum):
    """What went wrong."""

    MISSED = "missed"
    FALSE_ON_NORMAL = "false-on-normal"
    FALSE_ON_TUMOUR = "false-on-tumour"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One mistake on the image with the number `image`.

    `box`: the lesion that was missed, or the box that was false. `score`: of the box, or for a
    missed lesion of the most certain box that overlaps it at all; nought without one, or if the
    image was not assessed.
    """

    kind: Kind
    image: int
    box: Corners
    score: float


def worst_misses(images: Sequence[ScoredImage], threshold: float, most: int) -> list[Mistake]:
    """The lesions missed by most: those that no box overlaps, or only faint ones, come first, and
    among them the greatest (of the image's longer side)."""
    found = [
        (Mistake(kind=Kind.MISSED, image=number, box=box, score=_overlapping(image, box)), image)
        for number, image in enumerate(images)
        for box in _missed(image, threshold)
    ]
    found.sort(key=lambda pair: (pair[0].score, -_area(pair[0].box) / pair[1].longest_px ** 2))
    return [mistake for mistake, _ in found[:most]]


def worst_false_boxes(
    images: Sequence[ScoredImage], threshold: float, most: int, kind: Kind
) -> list[Mistake]:
    """The most certain boxes that meet no lesion at IoU 0.5: on normal images, or on those with a
    tumour, as `kind` says."""
    found = []
    for number, image in enumerate(images):
        if bool(image.truth) != (kind is Kind.FALSE_ON_TUMOUR):
            continue
        kept = at_operating_point(image, threshold)
        found += [
            Mistake(kind=kind, image=number, box=box, score=score)
            for (box, score), met in zip(kept.counted, match(kept, _LEAST_IOU), strict=True)
            if met is None
        ]
    return sorted(found, key=lambda mistake: -mistake.score)[:most]


def _missed(image: ScoredImage, threshold: float) -> list[Corners]:
    met = set(match(at_operating_point(image, threshold), _LEAST_IOU))
    return [box for number, box in enumerate(image.truth) if number not in met]


def _overlapping(image: ScoredImage, lesion: Corners) -> float:
    scores = (score for box, score in image.counted if iou(box, lesion) > 0)
    return max(scores, default=0.0)


def _area(box: Corners) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
