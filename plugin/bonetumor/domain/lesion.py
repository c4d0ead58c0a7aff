"""What the detector found."""

from dataclasses import dataclass

from bonetumor.domain.image import BoundingBox, ImageReference, iou
from bonetumor.domain.uid import UID, derived_uid

_LEAST_OVERLAP = 0.3
_FRAMES_APART = 3
_SLICES_APART_MM = 12.0
_LEVEL_APART = 0.15
_HEIGHTS_APART = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One box on one image with the detector's confidence, 0 to 1."""

    image: ImageReference
    box: BoundingBox
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """A detection of a lesion that is followed under one identity through every result.

    The same lesion on several images is several of these, with the same identifier and UID.
    """

    tracking_identifier: str
    tracking_uid: UID
    detection: Detection


def name_lesions(model_key: str, detections: tuple[Detection, ...]) -> tuple[Lesion, ...]:
    """Gives detections that show the same lesion one stable identity, the most certain first.

    The identity follows from the model and the lesion's most certain box alone: late blood, and
    late images that show it less well, leave it as it is.
    """
    ranked = sorted(
        detections,
        key=lambda d: (
            -d.score,
            d.image.sop_instance_uid,
            d.image.frame_number or 0,
            d.box.as_tuple(),
        ),
    )
    groups: list[list[Detection]] = []
    for detection in ranked:
        home = next((g for g in groups if _belongs(detection, g)), None)
        if home is None:
            groups.append([detection])
        else:
            home.append(detection)
    return tuple(
        Lesion(
            tracking_identifier=f"Lesion {number}",
            tracking_uid=derived_uid(model_key, "lesion", *_place(group[0])),
            detection=detection,
        )
        for number, group in enumerate(groups, start=1)
        for detection in group
    )


def key_lesions(lesions: tuple[Lesion, ...]) -> tuple[Lesion, ...]:
    """Of each lesion its most certain box in every view: on the key slice of a volume, on the key
    frame of a multi-frame object, and on each projection."""
    seen: set[tuple[UID, str]] = set()
    keys = []
    for lesion in sorted(lesions, key=lambda x: -x.detection.score):
        image = lesion.detection.image
        view = (lesion.tracking_uid, image.volume or image.sop_instance_uid)
        if view not in seen:
            seen.add(view)
            keys.append(lesion)
    return tuple(lesion for lesion in lesions if lesion in keys)


def _place(detection: Detection) -> tuple[str, ...]:
    frame = str(detection.image.frame_number or 0)
    return (detection.image.sop_instance_uid, frame, *map(repr, detection.box.as_tuple()))


def _belongs(detection: Detection, group: list[Detection]) -> bool:
    """Whether a detection shows the lesion of the group: at most one box of each image does."""
    if any(_frame(d) == _frame(detection) for d in group):
        return False
    image, first = detection.image, group[0].image
    if image.volume or first.volume:
        return image.volume == first.volume and any(_adjoins(detection, d) for d in group)
    if image.sop_instance_uid == first.sop_instance_uid:
        return any(_continues(detection, d) for d in group)
    return _same_level(detection, group[0])


def _frame(detection: Detection) -> tuple[UID, int | None]:
    return detection.image.sop_instance_uid, detection.image.frame_number


def _continues(first: Detection, second: Detection) -> bool:
    """Frames of one object that lie close together and show overlapping boxes."""
    apart = abs((first.image.frame_number or 0) - (second.image.frame_number or 0))
    return (
        apart <= _FRAMES_APART
        and iou(first.box.as_tuple(), second.box.as_tuple()) >= _LEAST_OVERLAP
    )


def _adjoins(first: Detection, second: Detection) -> bool:
    """Slices of one volume that lie close together and show overlapping boxes."""
    apart = abs(first.image.position_mm - second.image.position_mm)
    return (
        apart <= _SLICES_APART_MM
        and iou(first.box.as_tuple(), second.box.as_tuple()) >= _LEAST_OVERLAP
    )


def _same_level(first: Detection, second: Detection) -> bool:
    """Two views of the same body part and side: a lesion lies at the same level of both.

    Our assumption: views of one bone are taken with the bone the same way up and at about the
    same size. An image that does not say what it shows is never joined with another.
    """
    part = first.image.body_part
    if not part or part != second.image.body_part:
        return False
    levels, heights = [], []
    for detection in (first, second):
        box, rows = detection.box, detection.image.rows
        levels.append((box.y0 + box.y1) / 2 / rows)
        heights.append((box.y1 - box.y0) / rows)
    alike = max(heights) <= _HEIGHTS_APART * min(heights)
    return alike and abs(levels[0] - levels[1]) <= _LEVEL_APART
