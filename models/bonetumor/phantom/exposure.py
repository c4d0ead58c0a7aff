"""From density to pixels: absorption, scatter, noise, collimation, a side marker."""

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.phantom.texture import Field, smooth_noise, soft_step

_MARKS = ("L", "R", "AP", "LAT", "SIN", "DEX", "L  S", "R  B", "PORTABLE", "KNEE", "12", "3")


def expose(density: Field, rng: np.random.Generator) -> NDArray[np.uint16]:
    """A fresh exposure of a procedural scene: uint16, 12 bits, shape of `density`."""
    rows, columns = density.shape
    signal = 1 - np.exp(-density * float(rng.uniform(0.55, 1.1)))
    signal += 0.05 * smooth_noise(density.shape, max(rows, columns) * 0.7, rng)
    signal = signal + 0.12 * cv2.GaussianBlur(signal, (0, 0), rows * 0.05)
    signal = np.asarray(cv2.GaussianBlur(signal, (0, 0), float(rng.uniform(0.4, 1.3))), np.float32)
    low, high = np.percentile(signal, [0.5, 99.7])
    signal = np.clip((signal - low) / max(float(high - low), 1e-3), 0, 1.15)
    signal = signal ** float(rng.uniform(0.75, 1.35)) * float(rng.uniform(0.75, 0.98))
    return _finish(signal, rng)


def reexpose(density: Field, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Another rendering of a picture that was exposed already: uint16, 12 bits."""
    low, high = np.percentile(density, [float(rng.uniform(0, 2)), float(rng.uniform(99, 100))])
    signal = np.clip((density - low) / max(float(high - low), 1e-3), 0, 1.1)
    signal = signal ** float(np.exp(rng.normal(0, 0.22))) * float(rng.uniform(0.8, 1.0))
    if rng.random() < 0.3:  # the edge enhancement of many consoles
        soft = cv2.GaussianBlur(signal, (0, 0), float(rng.uniform(2, 10)))
        signal = signal + float(rng.uniform(0.2, 0.8)) * (signal - soft)
    if rng.random() < 0.3:
        signal = cv2.GaussianBlur(signal, (0, 0), float(rng.uniform(0.4, 1.2)))
    return _finish(np.asarray(signal, np.float32), rng)


def _finish(signal: Field, rng: np.random.Generator) -> NDArray[np.uint16]:
    noise = rng.normal(0, float(rng.uniform(0.002, 0.018)), signal.shape)
    signal = _collimate(np.asarray(signal + noise, np.float32), rng)
    for _ in range(int(rng.integers(0, 3))):
        _stamp(signal, rng)
    return np.asarray(np.clip(signal, 0, 1) * 4095, np.uint16)


def _collimate(signal: Field, rng: np.random.Generator) -> Field:
    if rng.random() < 0.5:
        return signal
    rows, columns = signal.shape
    y = np.arange(rows, dtype=np.float32)[:, None]
    x = np.arange(columns, dtype=np.float32)[None, :]
    edge = [float(rng.uniform(0, 0.07)) for _ in range(4)]
    inside = (
        soft_step(y - edge[0] * rows, 1.5)
        * soft_step(rows * (1 - edge[1]) - y, 1.5)
        * soft_step(x - edge[2] * columns, 1.5)
        * soft_step(columns * (1 - edge[3]) - x, 1.5)
    )
    ground = float(rng.choice([0.0, 0.02, 0.95], p=[0.6, 0.3, 0.1]))
    return np.asarray(signal * inside + ground * (1 - inside), np.float32)


def _stamp(signal: Field, rng: np.random.Generator) -> None:
    """A side marker, the way technologists lay it beside the limb."""
    rows, columns = signal.shape
    scale = rows / 960 * float(rng.uniform(0.8, 1.8))
    place = (int(columns * rng.choice([0.05, 0.86])), int(rows * rng.uniform(0.08, 0.92)))
    letter = np.zeros(signal.shape, np.uint8)
    cv2.putText(
        letter,
        str(rng.choice(_MARKS)),
        place,
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        255,
        max(1, int(2 * scale)),
        cv2.LINE_AA,
    )
    ink = letter.astype(np.float32) / 255
    signal *= 1 - ink
    signal += ink * np.float32(rng.uniform(0.8, 1.0))
