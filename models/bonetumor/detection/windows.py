"""What the detector learns from: windows of standardised pictures, drawn anew each time.

Each is turned, scaled, stretched, mirrored, blurred, lit and compressed otherwise, so that neither
the size and the frame of a picture nor its sharpness say where it comes from or what it shows. All
sources go through the same steps. Windows are smaller than what serving looks at, which makes a
step cheaper; the network is convolutional and takes both.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

INDEX = "pictures.jsonl"
_GREY = 114  # beyond the picture, as `letterbox` has it
_TURN = 12.0  # degrees, standard deviation
_SCALE = (0.62, 1.55)
_STRETCH = 0.1  # of the logarithm of width by height, standard deviation
_UPSIDE_DOWN = 0.1
_LEAST_VISIBLE = 0.4  # of a lesion at the window's edge
_MOSAIC = 0.25  # of windows are four small ones
_LEAST_SIDE_PX = 2.0
_LETTERS = ("L", "R", "LEFT", "RIGHT", "AP", "LAT", "KNEE", "1", "2")

Boxes = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingPicture:
    """`pixels` (rows, columns) uint8, standardised; `boxes` (n, 4) x0 y0 x1 y1 in its pixels;
    `source` where it comes from."""

    pixels: NDArray[np.uint8]
    boxes: Boxes
    source: str


class Windows(torch.utils.data.Dataset[dict[str, Any]]):
    """As ultralytics' trainer takes a data set. A pass has each picture with a lesion as often as
    `repeats` says, and for each of these `normals` normal pictures, drawn from all sources alike.

    `scale` is that from a standardised picture to the network's input. The same seed draws the same
    windows: a run that goes on sees those of its beginning again.
    """

    def __init__(
        self,
        pictures: Sequence[TrainingPicture],
        repeats: Sequence[int],
        *,
        side_px: int,
        scale: float,
        normals: float,
        seed: int,
    ) -> None:
        self._pictures = pictures
        self._side_px = side_px
        self._scale = scale
        self._rng = np.random.default_rng(seed)
        self._shown = [i for i, p in enumerate(pictures) if len(p.boxes) for _ in range(repeats[i])]
        self._normals = _by_source(pictures)
        self._length = len(self._shown) + (
            round(normals * len(self._shown)) if self._normals else 0
        )

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: int) -> dict[str, Any]:
        """A window as ultralytics wants it: `img` uint8 (1, side, side), `bboxes` float32 (n, 4)
        centre and size as parts of the side, `cls` float32 (n, 1), `batch_idx` (n,)."""
        pixels, boxes = self.draw(place)
        return {
            "img": torch.from_numpy(np.ascontiguousarray(pixels))[None],
            "cls": torch.zeros(len(boxes), 1),
            "bboxes": torch.from_numpy(_relative(boxes, self._side_px)),
            "batch_idx": torch.zeros(len(boxes)),
        }

    def draw(self, place: int) -> tuple[NDArray[np.uint8], Boxes]:
        """A window (side, side) uint8 and its boxes in pixels; `place` says which picture it
        shows, or the first of the four that it shows."""
        if self._rng.random() >= _MOSAIC:
            return self._window(self._chosen(place), self._side_px, 1.0)
        half = self._side_px // 2
        others = self._rng.integers(0, self._length, 3)
        whole = np.full((self._side_px, self._side_px), _GREY, np.uint8)
        found = []
        for quarter, number in enumerate([place, *others.tolist()]):
            pixels, boxes = self._window(self._chosen(number), half, 0.75)
            x, y = half * (quarter % 2), half * (quarter // 2)
            whole[y : y + half, x : x + half] = pixels
            found.append(boxes + np.array([x, y, x, y]))
        return whole, np.concatenate(found)

    @staticmethod
    def collate_fn(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Windows as one batch."""
        joined = {k: torch.cat([b[k] for b in batch]) for k in ("cls", "bboxes")}
        joined["batch_idx"] = torch.cat([b["batch_idx"] + i for i, b in enumerate(batch)])
        return {**joined, "img": torch.stack([b["img"] for b in batch])}

    def _chosen(self, place: int) -> TrainingPicture:
        if place < len(self._shown):
            return self._pictures[self._shown[place]]
        source = self._normals[int(self._rng.integers(len(self._normals)))]
        return self._pictures[source[int(self._rng.integers(len(source)))]]

    def _window(
        self, picture: TrainingPicture, side_px: int, smaller: float
    ) -> tuple[NDArray[np.uint8], Boxes]:
        rng = self._rng
        scale = self._scale * smaller * math.exp(rng.uniform(*np.log(_SCALE)))
        matrix = _turned(rng, scale)
        centre = _centre(rng, picture, side_px / scale)
        matrix[:, 2] = _placed(rng, side_px, bool(len(picture.boxes))) - matrix[:, :2] @ centre
        pixels = cv2.warpAffine(
            picture.pixels,
            matrix,
            (side_px, side_px),
            flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
            borderValue=_GREY,
        )
        return _exposed(rng, np.asarray(pixels, np.uint8)), _visible(
            _moved(picture.boxes, matrix), side_px
        )


def read_windows(folder: Path, *, side_px: int, scale: float, normals: float, seed: int) -> Windows:
    """The windows of the pictures in `folder`, which has an `INDEX`: one JSON object a line with
    `file`, `boxes`, `source` and `repeats`."""
    rows = [json.loads(line) for line in (folder / INDEX).read_text().splitlines()]
    pictures = [
        TrainingPicture(
            pixels=np.asarray(cv2.imread(str(folder / row["file"]), cv2.IMREAD_GRAYSCALE)),
            boxes=np.array(row["boxes"], np.float64).reshape(-1, 4),
            source=row["source"],
        )
        for row in rows
    ]
    repeats = [row["repeats"] for row in rows]
    return Windows(pictures, repeats, side_px=side_px, scale=scale, normals=normals, seed=seed)


def _by_source(pictures: Sequence[TrainingPicture]) -> list[list[int]]:
    found: dict[str, list[int]] = {}
    for number, picture in enumerate(pictures):
        if not len(picture.boxes):
            found.setdefault(picture.source, []).append(number)
    return list(found.values())


def _turned(rng: np.random.Generator, scale: float) -> NDArray[np.float64]:
    """Scale, stretch, turn and mirror as a matrix (2, 3) without a shift."""
    angle = math.radians(rng.normal(0, _TURN))
    stretch = math.exp(rng.normal(0, _STRETCH) / 2)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    mirror = [rng.choice((-1.0, 1.0)), -1.0 if rng.random() < _UPSIDE_DOWN else 1.0]
    plane = turn @ np.diag([scale * stretch * mirror[0], scale / stretch * mirror[1]])
    return np.concatenate([plane, np.zeros((2, 1))], axis=1)


def _centre(
    rng: np.random.Generator, picture: TrainingPicture, reach: float
) -> NDArray[np.float64]:
    """The point of the picture that the window is laid about: in one of its lesions, else one from
    which the window, which shows `reach` pixels, looks beyond the picture's edge a little."""
    if len(picture.boxes):
        box = picture.boxes[int(rng.integers(len(picture.boxes)))]
        return np.asarray((box[:2] + box[2:]) / 2)
    size = np.array(picture.pixels.shape[::-1], np.float64)
    margin = np.minimum(size / 2, reach * 0.4)
    return np.asarray(rng.uniform(margin, size - margin + 1e-6))


def _placed(rng: np.random.Generator, side_px: int, has_lesion: bool) -> NDArray[np.float64]:
    """Where in the window that point comes to lie: a lesion anywhere, another in the middle."""
    if not has_lesion:
        return np.full(2, side_px / 2)
    return np.asarray(rng.uniform(0.15 * side_px, 0.85 * side_px, 2))


def _moved(boxes: Boxes, matrix: NDArray[np.float64]) -> Boxes:
    """Boxes about the ellipses that lie in them: corners that turn stick out too far."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    halves = np.sqrt(np.square((boxes[:, 2:] - boxes[:, :2]) / 2) @ np.square(matrix[:, :2]).T)
    return np.concatenate([centres - halves, centres + halves], axis=1)


def _visible(boxes: Boxes, side_px: int) -> Boxes:
    """Those of which enough lies in the window, cut at its edge."""
    cut = boxes.clip(0, side_px)
    sides, whole = cut[:, 2:] - cut[:, :2], boxes[:, 2:] - boxes[:, :2]
    kept = (sides.prod(1) >= _LEAST_VISIBLE * whole.prod(1)) & (sides.min(1) >= _LEAST_SIDE_PX)
    return cut[kept] if len(boxes) else boxes


def _relative(boxes: Boxes, side_px: int) -> NDArray[np.float32]:
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return np.asarray(np.concatenate([centres, sizes], axis=1) / side_px, np.float32)


def _exposed(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As another machine might have shown the same: contrast, blur, noise, letters, JPEG."""
    grey = np.power(np.asarray(pixels, np.float64) / 255, math.exp(rng.normal(0, 0.25)))
    grey = (grey - 0.5) * math.exp(rng.normal(0, 0.15)) + 0.5 + rng.normal(0, 0.06)
    if rng.random() < 0.5:
        grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.3, 1.3)), np.float64)
    if rng.random() < 0.5:
        grey = grey + rng.normal(0, rng.uniform(0, 0.03), grey.shape)
    answer = np.asarray(np.clip(grey * 255, 0, 255), np.uint8)
    if rng.random() < 0.15:
        _letter(rng, answer)
    return _compressed(rng, answer) if rng.random() < 0.3 else answer


def _compressed(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 95))]
    packed = cv2.imencode(".jpg", pixels, quality)[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)


def _letter(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> None:
    """A side marker or a word near an edge, as every source has some."""
    side = len(pixels)
    along, across = rng.uniform(0.05, 0.85) * side, rng.choice((0.06, 0.95)) * side
    place = (along, across) if rng.random() < 0.5 else (across, along)
    text = _LETTERS[int(rng.integers(len(_LETTERS)))]
    cv2.putText(
        pixels,
        text,
        (int(place[0]), int(place[1])),
        cv2.FONT_HERSHEY_SIMPLEX,
        float(rng.uniform(0.3, 0.8)) * side / 256,
        int(rng.choice((0, 255))) if rng.random() < 0.8 else int(rng.integers(256)),
        int(rng.integers(1, 3)),
        cv2.LINE_AA,
    )
