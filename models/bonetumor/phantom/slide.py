"""H&E-like tiles: stroma, nuclei, giant cells, osteoid or chondroid matrix.

How each type tends to look is our assumption after textbook descriptions (WHO Classification of
Tumours, Soft Tissue and Bone, 5th ed. 2020); types overlap, and so do the classes.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.phantom.texture import Field, fractal_noise
from bonetumor.phantom.tumour import TumourType

_OSTEOID, _CHONDROID = (226.0, 130.0, 170.0), (188.0, 178.0, 222.0)


@dataclass(frozen=True, slots=True)
class _Look:
    """Means, 0..1, and whether the matrix is cartilage."""

    nuclei: float
    pleomorphism: float
    darkness: float
    giant_cells: float
    matrix: float
    chondroid: bool = False


_LOOKS = {
    "osteochondroma": _Look(0.25, 0.15, 0.40, 0.02, 0.7, chondroid=True),
    "multiple osteochondromas": _Look(0.28, 0.18, 0.40, 0.02, 0.7, chondroid=True),
    "simple bone cyst": _Look(0.25, 0.12, 0.40, 0.15, 0.25),
    "non-ossifying fibroma": _Look(0.50, 0.20, 0.45, 0.30, 0.15),
    "enchondroma": _Look(0.25, 0.20, 0.45, 0.02, 0.75, chondroid=True),
    "fibrous dysplasia": _Look(0.40, 0.15, 0.40, 0.05, 0.55),
    "osteoid osteoma": _Look(0.42, 0.20, 0.45, 0.15, 0.65),
    "aneurysmal bone cyst": _Look(0.45, 0.25, 0.45, 0.45, 0.25),
    "giant cell tumour": _Look(0.60, 0.30, 0.50, 0.75, 0.10),
    "osteoblastoma": _Look(0.55, 0.32, 0.50, 0.25, 0.60),
    "synovial chondromatosis": _Look(0.35, 0.35, 0.50, 0.02, 0.75, chondroid=True),
    "atypical cartilaginous tumour": _Look(0.38, 0.40, 0.52, 0.02, 0.72, chondroid=True),
    "osteosarcoma": _Look(0.65, 0.70, 0.65, 0.20, 0.50),
    "Ewing sarcoma": _Look(0.90, 0.35, 0.75, 0.02, 0.10),
    "chondrosarcoma": _Look(0.50, 0.60, 0.60, 0.02, 0.65, chondroid=True),
    "other malignant tumour": _Look(0.72, 0.65, 0.65, 0.10, 0.20),
}
_SPREAD = 0.2


def draw_slide(
    kind: TumourType, rng: np.random.Generator, *, side_px: int = 512
) -> NDArray[np.uint8]:
    """One slide picture of a tumour of the type: uint8, shape (side, side, 3), RGB."""
    mean = _LOOKS[kind.name]
    draw = {
        name: float(np.clip(rng.normal(getattr(mean, name), _SPREAD), 0, 1))
        for name in ("nuclei", "pleomorphism", "darkness", "giant_cells", "matrix")
    }
    shape = (side_px, side_px)
    pink = np.array([236, 190, 214], np.float32) + rng.normal(0, 7, 3).astype(np.float32)
    picture = pink + 12 * fractal_noise(shape, 60, rng)[..., None]
    matrix = np.clip(fractal_noise(shape, 140, rng) - (1.2 - 1.6 * draw["matrix"]), 0, 1)
    stain = np.array(_CHONDROID if mean.chondroid else _OSTEOID, np.float32)
    deep = 0.6 if mean.chondroid else 0.35
    picture = picture * (1 - deep * matrix[..., None]) + stain * deep * matrix[..., None]
    canvas = np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8))
    _scatter(canvas, matrix, draw, mean.chondroid, rng)
    for _ in range(int(draw["giant_cells"] * 14)):
        _giant_cell(canvas, rng)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.8), np.uint8)


def _scatter(
    canvas: NDArray[np.uint8],
    matrix: Field,
    draw: dict[str, float],
    chondroid: bool,
    rng: np.random.Generator,
) -> None:
    """Nuclei: beside osteoid, but within cartilage, each in its pale lacuna."""
    side = canvas.shape[0]
    for _ in range(int(draw["nuclei"] * side * side / 330)):
        x, y = (int(v) for v in rng.integers(0, side, 2))
        within = matrix[y, x] >= 0.3
        if within and not chondroid:
            continue
        if within:
            if rng.random() < 0.5:
                continue
            cv2.circle(canvas, (x, y), int(rng.integers(6, 11)), (238, 232, 246), -1, cv2.LINE_AA)
        _nucleus(canvas, (x, y), draw["pleomorphism"], draw["darkness"], rng)


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
