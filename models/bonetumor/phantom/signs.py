"""The radiographic signs, each painted in the frame of one bone."""

from dataclasses import dataclass
from typing import Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.phantom.scene import Anchor, Scene
from bonetumor.phantom.texture import Field, fractal_noise, outline, smooth_noise, soft_step

_ROOTED = 0.6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """The neighbourhood of a lesion, seen along and across its bone; other bones in it are only
    what lies behind.

    `u`, `v`: pixels across and along the bone from the anchor; `surface_px`: distance to the
    bone's surface, positive inside; `bone`: density above the soft-tissue `floor`; `base`: the
    typical density of this bone; `side`: which side, -1 or 1, things grow out of.
    """

    window: tuple[slice, slice]
    u: Field
    v: Field
    surface_px: Field
    inside: Field
    bone: Field
    floor: Field
    base: float
    side: float
    half_width_px: float
    length_px: float
    width_px: float

    @classmethod
    def around(
        cls, scene: Scene, anchor: Anchor, size_px: tuple[float, float], rng: np.random.Generator
    ) -> Self:
        """The frame about an anchor, large enough for all that may surround the lesion."""
        reach = int(1.5 * (max(size_px) + anchor.half_width_px)) + 8
        rows, columns = scene.density.shape
        top, left = max(0, int(anchor.row) - reach), max(0, int(anchor.column) - reach)
        window = (
            slice(top, min(rows, int(anchor.row) + reach)),
            slice(left, min(columns, int(anchor.column) + reach)),
        )
        y = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None] - anchor.row
        x = np.arange(window[1].start, window[1].stop, dtype=np.float32)[None, :] - anchor.column
        dy, dx = anchor.axis
        mask = _own_bone(scene.bone[window], int(anchor.row) - top, int(anchor.column) - left)
        surface = cv2.distanceTransform(mask, cv2.DIST_L2, 5) - cv2.distanceTransform(
            1 - mask, cv2.DIST_L2, 5
        )
        surface = np.asarray(cv2.GaussianBlur(surface, (0, 0), 1.2), np.float32)
        floor = scene.floor[window]
        bone = np.clip(scene.density[window] - floor, 0, None)
        own = bone[mask > 0]
        return cls(
            window=window,
            u=np.asarray(x * dy - y * dx, np.float32),
            v=np.asarray(y * dy + x * dx, np.float32),
            surface_px=surface,
            inside=soft_step(surface, 0.8),
            bone=bone,
            floor=floor,
            base=max(float(np.percentile(own, 70)) if own.size else 0.1, 0.06),
            side=float(rng.choice([-1, 1])),
            half_width_px=anchor.half_width_px,
            length_px=size_px[0],
            width_px=size_px[1],
        )


def _own_bone(bone: NDArray[np.bool_], row: int, column: int) -> NDArray[np.uint8]:
    """The bone at a point, alone; all of them where there is none at it."""
    _, labels = cv2.connectedComponents(bone.astype(np.uint8))
    own = labels[row, column]
    return np.asarray(labels == own if own else bone, np.uint8)


class _Mass(Protocol):
    @property
    def soft_tissue(self) -> float: ...
    @property
    def matrix(self) -> str: ...


def matrix(shape: tuple[int, int], kind: str, size_px: float, rng: np.random.Generator) -> Field:
    """Rings, arcs and dots (chondroid), clouds (osteoid), haze (ground glass), or nothing."""
    strength = float(rng.uniform(0.5, 1.3))
    if kind == "osteoid":
        cloud = np.clip(0.25 + 0.55 * fractal_noise(shape, max(6, size_px * 0.45), rng), 0, 1.5)
        return np.asarray(0.8 * strength * cloud, np.float32)
    if kind == "chondroid":
        noise = fractal_noise(shape, max(4, size_px * 0.18), rng)
        arcs = np.exp(-(((noise - 0.7) / 0.18) ** 2)) + soft_step(noise - 1.3, 0.12)
        patchy = soft_step(smooth_noise(shape, max(6, size_px * 0.4), rng) + 0.2, 0.4)
        return np.asarray(0.7 * strength * arcs * patchy, np.float32)
    if kind == "ground glass":
        haze = 0.4 + 0.04 * fractal_noise(shape, 4, rng)
        return np.asarray((0.5 + 0.5 * strength) * haze, np.float32)
    return np.zeros(shape, np.float32)


def cortical_breach(frame: Frame, patch: Field, strength: float, rng: np.random.Generator) -> Field:
    """The cortex of one side is gone over part of the lesion's length."""
    middle = float(rng.normal(0, 0.15)) * frame.length_px
    along = np.exp(-(((frame.v - middle) / (0.3 * frame.length_px)) ** 4))
    cortex = np.exp(-((frame.surface_px / (0.25 * frame.half_width_px + 1)) ** 2))
    on_side = soft_step(frame.side * frame.u, 0.2 * frame.half_width_px)
    gone = 0.75 * strength * along * cortex * on_side
    return np.asarray(patch - gone * np.clip(patch - frame.floor, 0, None), np.float32)


def soft_tissue_mass(
    frame: Frame, patch: Field, mask: Field, look: _Mass, rng: np.random.Generator
) -> tuple[Field, Field]:
    """A mass beside the bone, denser than the fat and muscle that it displaces."""
    out = frame.half_width_px * float(rng.uniform(0.9, 1.2))
    half = (
        frame.width_px * (0.3 + 0.3 * look.soft_tissue) + 0.2 * frame.half_width_px,
        frame.length_px * float(rng.uniform(0.35, 0.55)),
    )
    shape = outline(
        (frame.u - frame.side * out) / half[0],
        (frame.v - float(rng.normal(0, 0.1)) * frame.length_px) / half[1],
        0.35,
        rng,
    )
    lump = soft_step(shape - 0.08, float(rng.uniform(0.05, 0.16)))
    outside = 1 - frame.inside
    added = float(rng.uniform(0.15, 0.45)) * frame.base * lump * outside
    if look.matrix != "none":
        bony = matrix(patch.shape, look.matrix, float(min(half)), rng)
        added = added + float(rng.uniform(0.2, 0.8)) * frame.base * bony * lump * outside
    grown = np.maximum(mask, soft_step(shape - 0.1, 0.03) * (outside > 0.5))
    return np.asarray(patch + added, np.float32), np.asarray(grown, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Periosteum:
    """Where new bone may lie: `out_px` from the cortex, `along` 1 at the lesion's middle and 0
    beyond its `span_px`; `v` runs along the bone."""

    v: Field
    out_px: Field
    along: Field
    reach_px: float
    span_px: float


def periosteal_reaction(
    frame: Frame, patch: Field, mask: Field, kind: str, rng: np.random.Generator
) -> tuple[Field, Field]:
    """Solid, lamellated, sunburst or Codman: new bone outside the cortex."""
    span = frame.length_px * float(rng.uniform(0.45, 0.65))
    place = _Periosteum(
        v=frame.v,
        out_px=np.asarray(np.clip(-frame.surface_px, 0, None), np.float32),
        along=np.asarray(np.clip(1 - (frame.v / span) ** 2, 0, 1), np.float32),
        reach_px=frame.half_width_px * float(rng.uniform(0.2, 0.75)),
        span_px=span,
    )
    sides = 1.0 if rng.random() < 0.35 else soft_step(frame.side * frame.u, 2.0)
    draw = {"solid": _solid, "lamellated": _lamellated, "sunburst": _sunburst, "codman": _codman}
    outside = soft_step(-frame.surface_px, 0.8)
    reaction = np.clip(draw[kind](place, rng), 0, 1.2) * outside * sides
    strength = float(rng.uniform(0.4, 1.0)) * frame.base
    seen = (reaction > 0.25).astype(np.float32)
    return (
        np.asarray(patch + strength * reaction, np.float32),
        np.asarray(np.maximum(mask, seen), np.float32),
    )


def _solid(place: _Periosteum, rng: np.random.Generator) -> Field:
    uneven = 1 + 0.15 * smooth_noise(place.v.shape, 12, rng)
    thick = np.asarray(place.reach_px * 0.6 * place.along * uneven, np.float32)
    return np.asarray(soft_step(thick - place.out_px, 0.8) * (place.along > 0.02), np.float32)


def _lamellated(place: _Periosteum, rng: np.random.Generator) -> Field:
    layers = int(rng.integers(1, 5))
    gap = max(2.2, place.reach_px / layers)
    lines = np.zeros_like(place.v)
    for layer in range(1, layers + 1):
        height = gap * layer * np.sqrt(place.along)
        line = np.exp(-(((place.out_px - height) / max(0.7, 0.18 * gap)) ** 2))
        lines += line * (place.along > 0.03)
    return np.asarray(lines, np.float32)


def _sunburst(place: _Periosteum, rng: np.random.Generator) -> Field:
    fan = place.v / (1 + place.out_px / (1.5 * place.span_px))  # spicules spread outwards
    rays = rng.standard_normal(512).astype(np.float32)
    index = np.clip(fan / max(2.2, 0.05 * place.span_px) + 256, 0, 510)
    low = index.astype(np.int32)
    ray = rays[low] * (1 - (index - low)) + rays[low + 1] * (index - low)
    fade = np.clip(1 - place.out_px / (1.6 * place.reach_px * (place.along + 0.05)), 0, 1)
    shown = soft_step(np.asarray(ray - 0.15, np.float32), 0.2)
    return np.asarray(shown * fade * (place.along > 0.02), np.float32)


def _codman(place: _Periosteum, rng: np.random.Generator) -> Field:
    ends = np.abs(place.v)
    if rng.random() < 0.5:
        ends = place.v * float(rng.choice([-1, 1]))
    start = 0.95 * place.span_px
    height = place.reach_px * np.clip((start - ends) / (0.45 * place.span_px), 0, 1)
    shown = (ends > 0.45 * place.span_px) & (ends < start)
    line = np.exp(-(((place.out_px - height) / max(0.9, 0.08 * place.reach_px)) ** 2))
    return np.asarray((line + 0.25 * (place.out_px < height)) * shown, np.float32)


def exostosis(frame: Frame, rng: np.random.Generator) -> tuple[Field, Field]:
    """A bony outgrowth that continues the cortex: a broad base or a stalk, and a cap.

    An empty mask where the bone has no surface to grow out of.
    """
    long, wide = max(frame.length_px, frame.width_px), min(frame.length_px, frame.width_px)
    lean = float(rng.uniform(-0.9, 0.9))
    root = frame.side * frame.half_width_px * 0.85
    sessile = rng.random() < 0.45
    stem = wide * (0.9 if sessile else float(rng.uniform(0.5, 0.8)))
    tip = long * (0.55 if sessile else 0.85)
    along, off = _along_stalk(frame, root, lean)
    if not _is_rooted(frame, along, off, stem, tip):
        return frame.floor + frame.bone, np.zeros_like(frame.bone)
    stalk = np.minimum(
        stem / 2 - np.abs(off) + 0.08 * stem * smooth_noise(off.shape, stem, rng),
        np.minimum(along + 0.3 * stem, tip - along),
    )
    cap_size = wide * float(rng.uniform(0.45, 0.62))
    cap = outline((along - tip + 0.3 * cap_size) / cap_size, off / (cap_size * 1.05), 0.5, rng)
    field = np.maximum(stalk, cap * cap_size)
    field = np.asarray(cv2.GaussianBlur(field.astype(np.float32), (0, 0), 1.0), np.float32)
    deep = frame.surface_px - 0.35 * frame.half_width_px  # where it is one with the bone
    body = soft_step(field, 0.7) * soft_step(-deep, max(1.0, 0.12 * frame.half_width_px))
    rim = np.exp(-(((field - 1.2) / max(1.0, 0.07 * wide)) ** 2))
    spongy = 0.7 + 0.12 * fractal_noise(body.shape, max(3, wide * 0.2), rng)
    spots = matrix(body.shape, "chondroid", wide, rng) * soft_step(cap, 0.1)
    grown = frame.base * (body * (spongy + 0.4 * spots) + 0.3 * rim * soft_step(-deep, 1.0))
    covered = np.maximum(frame.bone, grown * float(rng.uniform(0.8, 1.1)))
    mixed = frame.bone * (1 - body) + (0.55 * covered + 0.45 * (frame.bone * 0.6 + grown)) * body
    bone = np.maximum(mixed, grown * (1 - frame.inside))
    outside = frame.surface_px < 0.15 * frame.half_width_px
    return np.asarray(frame.floor + bone, np.float32), np.asarray(body * outside, np.float32)


def _is_rooted(frame: Frame, along: Field, off: Field, stem: float, tip: float) -> bool:
    """Whether the stalk begins in the bone and, for the most part, leaves it."""
    on_line = np.abs(off) < max(1.0, 0.2 * stem)
    base = on_line & (np.abs(along) < max(1.5, 0.15 * stem))
    rest = on_line & (along > 0.5 * tip) & (along < tip)
    return (
        bool(base.any() and rest.any())
        and float((frame.surface_px[base] > -1).mean()) > _ROOTED
        and float((frame.surface_px[rest] < 0).mean()) > _ROOTED
    )


def _along_stalk(frame: Frame, root: float, lean: float) -> tuple[Field, Field]:
    across, up = frame.side * float(np.cos(lean)), float(np.sin(lean))
    u, v = frame.u - root, frame.v
    return (
        np.asarray(u * across + v * up, np.float32),
        np.asarray(-u * up + v * across, np.float32),
    )


def joint_bodies(frame: Frame, rng: np.random.Generator) -> tuple[Field, Field]:
    """Many rounded, calcified bodies about a joint."""
    patch, mask = frame.floor + frame.bone, np.zeros_like(frame.bone)
    count = int(rng.integers(4, 22))
    half = np.array([frame.width_px, frame.length_px]) / 2
    for _ in range(count):
        place = np.clip(rng.normal(0, 0.5, 2), -0.9, 0.9) * half
        radius = float(np.clip(rng.lognormal(np.log(0.1 * half.mean()), 0.4), 2.5, half.mean()))
        shape = outline((frame.u - place[0]) / radius, (frame.v - place[1]) / radius, 0.35, rng)
        body = soft_step(shape - 0.05, max(0.05, 0.6 / radius))
        ring = np.exp(-(((shape - 0.18) / 0.12) ** 2))
        amount = frame.base * float(rng.uniform(0.25, 0.7))
        patch = patch + amount * (0.6 * body + 0.5 * ring * (shape > 0))
        mask = np.maximum(mask, (shape > 0.02).astype(np.float32))
    return np.asarray(patch, np.float32), np.asarray(mask, np.float32)
