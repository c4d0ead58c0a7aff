"""Real normal radiographs as scenes: any folder of pictures will do.

A `manifest.csv` beside the pictures may name an area to blank (`logo_box_xywh`), so that no
burned-in logo can give away that a picture comes from a set of normals, and the `region` shown.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.domain.errors import InvalidInput
from bonetumor.phantom.bones import to_scene
from bonetumor.phantom.scene import Scene, draw_anchors

_SUFFIXES = {".jpg", ".jpeg", ".png"}
_LEAST_CROP_PX = 280


@dataclass(frozen=True, slots=True, kw_only=True)
class Normals:
    """Pictures without tumour; `share` of the drawn radiographs are made from them."""

    pictures: tuple[Path, ...]
    limbs: tuple[Path, ...]
    blanks: dict[str, tuple[int, int, int, int]]
    share: float

    def draw(
        self, shape: tuple[int, int], rng: np.random.Generator, *, limb: bool
    ) -> tuple[str, Scene]:
        """A part of a random picture, about the aspect of `shape`, perhaps mirrored.

        With `limb`, not of one that shows the chest: ribs are no place for these tumours.
        """
        pictures = self.limbs if limb else self.pictures
        path = pictures[int(rng.integers(len(pictures)))]
        pixels = read_grey(path)
        if path.name in self.blanks:
            _blank(pixels, self.blanks[path.name])
        if rng.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        return path.name, _crop(to_scene(pixels), shape, rng)


def find_normals(folder: Path, share: float = 0.75) -> Normals:
    """The pictures of a folder.

    Raises:
        InvalidInput: there are none.
    """
    pictures = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not pictures:
        raise InvalidInput(f"normals: expected PNG or JPEG pictures in {folder}, got none")
    blanks: dict[str, tuple[int, int, int, int]] = {}
    chests: set[str] = set()
    for row in _rows(folder):
        name = Path(row["file"]).name
        if row.get("logo_box_xywh"):
            x, y, width, height = (int(v) for v in row["logo_box_xywh"].split())
            blanks[name] = (x, y, width, height)
        if "shoulder" in row.get("region", ""):
            chests.add(name)
    limbs = tuple(p for p in pictures if p.name not in chests)
    return Normals(
        pictures=tuple(pictures), limbs=limbs or tuple(pictures), blanks=blanks, share=share
    )


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    for manifest in (folder / "manifest.csv", folder.parent / "manifest.csv"):
        if manifest.is_file():
            with manifest.open(newline="") as lines:
                yield from csv.DictReader(lines)


def read_grey(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8 grey, shape (rows, columns)."""
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise InvalidInput(f"normals: expected a readable picture, got {path.name}")
    return np.asarray(pixels, np.uint8)


def _crop(scene: Scene, shape: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Tumour radiographs show a joint or a bone, not a whole limb: a part about some bone."""
    rows, columns = scene.density.shape
    anchors = draw_anchors(scene, 0.6, 1, rng)
    if not anchors or rng.random() < 0.1:
        return scene
    anchor = anchors[0]
    longest = 2 * anchor.half_width_px * float(np.exp(rng.uniform(np.log(3.5), np.log(11))))
    longest = max(longest, _LEAST_CROP_PX)
    height = min(rows, int(longest * min(1.0, shape[0] / shape[1])))
    width = min(columns, int(longest * min(1.0, shape[1] / shape[0])))
    top = int(np.clip(anchor.row - height * float(rng.uniform(0.3, 0.7)), 0, rows - height))
    left = int(np.clip(anchor.column - width * float(rng.uniform(0.3, 0.7)), 0, columns - width))
    part = (slice(top, top + height), slice(left, left + width))
    return Scene(
        density=scene.density[part],
        floor=scene.floor[part],
        bone=scene.bone[part],
        window=(0, 0, height, width),
    )


def _blank(pixels: NDArray[np.uint8], box: tuple[int, int, int, int]) -> None:
    x, y, width, height = box
    hole = np.zeros_like(pixels)
    hole[max(0, y - 3) : y + height + 3, max(0, x - 3) : x + width + 3] = 255
    pixels[:] = cv2.inpaint(pixels, hole, 4, cv2.INPAINT_TELEA)
