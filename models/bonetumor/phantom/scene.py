"""What a tumour is painted into: a density picture, its soft-tissue floor, and its bones.

Procedural limbs and real normal radiographs both become a Scene, so that one painter serves both.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.phantom.texture import Field

_QUARTER = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """`density`: brighter is denser, about 0..1; `floor`: the same without bone; `bone`: where
    bone is. All of shape (rows, columns). `window` (top, left, bottom, right) is what the final
    picture shows."""

    density: Field
    floor: Field
    bone: NDArray[np.bool_]
    window: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A point on the middle line of a bone: `axis` (row, column) is a unit vector along it."""

    row: float
    column: float
    axis: tuple[float, float]
    half_width_px: float


def draw_anchors(
    scene: Scene, place: float, count: int, rng: np.random.Generator
) -> tuple[Anchor, ...]:
    """Up to `count` points on bones inside the window; `place` 0 prefers shafts, 1 bone ends."""
    reduced = cv2.resize(
        scene.bone.astype(np.uint8),
        None,
        fx=1 / _QUARTER,
        fy=1 / _QUARTER,
        interpolation=cv2.INTER_AREA,
    )
    small = np.asarray(reduced, np.uint8)
    distance = cv2.distanceTransform((small > 0).astype(np.uint8), cv2.DIST_L2, 3)
    ridge = (distance >= cv2.dilate(distance, np.ones((5, 5), np.uint8)) - 1e-3) & (distance > 1.2)
    top, left, bottom, right = (v / _QUARTER for v in scene.window)
    margin = 0.06 * min(bottom - top, right - left)
    inside = np.zeros_like(ridge)
    inside[
        int(top + margin) : max(int(bottom - margin), 0),
        int(left + margin) : max(int(right - margin), 0),
    ] = True
    # What is wider than this is a trunk, not a bone.
    ridge &= distance < 0.16 * min(bottom - top, right - left)
    rows, columns = np.nonzero(ridge & inside)
    if not len(rows):
        return ()
    widths = distance[rows, columns]
    # Bones are wider at their ends; wide bones are wanted more often than ribs and phalanges.
    typical = float(np.median(widths))
    preference = np.exp((place - 0.5) * 3 * np.clip(widths / typical - 1, -0.6, 0.8)) * widths
    dense = (scene.density - scene.floor)[rows * _QUARTER, columns * _QUARTER]
    preference = preference * np.clip(dense / max(float(np.median(dense)), 1e-3), 0.05, 3) ** 2
    chosen = rng.choice(
        len(rows), size=min(count, len(rows)), replace=False, p=preference / preference.sum()
    )
    return tuple(
        Anchor(
            row=float(rows[i]) * _QUARTER,
            column=float(columns[i]) * _QUARTER,
            axis=_axis(small, int(rows[i]), int(columns[i]), float(widths[i])),
            half_width_px=float(widths[i]) * _QUARTER,
        )
        for i in chosen
    )


def _axis(bone: NDArray[np.uint8], row: int, column: int, half_width: float) -> tuple[float, float]:
    """The direction in which the bone runs: the main axis of its pixels around the point."""
    reach = int(3 * half_width) + 2
    top, left = max(0, row - reach), max(0, column - reach)
    patch = bone[top : row + reach, left : column + reach]
    _, labels = cv2.connectedComponents(patch)
    y, x = np.nonzero(labels == labels[row - top, column - left])
    near = np.hypot(y - (row - top), x - (column - left)) <= reach
    y, x = y[near], x[near]
    if len(y) < 8:
        return (1.0, 0.0)
    _, vectors = np.linalg.eigh(np.cov(np.stack([y, x]).astype(np.float64)))
    axis = vectors[:, 1]
    return (float(axis[0]), float(axis[1]))
