"""A tumour painted into the density of a bone."""

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.phantom.texture import Field, blob, fractal_noise, soft_step
from bonetumor.phantom.tumour import TumourType, sign


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionLook:
    """One patient's lesion: the strength of each radiographic sign, 0..1."""

    lysis: float
    sclerotic_rim: float
    blur: float
    matrix: float
    expansion: float
    periosteal: float
    soft_tissue: float
    exophytic: float

    @classmethod
    def draw(cls, kind: TumourType, rng: np.random.Generator) -> Self:
        """Signs around the means of the type; typical pairs stay confusable."""
        return cls(
            lysis=sign(kind.lysis, rng),
            sclerotic_rim=sign(kind.sclerotic_rim, rng),
            blur=sign(kind.blur, rng),
            matrix=sign(kind.matrix, rng),
            expansion=sign(kind.expansion, rng),
            periosteal=sign(kind.periosteal, rng),
            soft_tissue=sign(kind.soft_tissue, rng),
            exophytic=1.0 if rng.random() < kind.exophytic else 0.0,
        )


def paint_lesion(
    density: Field,
    centre: NDArray[np.float32],
    outer: NDArray[np.float32],
    extent: tuple[int, int, int],
    kind: TumourType,
    look: LesionLook,
    rng: np.random.Generator,
) -> tuple[Field, Field]:
    """Paints one lesion and answers the new density and the lesion's mask, both like `density`.

    `extent` is (side of the square canvas, rows, columns of the later picture).
    """
    side, rows, columns = extent
    low, high = np.log(kind.area_fraction)
    area = float(np.exp(rng.uniform(low, high))) * rows * columns
    aspect = float(rng.uniform(*kind.aspect))
    size = (max(10, int(np.sqrt(area / aspect))), max(10, int(np.sqrt(area * aspect))))
    solid = np.nonzero(outer > outer.max() * 0.3)[0]
    margin = min((side - min(rows, columns)) / 2 + size[0] * 0.55, side / 2 - 2)
    solid = solid[(solid > margin) & (solid < side - margin)]
    row = int(rng.choice(solid)) if len(solid) else side // 2
    direction = float(rng.choice([-1, 1]))
    reach = 1.05 if look.exophytic else float(rng.uniform(0, 0.55))
    column = int(
        centre[row] + direction * reach * outer[row] + direction * look.exophytic * size[1] * 0.35
    )
    top = int(np.clip(row - size[0] // 2, 0, side - size[0]))
    left = int(np.clip(column - size[1] // 2, 0, side - size[1]))
    window = (slice(top, top + size[0]), slice(left, left + size[1]))

    shape = blob(size, 0.4 + 0.6 * look.blur, rng)
    edge = 0.03 + 0.22 * look.blur
    body = soft_step(shape - (edge * 1.5), edge)
    if look.blur > 0.5:
        body = np.clip(
            body * (1 + 0.5 * look.blur * fractal_noise(size, min(size) * 0.2, rng)), 0, 1
        )
    mask: Field = np.zeros_like(density)
    mask[window] = soft_step(shape - 0.02, 0.03)
    patch = density[window]
    base = float(np.median(patch)) + 0.15
    patch = patch * (1 - 0.75 * look.lysis * body)
    patch += body * look.matrix * base * _matrix(size, look, rng)
    rim = np.exp(-(((shape - 0.10) / 0.07) ** 2)) * look.sclerotic_rim * (1 - 0.7 * look.blur)
    patch += 0.55 * base * rim
    if look.exophytic:
        patch += body * base * 0.55
    if look.expansion > 0.35:
        shell = np.exp(-(((shape - 0.05) / 0.035) ** 2))
        patch += 0.35 * look.expansion * base * shell
    density = density.copy()
    density[window] = patch
    if look.soft_tissue > 0.4:
        density += 0.3 * look.soft_tissue * cv2.GaussianBlur(mask, (0, 0), min(size) * 0.18)
    if look.periosteal > 0.4:
        density, mask = _periosteum(
            density, mask, centre, outer, (row, size[0]), direction, look, rng
        )
    return np.asarray(np.clip(density, 0, None), np.float32), mask


def _matrix(size: tuple[int, int], look: LesionLook, rng: np.random.Generator) -> Field:
    """Chondroid rings and dots where the margin is sharp, cloudy osteoid where it is not."""
    if look.blur > 0.5:
        return np.asarray(
            np.clip(0.5 + 0.6 * fractal_noise(size, min(size) * 0.4, rng), 0, 1.6), np.float32
        )
    spots = fractal_noise(size, max(3.0, min(size) * 0.12), rng)
    return np.asarray(soft_step(spots - 0.9, 0.15) * 1.4, np.float32)


def _periosteum(
    density: Field,
    mask: Field,
    centre: NDArray[np.float32],
    outer: NDArray[np.float32],
    place: tuple[int, int],
    direction: float,
    look: LesionLook,
    rng: np.random.Generator,
) -> tuple[Field, Field]:
    """Lamellae along the cortex or spicules away from it, over the height of the lesion."""
    row, height = place
    side = density.shape[0]
    strength = np.zeros_like(density)
    rows = np.arange(max(0, row - height // 2), min(side, row + height // 2))
    fade = np.cos(np.linspace(-np.pi / 2, np.pi / 2, len(rows))) ** 0.5
    reach = float(outer[row]) * (0.15 + 0.5 * look.periosteal)
    spicules = rng.random() < 0.5
    for y, weight in zip(
        rows[:: 3 if spicules else 1], fade[:: 3 if spicules else 1], strict=False
    ):
        start = centre[y] + direction * outer[y]
        steps = np.arange(0, reach * weight, 0.7)
        x = np.clip((start + direction * steps).astype(int), 0, side - 1)
        if spicules:
            lift = np.clip((y + steps * float(rng.normal(0, 0.25))).astype(int), 0, side - 1)
            strength[lift, x] = 1 - steps / (reach + 1e-3)
        else:
            layer = 0.5 + 0.5 * np.cos(2 * np.pi * steps / max(3.0, reach / 3))
            strength[y, x] = layer * (1 - steps / (reach + 1e-3))
    strength = np.asarray(cv2.GaussianBlur(strength, (0, 0), 0.8), np.float32)
    reaction = np.clip(strength / (strength.max() + 1e-6), 0, 1)
    grown = np.maximum(mask, (reaction > 0.25).astype(np.float32) * 0.6)
    return density + 0.4 * look.periosteal * reaction, np.asarray(grown, np.float32)
