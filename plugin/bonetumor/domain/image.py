"""Clinical images, ready for a detector, and boxes on them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.uid import UID

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundingBox:
    """A rectangle in pixel-edge coordinates: (0, 0) is the top left corner of the top left pixel.

    x grows to the right along a row, y downwards (PS3.3 C.18.6.1.2). Units are stored pixels.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        if not (self.x0 < self.x1 and self.y0 < self.y1):
            raise InvalidInput(f"box: expected x0 < x1 and y0 < y1, got {self.as_tuple()}")

    def as_tuple(self) -> Corners:
        """(x0, y0, x1, y1)."""
        return (self.x0, self.y0, self.x1, self.y1)


def iou(first: Corners, second: Corners) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return width * height / (sum(areas) - width * height)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """Which stored frame an image is. `frame_number` counts from 1; None for a single frame.

    `body_part`: what a projection image says that it shows, with its side; empty where it does
    not say, and for slices. `volume` names the stack that a slice belongs to, empty for anything
    else; `position_mm` is where along the stack's normal it lies.
    """

    sop_instance_uid: UID
    sop_class_uid: UID
    series_instance_uid: UID
    frame_number: int | None
    rows: int
    columns: int
    body_part: str = ""
    volume: str = ""
    position_mm: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClinicalImage:
    """One frame as a radiologist would see it.

    `pixels`: uint8, shape (rows, columns), bright bone on dark ground, in the stored matrix.
    """

    reference: ImageReference
    pixels: NDArray[np.uint8]
    spacing_mm: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        expected = (self.reference.rows, self.reference.columns)
        if self.pixels.dtype != np.uint8 or self.pixels.shape != expected:
            raise InvalidInput(
                f"image: expected uint8 of shape {expected}, "
                f"got {self.pixels.dtype} of shape {self.pixels.shape}"
            )
