"""What of a tumour can be seen in the finished picture.

Who draws boxes on radiographs bounds what they see. Collimation, exposure and markers come after
the painting and hide some of it, so that the painted outline alone would promise too much.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.domain.image import Corners
from bonetumor.phantom.texture import Field

_WHITE = 4095.0
PAINTED = 0.35  # a mask, 0..1, is there where it is more
_LEAST_CHANGE = 0.03  # of the range from black to white
_LEAST_PIXELS = 12
_LEAST_SHARE = 0.2
_SIDE_PX = 640  # what is finer than a pixel at this size is not looked for


def visible_box(
    mask: Field, pixels: NDArray[np.uint16], bare: NDArray[np.uint16]
) -> Corners | None:
    """The box, in pixel edges, around what a tumour changed.

    `mask`: where it was painted, 0..1; `pixels`: the picture, 12 bits; `bare`: the same exposure
    without it. All of shape (rows, columns). None if too little of the tumour can be seen.
    """
    painted = mask > PAINTED
    change = np.abs(_as_seen(pixels) - _as_seen(bare))
    rows, columns = np.nonzero(painted & (change > _LEAST_CHANGE))
    if len(rows) < max(_LEAST_PIXELS, _LEAST_SHARE * int(painted.sum())):
        return None
    return (
        float(columns.min()),
        float(rows.min()),
        float(columns.max() + 1),
        float(rows.max() + 1),
    )


def _as_seen(pixels: NDArray[np.uint16]) -> Field:
    grey = pixels.astype(np.float32) / np.float32(_WHITE)
    blur = max(1.0, max(pixels.shape) / _SIDE_PX)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), blur), np.float32)
