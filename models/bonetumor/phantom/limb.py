"""Procedural limbs: bones as tubes along gently curved axes, in soft tissue.

The projection of a tube follows from its outer and inner radius at each height, so that cortices
appear by themselves. Children have growth plates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bonetumor.phantom.scene import Scene
from bonetumor.phantom.texture import Field, fractal_noise, smooth_noise

SITES = ("femur", "tibia", "humerus", "radius", "fibula", "hand", "foot")


@dataclass(frozen=True, slots=True)
class _Bone:
    centre: NDArray[np.float32]
    outer: NDArray[np.float32]
    inner: NDArray[np.float32]
    top: float
    bottom: float


def draw_limb(site: str, shape: tuple[int, int], age_years: int, rng: np.random.Generator) -> Scene:
    """A square scene of the site, large enough to be turned under a picture of `shape`."""
    rows, columns = shape
    side = int(np.hypot(rows, columns)) + 2
    bones = _draw_bones(site, side, min(rows, columns), rng)
    floor = _soft_tissue(side, bones, rng)
    solid = np.zeros_like(floor)
    for bone in bones:
        solid += _project(bone, side, age_years, rng)
    top, left = (side - rows) // 2, (side - columns) // 2
    return Scene(
        density=np.asarray(floor + solid, np.float32),
        floor=floor,
        bone=solid > 0.05,
        window=(top, left, top + rows, left + columns),
    )


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
    beside = {"fibula": 0.9, "tibia": 0.45, "radius": 0.9, "hand": 0.8, "foot": 0.8}.get(site, 0.0)
    if beside:
        offset = radius * float(rng.uniform(2.0, 3.0)) * float(rng.choice([-1, 1]))
        bones.append(_tube(y, middle + offset, radius * beside, main.top, main.bottom, side, rng))
    if site in ("hand", "foot"):
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


def _project(bone: _Bone, side: int, age_years: int, rng: np.random.Generator) -> Field:
    """Path length of the rays through the tube: cortex in full, marrow in part with trabeculae."""
    x = np.arange(side, dtype=np.float32)[None, :] - bone.centre[:, None]
    outer = np.sqrt(np.clip(bone.outer[:, None] ** 2 - x**2, 0, None))
    inner = np.sqrt(np.clip(bone.inner[:, None] ** 2 - x**2, 0, None))
    scale = float(np.median(bone.outer[bone.outer > 1])) if np.any(bone.outer > 1) else 1.0
    spongy = (bone.inner / np.maximum(bone.outer, 1e-3))[:, None] ** 3
    trabeculae = fractal_noise((side, side), max(4.0, scale * 0.25), rng) * 0.16 + 1.0
    marrow = inner * (0.12 + 0.38 * spongy) * trabeculae
    solid = ((outer - inner) + marrow) / scale
    if age_years < 17:
        solid = solid * _growth_plates(bone, side, scale, rng)
    return np.asarray(solid, np.float32)


def _growth_plates(bone: _Bone, side: int, scale: float, rng: np.random.Generator) -> Field:
    """A thin wavy gap with denser bone on the shaft's side, near each end inside the picture."""
    y = np.arange(side, dtype=np.float32)[:, None]
    wave = 0.06 * scale * smooth_noise((1, side), scale, rng)
    factor = np.ones((side, side), np.float32)
    for end, inward in ((bone.top, 1.0), (bone.bottom, -1.0)):
        if 0 < end < side:
            place = end + inward * scale * float(rng.uniform(0.5, 0.9)) + wave
            thin = max(1.2, scale * float(rng.uniform(0.02, 0.05)))
            factor *= 1 - 0.45 * np.exp(-(((y - place) / thin) ** 2))
            factor *= 1 + 0.18 * np.exp(-(((y - place - inward * 2.2 * thin) / thin) ** 2))
    return np.asarray(factor, np.float32)


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
