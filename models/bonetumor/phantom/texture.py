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


def blob(shape: tuple[int, int], roughness: float, rng: np.random.Generator) -> Field:
    """A signed distance-like field of an irregular ellipse that fills `shape`; positive inside.

    `roughness` 0 is a smooth ellipse, 1 is lobulated.
    """
    rows, columns = shape
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j].astype(np.float32)
    angle = np.arctan2(y, x)
    radius = np.ones_like(angle)
    for harmonic in range(2, 9):
        amount = roughness * rng.normal(0, 0.16) / harmonic**0.7
        radius += np.float32(amount) * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi)).astype(
            np.float32
        )
    radius *= np.float32(0.97) / max(float(radius.max()), 1e-3)
    return np.asarray(radius - np.hypot(x, y), dtype=np.float32)


def soft_step(field: Field, width: float) -> Field:
    """0 to 1 over about `width` around zero."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(field / max(width, 1e-3), -30, 30))), np.float32)
