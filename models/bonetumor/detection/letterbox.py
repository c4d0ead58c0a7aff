"""From a clinical image to the detector's square input, and boxes back to stored pixels."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.domain.image import BoundingBox

_GREY = 114


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterbox:
    """The scale and the padding that put an image into a square, and their inverse."""

    scale_x: float
    scale_y: float
    left: int
    top: int
    rows: int
    columns: int

    def to_stored(self, x0: float, y0: float, x1: float, y1: float) -> BoundingBox | None:
        """The box in stored pixels, clipped to the image; None if nothing of it lies inside."""
        left = min(max((x0 - self.left) / self.scale_x, 0.0), float(self.columns))
        right = min(max((x1 - self.left) / self.scale_x, 0.0), float(self.columns))
        top = min(max((y0 - self.top) / self.scale_y, 0.0), float(self.rows))
        bottom = min(max((y1 - self.top) / self.scale_y, 0.0), float(self.rows))
        if right <= left or bottom <= top:
            return None
        return BoundingBox(x0=left, y0=top, x1=right, y1=bottom)


def letterbox(pixels: NDArray[np.uint8], side_px: int) -> tuple[NDArray[np.uint8], Letterbox]:
    """`pixels` (rows, columns) uint8, scaled with its aspect kept into (side, side)."""
    rows, columns = pixels.shape
    scale = side_px / max(rows, columns)
    height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(pixels, (width, height), interpolation=method)
    top, left = (side_px - height) // 2, (side_px - width) // 2
    square = np.full((side_px, side_px), _GREY, np.uint8)
    square[top : top + height, left : left + width] = resized
    placed = Letterbox(
        scale_x=width / columns,
        scale_y=height / rows,
        left=left,
        top=top,
        rows=rows,
        columns=columns,
    )
    return square, placed
