"""Where bone is in a real radiograph, estimated from the picture alone."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.phantom.scene import Scene
from bonetumor.phantom.texture import Field

_WORKING_PX = 320  # the longer side of what all below is measured in
_LEAST_PX = 40
_LIKE_BONE = 0.4  # of how far the picture's densest bone stands out
_LONG, _THIN = 0.5, 0.025  # of the picture's sides
_MARROW = 0.55  # of how far the cortex beside it stands out; less would join two bones
_EDGE, _EDGE_FULL = 0.06, 0.6  # how deep a table reaches in, and over how much of the side
_GAP_PX = 21  # the widest marrow


def to_scene(pixels: NDArray[np.uint8]) -> Scene:
    """Where bone is, and what lies behind it, estimated from the picture alone.

    Bone is what is brighter than the tissue around it; the floor is the average of that tissue.
    """
    density = np.asarray(pixels / np.float32(255), np.float32)
    rows, columns = density.shape
    scale = _WORKING_PX / max(rows, columns)
    small = np.asarray(
        cv2.resize(density, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.float32
    )
    tissue = _tissue(small)
    bone = _like_bones(_bright(small, tissue), small, tissue)
    bone = _with_marrow(bone, small, tissue)
    floor = _floor(small, tissue, bone)
    size = (columns, rows)
    return Scene(
        density=density,
        floor=np.asarray(np.minimum(_grown(floor, size), density), np.float32),
        bone=_grown(bone.astype(np.float32), size) > 0.5,
        window=(0, 0, rows, columns),
    )


def _tissue(small: Field) -> NDArray[np.bool_]:
    """Everything but the dark background, the white collimation and a margin of both."""
    dark = float(np.percentile(small, 8))
    bright = cv2.GaussianBlur(small, (0, 0), 1.5) > dark + 0.05
    white = cv2.dilate((small > 0.98).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    tissue = np.asarray(bright & ~white, np.uint8)
    return np.asarray(cv2.erode(tissue, np.ones((3, 3), np.uint8)) > 0)


def _bright(small: Field, tissue: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """What is brighter than the tissue around it."""
    local = _mean_where(small, tissue, 0.055 * _WORKING_PX)
    spread = np.sqrt(_mean_where((small - local) ** 2, tissue, 0.055 * _WORKING_PX))
    bright = tissue & (small - local > np.maximum(0.25 * spread, 0.012)) & (small < 0.98)
    opened = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return _without_specks(_without_edges(np.asarray(opened, np.uint8)))


def _without_edges(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without the tables and pads that lie along a side of the picture."""
    cleared = mask.copy()
    for turn in range(4):
        side = np.rot90(cleared, turn)  # a view: the side is its top
        strip = side[: int(_EDGE * side.shape[0])]
        if strip.size and strip.any(axis=0).mean() > _EDGE_FULL:
            strip[:] = 0
    return cleared


def _floor(small: Field, tissue: NDArray[np.bool_], bone: NDArray[np.uint8]) -> Field:
    """The average of the tissue that is not bone."""
    soft = tissue & (cv2.dilate(bone, np.ones((3, 3), np.uint8)) == 0)
    return _mean_where(small, soft, 0.035 * _WORKING_PX)


def _with_marrow(
    mask: NDArray[np.uint8], small: Field, tissue: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """With what lies between two cortices and is denser than the tissue outside them."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_GAP_PX, _GAP_PX))
    padded = np.pad(mask, _GAP_PX, mode="edge")  # a bone goes on beyond the picture
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)[_GAP_PX:-_GAP_PX, _GAP_PX:-_GAP_PX]
    above = np.asarray(small - _floor(small, tissue, np.asarray(closed, np.uint8)), np.float32)
    near = _mean_where(above, mask > 0, 0.035 * _WORKING_PX)
    marrow = (closed > 0) & tissue & (above > _MARROW * near)
    filled = np.maximum(mask, marrow.astype(np.uint8))
    return np.asarray(cv2.morphologyEx(filled, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)


def _mean_where(values: Field, where: NDArray[np.bool_], sigma: float) -> Field:
    """The Gaussian mean over the pixels where `where` holds."""
    weight = where.astype(np.float32)
    total = cv2.GaussianBlur(values * weight, (0, 0), sigma)
    return np.asarray(total / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3), np.float32)


def _without_specks(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    large = stats[:, cv2.CC_STAT_AREA] >= _LEAST_PX
    large[0] = False
    return np.asarray(large[labels], np.uint8)


def _like_bones(
    mask: NDArray[np.uint8], small: Field, tissue: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Without folds of soft tissue, which nowhere stand out as the bones of the picture do, and
    without the edges of tables and pads, which are long and thin."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count == 1:
        return mask
    above = small - _floor(small, tissue, mask)
    strong = _LIKE_BONE * float(np.percentile(above[mask > 0], 95))
    kept = np.zeros(count, np.bool_)
    for label in range(1, count):
        sides = stats[label, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]] / mask.shape[::-1]
        is_edge = sides.max() > _LONG and sides.min() < _THIN
        kept[label] = not is_edge and np.percentile(above[labels == label], 90) > strong
    return np.asarray(kept[labels], np.uint8)


def _grown(field: Field, size: Sequence[int]) -> Field:
    return np.asarray(
        cv2.resize(field, (size[0], size[1]), interpolation=cv2.INTER_LINEAR), np.float32
    )
