"""Radiographs of limbs, with known tumours or without any."""

from copy import deepcopy
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.domain.image import Corners
from bonetumor.phantom.exposure import expose, reexpose
from bonetumor.phantom.lesion import LesionLook, paint_lesion
from bonetumor.phantom.limb import SITES, draw_limb
from bonetumor.phantom.normals import Normals
from bonetumor.phantom.scene import Anchor, Scene, draw_anchors
from bonetumor.phantom.texture import Field
from bonetumor.phantom.tumour import TumourType, draw_kind, draw_quantile
from bonetumor.phantom.visible import visible_box

_LEAST_PX = 8.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Radiograph:
    """`pixels`: uint16, shape (rows, columns), 12 bits, MONOCHROME2; `boxes` in pixel edges.

    `source` says what the bones are: "procedural", or a real normal picture's name.
    """

    pixels: NDArray[np.uint16]
    boxes: tuple[Corners, ...]
    site: str
    source: str = "procedural"


def draw_radiograph(
    kind: TumourType | None,
    rng: np.random.Generator,
    *,
    age_years: int = 30,
    longest_px: int = 960,
    normals: Normals | None = None,
) -> Radiograph:
    """A radiograph with a tumour of `kind`, or a normal one if None.

    With `normals`, most pictures are real normal radiographs, with or without a painted tumour.
    """
    real = normals is not None and rng.random() < normals.share
    shape = _draw_shape(longest_px, rng)
    site = draw_kind(kind.sites, rng) if kind else str(rng.choice(SITES))
    if real and normals is not None:
        source, scene = normals.draw(shape, rng, limb=kind is not None)
    else:
        source, scene = "procedural", draw_limb(site, shape, age_years, rng)
    density, bare = scene.density, scene.density
    masks: list[Field] = []
    if kind is not None:
        painted, masks = _paint(scene, kind, rng)
        density = painted.density
    if not real:
        angle = float(rng.normal(0, 14)) + (90.0 if rng.random() < 0.12 else 0.0)
        density, bare, *masks = (_turn(f, angle, shape) for f in (density, bare, *masks))
    render = reexpose if real else expose
    same_chance = deepcopy(rng)
    pixels = render(density, rng)
    boxes = _boxes_of(masks, pixels, render(bare, same_chance)) if masks else ()
    return Radiograph(pixels=pixels, boxes=boxes, site=site, source=source)


def _draw_shape(longest_px: int, rng: np.random.Generator) -> tuple[int, int]:
    """Rows and columns; the aspect follows the published quantiles (BTXRD)."""
    aspect = draw_quantile((0.4652, 0.6449, 0.7715, 0.9186, 1.2764), rng)
    if aspect <= 1:
        return longest_px, int(longest_px * aspect)
    return int(longest_px / aspect), longest_px


def _paint(scene: Scene, kind: TumourType, rng: np.random.Generator) -> tuple[Scene, list[Field]]:
    count = 1 if kind.most_lesions == 1 else int(rng.integers(1, kind.most_lesions + 1))
    masks: list[Field] = []
    look = LesionLook.draw(kind, rng)
    for anchor in draw_anchors(scene, kind.place, count + 6, rng):
        if len(masks) < count:
            size = _draw_size(scene, anchor, kind, rng)
            painted = paint_lesion(scene, anchor, size, kind, look, rng)
            if painted is None:  # hardly seen here: another place, another look
                look = LesionLook.draw(kind, rng)
                continue
            if any(float((mask * painted[1]).sum()) > 0 for mask in masks):
                continue
            scene = painted[0]
            masks.append(painted[1])
    return scene, masks


def _draw_size(
    scene: Scene, anchor: Anchor, kind: TumourType, rng: np.random.Generator
) -> tuple[float, float]:
    """Length along and width across the bone. What grows within a bone stays near its width."""
    top, left, bottom, right = scene.window
    area = draw_quantile(kind.area_fraction, rng) * (bottom - top) * (right - left)
    aspect = draw_quantile(kind.aspect, rng)
    across = float(np.sqrt(area * aspect))
    if kind.form == "inside":
        widest = 2 * anchor.half_width_px * float(rng.uniform(0.8, 1.1 + 0.6 * kind.expansion))
        across = min(across, widest)
    elif kind.form == "exostosis":
        across = min(across, 1.8 * anchor.half_width_px)
    longest = 2.5 if kind.form == "exostosis" else 3.5
    along = min(area / max(across, 1.0), longest * across)
    return max(_LEAST_PX, along), max(_LEAST_PX, across)


def _turn(field: Field, angle: float, shape: tuple[int, int]) -> Field:
    side = field.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2 - 0.5, side / 2 - 0.5), angle, 1.0)
    matrix[0, 2] -= (side - shape[1]) / 2
    matrix[1, 2] -= (side - shape[0]) / 2
    turned = cv2.warpAffine(field, matrix, (shape[1], shape[0]), flags=cv2.INTER_LINEAR)
    return np.asarray(turned, np.float32)


def _boxes_of(
    masks: list[Field], pixels: NDArray[np.uint16], bare: NDArray[np.uint16]
) -> tuple[Corners, ...]:
    found = (visible_box(mask, pixels, bare) for mask in masks)
    return tuple(box for box in found if box is not None)
