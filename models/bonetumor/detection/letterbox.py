"""From a clinical image to the detector's square input, and boxes back to stored pixels."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.domain.image import BoundingBox
from bonetumor.radiograph.standard import standardise

_GREY = 114


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterbox:
    """The scale and the shift that put an image into a square, and their inverse. The shift is
    negative where borders were trimmed that are wider than the padding."""

    scale_x: float
    scale_y: float
    left: float
    top: float
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


def letterbox(
    pixels: NDArray[np.uint8], side_px: int, content_px: int | None = None
) -> tuple[NDArray[np.uint8], Letterbox]:
    """`pixels` (rows, columns) uint8, scaled with its aspect kept into (side, side).

    With `content_px` it is standardised first (`standard.standardise`), with so many pixels along
    its longer side, whatever the side of the square is.
    """
    rows, columns = pixels.shape
    if content_px is None:
        square, scales, shift = _padded(pixels, pixels.shape, side_px)
        kept_left, kept_top = 0, 0
    else:
        content, kept = standardise(pixels, content_px)
        size = (kept.bottom - kept.top, kept.right - kept.left)
        square, scales, shift = _padded(content, size, side_px)
        kept_left, kept_top = kept.left, kept.top
    return square, Letterbox(
        scale_x=scales[0],
        scale_y=scales[1],
        left=shift[0] - kept_left * scales[0],
        top=shift[1] - kept_top * scales[1],
        rows=rows,
        columns=columns,
    )


def _padded(
    pixels: NDArray[np.uint8], size: tuple[int, ...], side_px: int
) -> tuple[NDArray[np.uint8], tuple[float, float], tuple[int, int]]:
    """The pixels in the middle of a square; what one pixel of the picture of `size` (rows, columns)
    that they show measures there, across and down; and where they begin, from left and top."""
    scale = side_px / max(pixels.shape)
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(pixels, (width, height), interpolation=method)
    top, left = (side_px - height) // 2, (side_px - width) // 2
    square = np.full((side_px, side_px), _GREY, np.uint8)
    square[top : top + height, left : left + width] = resized
    return square, (width / size[1], height / size[0]), (left, top)
