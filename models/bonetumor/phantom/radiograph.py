"""Procedural radiographs of limbs, with or without one tumour.

A bone is a tube along a gently curved axis: its projection follows from outer and inner radius
at each height, so that cortices appear by themselves. A lesion changes the density of the bone
around it. The picture is then rotated, collimated, exposed and given noise.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.phantom.lesion import LesionLook, paint_lesion
from bonetumor.phantom.texture import Field, fractal_noise, smooth_noise, soft_step
from bonetumor.phantom.tumour import TumourType

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Radiograph:
    """`pixels`: uint16, shape (rows, columns), 12 bits, MONOCHROME2; `box` in pixel edges."""

    pixels: NDArray[np.uint16]
    box: Box | None
    site: str


@dataclass(frozen=True, slots=True)
class _Bone:
    centre: NDArray[np.float32]
    outer: NDArray[np.float32]
    inner: NDArray[np.float32]
    top: float
    bottom: float


SITES = ("femur", "tibia", "humerus", "radius", "fibula", "hand")


def draw_radiograph(
    kind: TumourType | None, rng: np.random.Generator, *, longest_px: int = 960
) -> Radiograph:
    """A radiograph of a random site; with a tumour of `kind`, or a normal one if None."""
    aspect = float(np.clip(rng.lognormal(np.log(0.77), 0.25), 0.42, 1.35))
    rows = longest_px if aspect <= 1 else int(longest_px / aspect)
    columns = int(rows * aspect) if aspect <= 1 else longest_px
    site = str(rng.choice(SITES))
    side = int(np.hypot(rows, columns)) + 2
    bones = _draw_bones(site, side, min(rows, columns), rng)
    density = _soft_tissue(side, bones, rng)
    for bone in bones:
        density += _project(bone, side, rng)
    mask: Field | None = None
    if kind is not None:
        bone = bones[0]
        look = LesionLook.draw(kind, rng)
        density, mask = paint_lesion(
            density, bone.centre, bone.outer, (side, rows, columns), kind, look, rng
        )
    angle = float(rng.normal(0, 14)) + (90.0 if rng.random() < 0.12 else 0.0)
    density = _turn(density, angle, (rows, columns))
    box = None
    if mask is not None:
        box = _box_of(_turn(mask, angle, (rows, columns)))
    return Radiograph(pixels=_expose(density, rng), box=box, site=site)


def _draw_bones(site: str, side: int, width: int, rng: np.random.Generator) -> list[_Bone]:
    y = np.arange(side, dtype=np.float32)
    radius = width * float(rng.uniform(0.06, 0.13))
    middle = side / 2 + float(rng.normal(0, 0.05)) * width
    upper = bool(rng.random() < 0.5)
    joint = side / 2 + width * float(rng.uniform(0.0, 0.36)) * (1 if upper else -1)
    main = _tube(y, middle, radius, 0 if upper else joint, joint if upper else side, side, rng)
    bones = [main]
    gap = radius * float(rng.uniform(0.05, 0.2))
    if upper:
        far = _tube(y, middle, radius * float(rng.uniform(0.8, 1.1)), joint + gap, side, side, rng)
    else:
        far = _tube(y, middle, radius * float(rng.uniform(0.8, 1.1)), 0, joint - gap, side, rng)
    bones.append(far)
    beside = {"fibula": 0.9, "tibia": 0.45, "radius": 0.9, "hand": 0.8}.get(site, 0.0)
    if beside:
        offset = radius * float(rng.uniform(2.0, 3.0)) * float(rng.choice([-1, 1]))
        bones.append(_tube(y, middle + offset, radius * beside, main.top, main.bottom, side, rng))
    if site == "hand":
        for step in (-2, 2):
            shift = step * radius * float(rng.uniform(2.2, 2.8))
            bones.append(_tube(y, middle + shift, radius * 0.8, main.top, main.bottom, side, rng))
    return bones


def _tube(
    y: Field,
    centre: float,
    radius: float,
    top: float,
    end: float,
    side: int,
    rng: np.random.Generator,
) -> _Bone:
    """A shaft from `top` to `end` whose ends flare where they meet a joint inside the picture."""
    bend = float(rng.normal(0, 0.02)) * side
    axis = centre + bend * np.cos(np.pi * y / side + float(rng.uniform(0, 3)))
    flare = np.zeros_like(y)
    reach = radius * float(rng.uniform(2.5, 4.5))
    for joint in (top, end):
        if 0 < joint < side:
            flare += np.exp(-(((y - joint) / reach) ** 2))
    outer = radius * (1 + float(rng.uniform(0.5, 1.1)) * flare)
    above = y - top if top > 0 else np.full_like(y, side)
    below = end - y if end < side else np.full_like(y, side)
    rounded = np.clip(np.minimum(above, below) / (radius * 0.6), 0, 1)
    outer = outer * np.sqrt(np.clip(1 - (1 - rounded) ** 2, 0, 1))
    cortex = np.clip(float(rng.uniform(0.2, 0.42)) * (1 - 0.85 * flare), 0.05, 0.5)
    return _Bone(
        axis.astype(np.float32),
        outer.astype(np.float32),
        (outer * (1 - cortex)).astype(np.float32),
        float(top),
        float(end),
    )


def _project(bone: _Bone, side: int, rng: np.random.Generator) -> Field:
    """Path length of the rays through the tube: cortex in full, marrow in part with trabeculae."""
    x = np.arange(side, dtype=np.float32)[None, :] - bone.centre[:, None]
    outer = np.sqrt(np.clip(bone.outer[:, None] ** 2 - x**2, 0, None))
    inner = np.sqrt(np.clip(bone.inner[:, None] ** 2 - x**2, 0, None))
    scale = float(np.median(bone.outer[bone.outer > 1])) if np.any(bone.outer > 1) else 1.0
    spongy = (bone.inner / np.maximum(bone.outer, 1e-3))[:, None] ** 3
    trabeculae = fractal_noise((side, side), max(4.0, scale * 0.25), rng) * 0.16 + 1.0
    marrow = inner * (0.12 + 0.38 * spongy) * trabeculae
    return np.asarray(((outer - inner) + marrow) / scale, np.float32)


def _soft_tissue(side: int, bones: list[_Bone], rng: np.random.Generator) -> Field:
    centre = np.mean([b.centre for b in bones], axis=0)
    width = max(float(b.outer.max()) for b in bones) * float(rng.uniform(2.0, 3.2))
    spread = float(np.ptp([b.centre.mean() for b in bones])) / 2
    x = np.arange(side, dtype=np.float32)[None, :] - centre[:, None]
    limb = width + spread + width * 0.12 * smooth_noise((side, 1), side * 0.4, rng)
    depth = np.sqrt(np.clip(1 - (x / np.maximum(limb, 1)) ** 2, 0, None))
    return np.asarray(
        float(rng.uniform(0.25, 0.6)) * depth * (1 + 0.03 * fractal_noise((side, side), 60, rng)),
        np.float32,
    )


def _turn(field: Field, angle: float, shape: tuple[int, int]) -> Field:
    side = field.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2 - 0.5, side / 2 - 0.5), angle, 1.0)
    matrix[0, 2] -= (side - shape[1]) / 2
    matrix[1, 2] -= (side - shape[0]) / 2
    turned = cv2.warpAffine(field, matrix, (shape[1], shape[0]), flags=cv2.INTER_LINEAR)
    return np.asarray(turned, np.float32)


def _box_of(mask: Field) -> Box | None:
    rows, columns = np.nonzero(mask > 0.35)
    if len(rows) < 12:
        return None
    return (
        float(columns.min()),
        float(rows.min()),
        float(columns.max() + 1),
        float(rows.max() + 1),
    )


def _expose(density: Field, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Absorption, heel effect, scatter, noise, collimation, a marker; 12 bits."""
    rows, columns = density.shape
    signal = 1 - np.exp(-density * float(rng.uniform(0.55, 1.1)))
    signal += 0.05 * smooth_noise(density.shape, max(rows, columns) * 0.7, rng)
    signal = signal + 0.12 * cv2.GaussianBlur(signal, (0, 0), rows * 0.05)
    signal = np.asarray(cv2.GaussianBlur(signal, (0, 0), float(rng.uniform(0.4, 1.3))), np.float32)
    low, high = np.percentile(signal, [0.5, 99.7])
    signal = np.clip((signal - low) / max(float(high - low), 1e-3), 0, 1.15)
    signal = signal ** float(rng.uniform(0.75, 1.35)) * float(rng.uniform(0.75, 0.98))
    signal += rng.normal(0, float(rng.uniform(0.004, 0.02)), signal.shape).astype(np.float32)
    signal = _collimate(signal, rng)
    if rng.random() < 0.7:
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
        str(rng.choice(["L", "R"])),
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
