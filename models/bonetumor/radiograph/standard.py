"""A picture as the network sees it, whoever sent it: trimmed, of one resolution, of like contrast.

Hospitals differ in what has nothing to do with bones: black borders, the size of their films,
sharpness, noise, contrast. A network trained on tumours of one and normals of another learns these
instead of tumours. Whatever tells sources apart without any anatomy is therefore taken away before
the network looks, in training and in serving alike: `deploy/decisions/0015-real-pictures.md`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.domain.image import Corners

_FLAT = (
    0.05  # a row or column whose grey levels span less than this part of the picture's is border
)
_MOST_TRIMMED = 0.4  # of a side, from each end
_LEAST_PX = 16  # what is left of a trimmed picture has at least this side
_TAILS = (0.01, 0.99)  # quantiles of grey levels that become black and white
_LEAST_SPAN = 8  # grey levels: a picture of one grey is not stretched
_OUTLIERS = 97.0  # percentile beyond which details are letters and edges, and do not count
# Root mean squares of the details between Gaussian blurs of these standard deviations, in pixels,
# in a picture whose grey levels span 0 to 1: medians over the radiographs of our three sources.
_BLURS_PX = (1.0, 2.0, 4.0, 8.0)
_DETAILS = (0.014, 0.016, 0.026, 0.042)
_GAIN = (0.33, 3.0)  # the least and the greatest: noise is not to be blown up without end


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """What of a picture is left without its borders, in its pixels: columns `left` to `right`, rows
    `top` to `bottom`, the ends excluded."""

    left: int
    top: int
    right: int
    bottom: int

    def moved(self, box: Corners, shape: tuple[int, ...]) -> Corners:
        """A box of the picture in what `standardise` made of it, which is of `shape` (rows,
        columns); beyond its edges where the box lies in the border."""
        across, down = shape[1] / (self.right - self.left), shape[0] / (self.bottom - self.top)
        return (
            (box[0] - self.left) * across,
            (box[1] - self.top) * down,
            (box[2] - self.left) * across,
            (box[3] - self.top) * down,
        )

    def back(self, box: Corners, shape: tuple[int, ...]) -> Corners:
        """The inverse of `moved`."""
        across, down = shape[1] / (self.right - self.left), shape[0] / (self.bottom - self.top)
        return (
            box[0] / across + self.left,
            box[1] / down + self.top,
            box[2] / across + self.left,
            box[3] / down + self.top,
        )


def trim(pixels: NDArray[np.uint8]) -> Trim:
    """Where a picture (rows, columns) uint8 begins and ends: rows and columns at its edges that
    are all of one grey are border."""
    least = _FLAT * max(_LEAST_SPAN, float(np.subtract(*np.percentile(pixels, [99, 1]))))
    top, bottom = _bounds(_spans(pixels) >= least)
    left, right = _bounds(_spans(pixels[top:bottom].T) >= least)
    return Trim(left=left, top=top, right=right, bottom=bottom)


def standardise(pixels: NDArray[np.uint8], longest_px: int) -> tuple[NDArray[np.uint8], Trim]:
    """`pixels` (rows, columns) uint8 without its borders, its longer side `longest_px`, grey levels
    stretched to 0 to 255, and the details of each size as strong as in any other picture (energy
    bands: Philipsen et al., IEEE Trans Med Imaging 34:1965, 2015, over the whole picture). Also
    what was kept of it."""
    kept = trim(pixels)
    inner = pixels[kept.top : kept.bottom, kept.left : kept.right]
    scale = longest_px / max(inner.shape)
    size = (max(1, round(inner.shape[1] * scale)), max(1, round(inner.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(inner, size, interpolation=method), np.float32)
    resized /= 255
    stretched = _stretched(_evened(_stretched(resized)))
    return np.asarray(np.rint(stretched * 255), np.uint8), kept


def _spans(rows: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far apart the grey levels of each row are, but for single letters and specks."""
    low, high = np.percentile(rows, [2, 98], axis=1)
    return np.asarray(high - low, np.float64)


def _bounds(shown: NDArray[np.bool_]) -> tuple[int, int]:
    """The first and the last but one place where something is shown, within what may be cut."""
    length = len(shown)
    most = min(int(length * _MOST_TRIMMED), max(0, (length - _LEAST_PX) // 2))
    places = np.flatnonzero(shown)
    first, last = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, length)
    return min(first, most), max(last, length - most)


def _stretched(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey levels as 0 to 1, the tails cut."""
    low, high = np.quantile(grey, _TAILS)
    span = max(high - low, _LEAST_SPAN / 255)
    return np.asarray(np.clip((grey - low) / span, 0, 1), np.float32)


def _evened(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    blurred = [grey, *(cv2.GaussianBlur(grey, (0, 0), px) for px in _BLURS_PX)]
    evened = blurred[-1].copy()
    for fine, coarse, wanted in zip(blurred, blurred[1:], _DETAILS, strict=False):
        details = fine - coarse
        strength = np.abs(details)
        found = np.sqrt(np.square(np.minimum(strength, np.percentile(strength, _OUTLIERS))).mean())
        evened += details * np.clip(wanted / max(float(found), 1e-6), *_GAIN)
    return np.asarray(evened, np.float32)
