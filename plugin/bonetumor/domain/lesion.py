"""What the detector found."""

from dataclasses import dataclass

from bonetumor.domain.image import BoundingBox, ImageReference
from bonetumor.domain.uid import UID, derived_uid


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One box on one image with the detector's confidence, 0 to 1."""

    image: ImageReference
    box: BoundingBox
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """A detection that is followed under one identity through every result."""

    tracking_identifier: str
    tracking_uid: UID
    detection: Detection


def name_lesions(run_key: str, detections: tuple[Detection, ...]) -> tuple[Lesion, ...]:
    """Gives each detection a stable identity, the most certain first."""
    ranked = sorted(
        detections, key=lambda d: (-d.score, d.image.sop_instance_uid, d.box.as_tuple())
    )
    return tuple(
        Lesion(
            tracking_identifier=f"Lesion {number}",
            tracking_uid=derived_uid(run_key, "lesion", str(number)),
            detection=detection,
        )
        for number, detection in enumerate(ranked, start=1)
    )
