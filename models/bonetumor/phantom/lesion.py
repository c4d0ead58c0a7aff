"""One tumour painted into a scene: what replaces bone, what grows out of it, what surrounds it."""

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from bonetumor.phantom.scene import Anchor, Scene
from bonetumor.phantom.signs import (
    Frame,
    cortical_breach,
    exostosis,
    joint_bodies,
    matrix,
    periosteal_reaction,
    soft_tissue_mass,
)
from bonetumor.phantom.texture import Field, cells, fractal_noise, outline, smooth_noise, soft_step
from bonetumor.phantom.tumour import TumourType, draw_kind, draw_sign
from bonetumor.phantom.visible import PAINTED

_SIGNS = (
    "lysis", "rim", "margin", "septa", "expansion", "breach", "soft_tissue", "sclerosis",
    "eccentric",
)  # fmt: skip
_PRESENT = 0.4
_LEAST_CONTRAST = 0.075
_LEAST_STRUCTURE = 0.7
_TOGETHER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionLook:
    """One patient's lesion: the strength of each radiographic sign, 0..1, and its kinds."""

    lysis: float
    rim: float
    margin: float
    septa: float
    expansion: float
    breach: float
    soft_tissue: float
    sclerosis: float
    eccentric: float
    matrix: str
    periosteal: str

    @classmethod
    def draw(cls, kind: TumourType, rng: np.random.Generator) -> Self:
        """Signs around the means of the type; typical pairs stay confusable."""
        return cls(
            **{name: draw_sign(getattr(kind, name), rng) for name in _SIGNS},
            matrix=draw_kind(kind.matrix, rng),
            periosteal=draw_kind(kind.periosteal, rng),
        )


def paint_lesion(
    scene: Scene,
    anchor: Anchor,
    size_px: tuple[float, float],
    kind: TumourType,
    look: LesionLook,
    rng: np.random.Generator,
) -> tuple[Scene, Field] | None:
    """Paints one lesion of `size_px` (along, across the bone).

    Returns the scene with it, and its mask: 0..1, shape of the scene; or None where it would
    hardly be seen.
    """
    frame = Frame.around(scene, anchor, size_px, rng)
    if kind.form == "exostosis":
        patch, mask = exostosis(frame, rng)
    elif kind.form == "bodies":
        patch, mask = joint_bodies(frame, rng)
    else:
        patch, mask = _inside(frame, look, rng)
    if not _is_seen(frame, patch, mask, float(np.ptp(np.percentile(scene.density, [1, 99])))):
        return None
    density, whole = scene.density.copy(), np.zeros_like(scene.density)
    density[frame.window] = np.clip(patch, 0, None)
    whole[frame.window] = mask
    painted = Scene(density=density, floor=scene.floor, bone=scene.bone, window=scene.window)
    return painted, whole


def _is_seen(frame: Frame, patch: Field, mask: Field, contrast: float) -> bool:
    """Whether the change stands out from what was there, and from the picture's contrast."""
    within = mask > PAINTED
    if int(within.sum()) < 12:
        return False
    before = (frame.floor + frame.bone)[within]
    change = float(np.abs(patch[within] - before).mean())
    return change > max(_LEAST_CONTRAST * contrast, _LEAST_STRUCTURE * float(before.std()))


def _is_one(mask: Field) -> bool:
    """Whether most of it hangs together: a tumour of one bone does."""
    _, _, stats, _ = cv2.connectedComponentsWithStats((mask > PAINTED).astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    return len(areas) > 0 and int(areas.max()) >= _TOGETHER * int(areas.sum())


def _inside(frame: Frame, look: LesionLook, rng: np.random.Generator) -> tuple[Field, Field]:
    """A tumour that grows within the bone; an empty mask where it would fall into pieces."""
    shift = frame.side * look.eccentric * max(0.0, frame.half_width_px - 0.35 * frame.width_px)
    shape = outline(
        (frame.u - shift) / (frame.width_px / 2),
        frame.v / (frame.length_px / 2),
        0.25 + 0.5 * look.septa + 0.4 * look.margin,
        rng,
    )
    short = min(frame.length_px, frame.width_px) / 2
    edge = max(0.6 / short, 0.02 + 0.2 * look.margin**2)
    body = soft_step(shape - edge, edge)
    grown = soft_step(frame.surface_px + max(1.5, look.expansion * 0.35 * short), 1.0)
    body = np.asarray(body * np.maximum(grown, 0.0), np.float32)
    bone = _destroyed(frame, body, shape, look, rng)
    base = frame.base
    within = body * frame.inside
    bone += base * _tissue(frame, body, shape, look, rng) * np.maximum(within, body * 0.8)
    ring = _rim(frame, shape * short, look, rng)
    bone += base * ring * frame.inside
    if look.expansion > _PRESENT:
        bone += base * _shell(frame, body, shape * short, look, rng)
    if look.sclerosis > _PRESENT:
        halo = np.exp(-((np.clip(-shape * short, 0, None) / (0.5 * frame.half_width_px)) ** 2))
        bone += base * 0.7 * look.sclerosis * halo * (1 - body) * frame.inside
    patch = frame.floor + bone
    mask = np.asarray(soft_step(shape - 0.5 * edge, 0.03) * grown, np.float32)
    if not _is_one(mask):
        return patch, np.zeros_like(mask)
    if look.breach > _PRESENT:
        patch = cortical_breach(frame, patch, look.breach, rng)
    if look.soft_tissue > _PRESENT:
        patch, mask = soft_tissue_mass(frame, patch, mask, look, rng)
    if look.periosteal != "none":
        patch, mask = periosteal_reaction(frame, patch, mask, look.periosteal, rng)
    return patch, mask


def _destroyed(
    frame: Frame, body: Field, shape: Field, look: LesionLook, rng: np.random.Generator
) -> Field:
    """The bone's own density after lysis: geographic, moth-eaten or permeative by margin."""
    short = min(frame.length_px, frame.width_px)
    depth = 0.45 + 0.55 * np.sqrt(np.clip(shape * 2.5, 0, 1))
    loss = body * depth
    if look.margin > 0.5:
        holes = short * (0.22 if look.margin < 0.8 else 0.09)
        eaten = soft_step(fractal_noise(body.shape, max(2.5, holes), rng) - 0.1, 0.35)
        loss = loss * (0.35 + 0.75 * eaten)
    calm = cv2.GaussianBlur(frame.bone, (0, 0), max(1.0, 0.12 * short))
    quiet = 0.75 * body * look.lysis * (1 - 0.5 * look.margin)
    bone = frame.bone * (1 - quiet) + calm * quiet
    return np.asarray(bone * (1 - (0.5 + 0.45 * look.lysis) * look.lysis * loss), np.float32)


def _tissue(
    frame: Frame, body: Field, shape: Field, look: LesionLook, rng: np.random.Generator
) -> Field:
    """What the tumour itself makes, in units of the bone's own density."""
    short = min(frame.length_px, frame.width_px)
    tissue = matrix(body.shape, look.matrix, short, rng)
    if look.septa > _PRESENT / 2:
        walls = cells(body.shape, max(5.0, short * float(rng.uniform(0.25, 0.5))), rng)
        tissue = tissue + 0.5 * look.septa * walls * soft_step(shape - 0.03, 0.03)
    return np.asarray(tissue, np.float32)


def _rim(frame: Frame, depth_px: Field, look: LesionLook, rng: np.random.Generator) -> Field:
    """The sclerotic margin: a bright line, thicker here and thinner there."""
    thick = max(1.0, frame.half_width_px * float(rng.uniform(0.03, 0.12)))
    uneven = np.clip(0.7 + 0.5 * smooth_noise(depth_px.shape, 0.5 * frame.length_px, rng), 0, 1.3)
    line = np.exp(-(((depth_px - thick * 0.5) / thick) ** 2))
    return np.asarray(0.8 * look.rim * (1 - 0.8 * look.margin) * uneven * line, np.float32)


def _shell(
    frame: Frame, body: Field, depth_px: Field, look: LesionLook, rng: np.random.Generator
) -> Field:
    """A bulging lesion's tissue and thin cortex, where it leaves the old contour of the bone."""
    outside = soft_step(-frame.surface_px - 0.5, 0.8)
    thick = max(0.8, 0.05 * frame.half_width_px)
    intact = np.clip(1.2 - look.breach + 0.4 * smooth_noise(body.shape, 20, rng), 0, 1)
    shell = np.exp(-(((depth_px - thick) / thick) ** 2)) * intact
    return np.asarray(outside * (0.2 * body + 0.7 * look.expansion * shell), np.float32)
