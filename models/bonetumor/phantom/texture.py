"""Random fields that bones, lesions and tissue are painted with."""

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


def smooth_noise(shape: tuple[int, int], scale_px: float, rng: np.random.Generator) -> Field:
    """Gaussian-like noise with features of about `scale_px`; zero mean, unit deviation."""
    rows, columns = (max(2, int(np.ceil(n / max(scale_px, 1.0))) + 2) for n in shape)
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    fine: Field = np.asarray(
        cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), dtype=np.float32
    )
    return np.asarray((fine - fine.mean()) / (fine.std() + 1e-6), np.float32)


def fractal_noise(shape: tuple[int, int], scale_px: float, rng: np.random.Generator) -> Field:
    """Noise over four octaves below `scale_px`; zero mean, unit deviation."""
    total: Field = np.zeros(shape, np.float32)
    for octave in range(4):
        total += smooth_noise(shape, scale_px / 2**octave, rng) * np.float32(0.6**octave)
    return np.asarray(total / (total.std() + 1e-6), np.float32)


def cells(shape: tuple[int, int], cell_px: float, rng: np.random.Generator) -> Field:
    """Thin walls between the cells of a random foam: 1 on a wall, 0 inside a cell."""
    count = max(3, int(shape[0] * shape[1] / max(cell_px, 2.0) ** 2))
    seeds = rng.uniform((0, 0), shape, (min(count, 400), 2)).astype(np.int32)
    walls = np.full(shape, 255, np.uint8)
    walls[seeds[:, 0], seeds[:, 1]] = 0
    distance = cv2.distanceTransform(walls, cv2.DIST_L2, 3)
    peak = cv2.dilate(distance, np.ones((3, 3), np.uint8))
    ridge = (distance >= peak - 1e-3).astype(np.float32)
    return np.asarray(np.clip(cv2.GaussianBlur(ridge, (0, 0), 0.9) * 2.2, 0, 1), np.float32)


def outline(x: Field, y: Field, roughness: float, rng: np.random.Generator) -> Field:
    """A signed, distance-like field of an irregular disc of radius 1 about the origin.

    Positive inside. `x`, `y`: coordinates in units of the half axes. `roughness` 0 is a smooth
    ellipse, 1 is lobulated.
    """
    angle = np.arctan2(y, x)
    radius = np.ones_like(angle)
    for harmonic in range(2, 10):
        amount = np.float32(roughness * rng.normal(0, 0.16) / harmonic**0.7)
        radius += amount * np.cos(harmonic * angle + np.float32(rng.uniform(0, 2 * np.pi)))
    radius *= np.float32(1 / max(float(radius.max()), 1e-3))
    return np.asarray(radius - np.hypot(x, y), np.float32)


def soft_step(field: Field, width: float) -> Field:
    """0 to 1 over about `width` around zero."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(field / max(width, 1e-3), -30, 30))), np.float32)
