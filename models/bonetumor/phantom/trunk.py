"""Radiographs of trunk and head, which a detector for limbs was not made for.

No tumour is painted into these: they teach what is beyond the detector, so that a real chest is
told from a limb without any real chest in training. Coordinates run from 0 to 1 over the picture.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.phantom.exposure import expose
from bonetumor.phantom.texture import Field, fractal_noise, smooth_noise, soft_step

_Curve = NDArray[np.float64]


def draw_trunk(rng: np.random.Generator, *, longest_px: int = 640) -> NDArray[np.uint16]:
    """A chest, an abdomen or a head: uint16, 12 bits, MONOCHROME2, shape (rows, columns)."""
    kinds: tuple[tuple[Callable[[_Canvas], Field], float], ...] = (
        (_chest, 0.5),
        (_chest_from_the_side, 0.1),
        (_abdomen, 0.2),
        (_head, 0.2),
    )
    chosen = int(rng.choice(len(kinds), p=[share for _, share in kinds]))
    aspect = float(rng.uniform(0.75, 1.3))
    rows = longest_px if aspect < 1 else round(longest_px / aspect)
    columns = round(longest_px * aspect) if aspect < 1 else longest_px
    density = kinds[chosen][0](_Canvas(rows, columns, rng))
    return expose(np.asarray(np.clip(density, 0, None), np.float32), rng)


class _Canvas:
    """A picture's coordinates, a little moved, scaled and turned, and what is drawn on them."""

    def __init__(self, rows: int, columns: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.shape = (rows, columns)
        self._turn = float(rng.normal(0, 0.05))
        self._zoom = float(rng.uniform(0.85, 1.2))
        self._shift = rng.normal(0, 0.03, 2)
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
        across = (x / columns - 0.5 - self._shift[0]) / self._zoom
        down = (y / rows - 0.5 - self._shift[1]) / self._zoom
        cosine, sine = np.cos(self._turn), np.sin(self._turn)
        self.x: Field = np.asarray(across * cosine + down * sine + 0.5, np.float32)
        self.y: Field = np.asarray(down * cosine - across * sine + 0.5, np.float32)

    def about(self, middle: float, spread: float = 0.1) -> float:
        """A value near `middle`."""
        return float(middle * self.rng.uniform(1 - spread, 1 + spread))

    def ellipse(self, x: float, y: float, across: float, down: float, soft: float = 0.03) -> Field:
        """1 inside, 0 outside."""
        return soft_step(1 - np.hypot((self.x - x) / across, (self.y - y) / down), soft)

    def ball(self, x: float, y: float, across: float, down: float) -> Field:
        """The path of the rays through an ellipsoid, 0 to 1."""
        inside = 1 - ((self.x - x) / across) ** 2 - ((self.y - y) / down) ** 2
        return np.asarray(np.sqrt(np.clip(inside, 0, None)), np.float32)

    def tube(self, curve: _Curve, width: float) -> Field:
        """A bone along a curve of (x, y): bright rims, fainter within."""
        drawn = np.zeros(self.shape, np.float32)
        thick = max(2, round(width * self._zoom * min(self.shape)))
        self._line(drawn, curve, thick, 1.0)
        self._line(drawn, curve, max(1, round(thick * 0.6)), self.about(0.6))
        return np.asarray(cv2.GaussianBlur(drawn, (0, 0), max(0.6, thick * 0.08)), np.float32)

    def _line(self, drawn: Field, curve: _Curve, thick: int, value: float) -> None:
        rows, columns = self.shape
        across, down = curve[:, 0] - 0.5, curve[:, 1] - 0.5
        cosine, sine = np.cos(self._turn), np.sin(self._turn)
        x = ((across * cosine - down * sine) * self._zoom + 0.5 + self._shift[0]) * columns
        y = ((across * sine + down * cosine) * self._zoom + 0.5 + self._shift[1]) * rows
        points = np.stack([x, y], axis=1).round().astype(np.int32)
        cv2.polylines(drawn, [points], False, value, thick, cv2.LINE_AA)

    def spine(self, x: float, top: float, bottom: float, width: float) -> Field:
        """A column of vertebrae with darker discs between them."""
        height = width * self.about(0.8)
        place = (self.y - top) / height
        bodies = 0.65 + 0.35 * np.cos(2 * np.pi * place)
        column = soft_step(width / 2 - abs(self.x - x), 0.006)
        processes = self.tube(np.array([[x, top], [x, bottom]]), width * 0.2)
        within = soft_step(self.y - top, 0.01) * soft_step(bottom - self.y, 0.01)
        return np.asarray(within * (column * bodies + 0.3 * processes), np.float32)

    def tissue(self, scale: float) -> Field:
        """Noise of about the size `scale`, zero mean."""
        return fractal_noise(self.shape, scale * min(self.shape), self.rng)


def _arc(x0: float, y0: float, x1: float, y1: float, sag: float) -> _Curve:
    """A curve between two points that hangs `sag` below the straight line."""
    t = np.linspace(0, 1, 24)
    return np.stack([x0 + (x1 - x0) * t, y0 + (y1 - y0) * t + sag * 4 * t * (1 - t)], axis=1)


def _lungs(c: _Canvas, floor: tuple[float, float]) -> Field:
    """Air on both sides of the middle, down to each dome of the diaphragm."""
    air = np.zeros(c.shape, np.float32)
    for side, dome in zip((-1, 1), floor, strict=True):
        x = 0.5 + side * c.about(0.19)
        lobe = c.ellipse(x, c.about(0.47), c.about(0.16), c.about(0.37))
        edge = dome + c.about(1.1) * (c.x - x) ** 2 * 2
        air = np.maximum(air, lobe * soft_step(edge - c.y, 0.008))
    return air


def _vessels(c: _Canvas) -> Field:
    drawn = np.zeros(c.shape, np.float32)
    for _ in range(int(c.rng.integers(20, 50))):
        side = float(c.rng.choice([-1, 1]))
        angle, reach = float(c.rng.uniform(-1.4, 1.4)), float(c.rng.uniform(0.06, 0.26))
        x, y = 0.5 + side * c.about(0.08, 0.4), c.about(0.45)
        end = (x + side * reach * np.cos(angle), y + reach * np.sin(angle))
        branch = c.tube(_arc(x, y, *end, float(c.rng.normal(0, 0.03))), c.about(0.008, 0.5))
        drawn = np.maximum(drawn, branch * c.about(0.6, 0.4))
    return drawn


def _ribs(c: _Canvas, first: float, pairs: int, step: float) -> Field:
    """Behind, from the spine outwards; in front, from the side down to the middle."""
    bones = np.zeros(c.shape, np.float32)
    width = c.about(0.024, 0.25)
    for pair in range(pairs):
        y = first + step * pair
        out = min(0.2 + 0.035 * pair, c.about(0.36, 0.05))
        for side in (-1, 1):
            behind = _arc(0.5 + side * 0.04, y, 0.5 + side * out, y + 0.1, -c.about(0.05, 0.4))
            bones += c.tube(behind, width)
            if pair < 7:
                near = 0.5 + side * c.about(0.12 + 0.01 * pair)
                bones += 0.6 * c.tube(_arc(0.5 + side * out, y + 0.1, near, y + 0.2, 0.03), width)
    return bones


def _chest(c: _Canvas) -> Field:
    body = c.ball(0.5, 0.55, c.about(0.52), c.about(0.95))
    domes = (c.about(0.72, 0.08), c.about(0.75, 0.08))
    air = _lungs(c, domes)
    heart = c.ball(c.about(0.55, 0.05), c.about(0.62, 0.06), c.about(0.15, 0.2), c.about(0.16, 0.2))
    middle = soft_step(c.about(0.06, 0.3) - abs(c.x - 0.5), 0.015)
    air = air * (1 - np.clip(heart * 2, 0, 1)) * (1 - middle)
    density = body * (1 - c.about(0.62, 0.15) * air) + 0.35 * heart + 0.2 * middle
    density = density + air * c.about(0.25, 0.5) * _vessels(c)
    density = density + c.about(0.13, 0.5) * _ribs(
        c, c.about(0.16), int(c.rng.integers(8, 11)), 0.063
    )
    density = density + c.about(0.25, 0.5) * c.spine(0.5, 0.02, 1.0, c.about(0.07))
    for side in (-1, 1):
        collar = _arc(0.5 + side * 0.05, c.about(0.17), 0.5 + side * 0.33, c.about(0.1, 0.3), -0.02)
        density = density + c.about(0.25, 0.3) * c.tube(collar, c.about(0.03))
        blade = c.ellipse(0.5 + side * c.about(0.36, 0.05), 0.28, 0.07, 0.13, 0.1)
        density = density + c.about(0.08, 0.5) * blade
        shoulder = c.ball(0.5 + side * c.about(0.46, 0.06), c.about(0.14), 0.06, 0.07)
        density = density + c.about(0.3, 0.4) * shoulder
    return np.asarray(
        density * (1 + 0.03 * c.tissue(0.1)) + 0.02 * air * c.tissue(0.03), np.float32
    )


def _chest_from_the_side(c: _Canvas) -> Field:
    body = c.ball(0.5, 0.55, c.about(0.4), c.about(0.9))
    air = c.ellipse(0.5, c.about(0.45), c.about(0.24), c.about(0.36))
    air = air * soft_step(c.about(0.72) + 0.25 * (c.x - 0.45) - c.y, 0.01)
    heart = c.ball(c.about(0.4), c.about(0.6), c.about(0.14), c.about(0.17))
    density = body * (1 - c.about(0.55) * air) + 0.3 * heart
    for pair in range(int(c.rng.integers(7, 11))):
        y = 0.12 + 0.065 * pair
        bones = c.tube(_arc(0.74, y, c.about(0.32), y + c.about(0.18), 0.04), c.about(0.02))
        density = density + c.about(0.1, 0.4) * bones
    density = density + c.about(0.35) * c.spine(0.72, 0.02, 1.0, c.about(0.08))
    return np.asarray(density * (1 + 0.04 * c.tissue(0.08)), np.float32)


def _abdomen(c: _Canvas) -> Field:
    body = c.ball(0.5, 0.5, c.about(0.5), c.about(1.1))
    density = 0.9 * body + c.about(0.4) * c.spine(0.5, 0.0, c.about(0.72), c.about(0.1))
    gas = np.clip(smooth_noise(c.shape, c.about(0.09, 0.4) * min(c.shape), c.rng) - 1.2, 0, 1)
    density = density - c.about(0.3, 0.4) * gas * c.ellipse(0.5, 0.5, 0.36, 0.42, 0.1)
    density = density + 0.12 * _ribs(c, c.about(-0.14, 0.4), 5, 0.07)
    for side in (-1, 1):
        wing = c.ellipse(0.5 + side * c.about(0.24), c.about(0.86), 0.17, 0.2, 0.05)
        density = density + c.about(0.3) * wing * (0.7 + 0.3 * soft_step(c.tissue(0.1), 1.0))
        kidney = c.ball(0.5 + side * c.about(0.2), c.about(0.35), 0.07, 0.13)
        density = density + c.about(0.06, 0.5) * kidney
    return np.asarray(density * (1 + 0.04 * c.tissue(0.08)), np.float32)


def _head(c: _Canvas) -> Field:
    x, y, across, down = c.about(0.5, 0.05), c.about(0.42), c.about(0.36), c.about(0.36)
    thick = c.about(0.93, 0.03)
    shell = c.ball(x, y, across, down) - thick * c.ball(x, y, across * thick, down * thick)
    density = 0.35 * c.ball(x, y, across * 1.06, down * 1.05) + c.about(1.6, 0.3) * shell
    face = c.ellipse(c.about(0.45, 0.15), c.about(0.68), c.about(0.2), c.about(0.2), 0.1)
    density = density + face * (0.35 + 0.12 * c.tissue(0.12))
    for _ in range(int(c.rng.integers(2, 6))):  # orbits, sinuses and airways
        hollow = c.ball(c.about(0.48, 0.25), c.about(0.6, 0.15), c.about(0.06, 0.4), 0.05)
        density = density - c.about(0.2, 0.4) * hollow
    for row in (c.about(0.76, 0.04), c.about(0.8, 0.04)):
        teeth = 0.5 + 0.5 * np.cos(2 * np.pi * c.x / c.about(0.028))
        density = density + 0.4 * teeth * c.ellipse(0.45, row, 0.12, 0.02, 0.2)
    jaw = c.tube(_arc(x - 0.22, 0.66, x + 0.2, 0.68, c.about(0.22)), c.about(0.05))
    density = density + c.about(0.25) * jaw
    density = density + c.about(0.3) * c.spine(c.about(0.56, 0.08), 0.7, 1.1, c.about(0.1))
    return np.asarray(density * (1 + 0.03 * c.tissue(0.1)), np.float32)
