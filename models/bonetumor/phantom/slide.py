"""H&E-like tiles: stroma, nuclei, giant cells, osteoid or chondroid matrix.

How each class tends to look is our assumption after textbook descriptions; the classes overlap.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.domain.assessment import TumourClass
from bonetumor.phantom.texture import fractal_noise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    nuclei: float
    pleomorphism: float
    darkness: float
    giant_cells: float
    matrix: float


_LOOKS = {
    TumourClass.BENIGN: _Look(
        nuclei=0.35, pleomorphism=0.15, darkness=0.40, giant_cells=0.15, matrix=0.5
    ),
    TumourClass.INTERMEDIATE: _Look(
        nuclei=0.55, pleomorphism=0.30, darkness=0.50, giant_cells=0.60, matrix=0.3
    ),
    TumourClass.MALIGNANT: _Look(
        nuclei=0.70, pleomorphism=0.65, darkness=0.65, giant_cells=0.20, matrix=0.4
    ),
}
_SPREAD = 0.2


def draw_slide(
    tumour_class: TumourClass, rng: np.random.Generator, *, side_px: int = 512
) -> NDArray[np.uint8]:
    """One slide picture of a tumour of the class: uint8, shape (side, side, 3), RGB."""
    mean = _LOOKS[tumour_class]
    draw = {
        name: float(np.clip(rng.normal(getattr(mean, name), _SPREAD), 0, 1))
        for name in ("nuclei", "pleomorphism", "darkness", "giant_cells", "matrix")
    }
    shape = (side_px, side_px)
    pink = np.array([236, 190, 214], np.float32) + rng.normal(0, 7, 3).astype(np.float32)
    picture = pink + 12 * fractal_noise(shape, 60, rng)[..., None]
    matrix = np.clip(fractal_noise(shape, 140, rng) - (1.2 - 1.6 * draw["matrix"]), 0, 1)[..., None]
    picture = picture * (1 - 0.35 * matrix) + np.array([226, 130, 170], np.float32) * 0.35 * matrix
    canvas = np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8))
    free = matrix[..., 0] < 0.3
    for _ in range(int(draw["nuclei"] * side_px * side_px / 330)):
        x, y = (int(v) for v in rng.integers(0, side_px, 2))
        if free[y, x]:
            _nucleus(canvas, (x, y), draw["pleomorphism"], draw["darkness"], rng)
    for _ in range(int(draw["giant_cells"] * 14)):
        _giant_cell(canvas, rng)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.8), np.uint8)


def _nucleus(
    canvas: NDArray[np.uint8],
    place: tuple[int, int],
    pleomorphism: float,
    darkness: float,
    rng: np.random.Generator,
) -> None:
    size = 4.0 * float(np.exp(rng.normal(0, 0.08 + 0.5 * pleomorphism)))
    axes = (max(2, int(size)), max(2, int(size * rng.uniform(0.45, 1.0))))
    shade = 1.0 - 0.5 * darkness + float(rng.normal(0, 0.05 + 0.1 * pleomorphism))
    colour = tuple(float(np.clip(c * shade, 0, 255)) for c in (128, 92, 168))
    cv2.ellipse(canvas, place, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)


def _giant_cell(canvas: NDArray[np.uint8], rng: np.random.Generator) -> None:
    x, y = (int(v) for v in rng.integers(20, canvas.shape[0] - 20, 2))
    cv2.circle(canvas, (x, y), int(rng.integers(14, 24)), (214, 150, 196), -1, cv2.LINE_AA)
    for _ in range(int(rng.integers(6, 16))):
        offset = rng.normal(0, 6, 2).astype(int)
        _nucleus(canvas, (x + int(offset[0]), y + int(offset[1])), 0.05, 0.5, rng)
