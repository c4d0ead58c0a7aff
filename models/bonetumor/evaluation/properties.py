"""What a picture is like apart from what it shows: sharpness, borders, shape and size.

Whoever can tell classes or sources by these alone needs no look at the bone.
"""

import numpy as np
from numpy.typing import NDArray

from bonetumor.domain.errors import InvalidInput

PROPERTIES = (
    "log variance of the Laplacian",
    "log energy of the finest octave",
    "log energy of the next octave",
    "dark share of the border",
    "bright share of the border",
    "log aspect",
    "log longer side",
)
_BORDER = 0.02
_DARK, _BRIGHT = 10, 245
_LEAST_SIDE = 4  # two octaves


def picture_properties(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The values of `PROPERTIES`, float64, shape (7,), all finite.

    `pixels`: uint8, shape (rows, columns). The Laplacian is that of the four neighbours; its
    variance says how sharp a picture is (Pech-Pacheco et al., ICPR 2000). The energy of an octave
    is the variance of what averaging over 2 x 2 pixels takes away, the finest first. Energies are
    in squared grey levels, plus one so that a flat picture has a logarithm. The border is the
    outermost 2 % of the shorter side, at least a pixel wide; dark is at most 10 of 255, bright at
    least 245. Aspect is width by height.

    Raises:
        InvalidInput: no uint8 picture of one channel, or one without pixels.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or not pixels.size:
        raise InvalidInput(
            f"picture: expected uint8 of shape (rows, columns), "
            f"got {pixels.dtype} of shape {pixels.shape}"
        )
    rows, columns = pixels.shape
    grey = _at_least(pixels.astype(np.float32), _LEAST_SIDE)
    halved = _halved(grey)
    border = _border(pixels)
    return np.array(
        [
            _log_energy(_laplacian(grey)),
            _log_energy(_lost(grey, halved)),
            _log_energy(_lost(halved, _halved(halved))),
            (border <= _DARK).mean(),
            (border >= _BRIGHT).mean(),
            np.log(columns / rows),
            np.log(max(rows, columns)),
        ],
        np.float64,
    )


def _at_least(grey: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Smaller pictures repeat their edge."""
    return np.pad(grey, [(0, max(0, side - n)) for n in grey.shape], mode="edge")


def _laplacian(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    return (
        grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    )


def _halved(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means over 2 x 2 pixels; an odd last row or column is left out."""
    rows, columns = (n // 2 for n in grey.shape)
    whole = grey[: 2 * rows, : 2 * columns]
    halved: NDArray[np.float32] = whole.reshape(rows, 2, columns, 2).mean(axis=(1, 3))
    return halved


def _lost(grey: NDArray[np.float32], halved: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = halved.shape
    coarse = halved.repeat(2, axis=0).repeat(2, axis=1)
    return grey[: 2 * rows, : 2 * columns] - coarse


def _log_energy(values: NDArray[np.float32]) -> float:
    return float(np.log1p(values.var(dtype=np.float64)))


def _border(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    width = max(1, round(_BORDER * min(pixels.shape)))
    inside = np.zeros(pixels.shape, np.bool_)
    inside[width:-width, width:-width] = True
    return pixels[~inside]
