"""From a case's evidence to the tensors that the fusion network reads.

Training and serving both go through here.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import combinations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertTokenizer

from bonetumor.domain.assessment import Modality
from bonetumor.domain.image import BoundingBox, ClinicalImage, Corners
from bonetumor.domain.labs import WEIGHED, LabPanel
from bonetumor.domain.pathology import SlideTiles
from bonetumor.fusion.paraphrases import paraphrases
from bonetumor.fusion.text import describe
from bonetumor.radiograph.standard import standardise

# Every combination of modalities that a case may have: each is calibrated by itself.
PATTERNS = tuple(subset for size in (1, 2, 3) for subset in combinations(Modality, size))
CONTEXT = 1.5  # how much wider than the box the crop is: the bone around a lesion tells much
_MAX_TOKENS = 128
_FIELDS = {
    Modality.IMAGE: ("crop",),
    Modality.PATHOLOGY: ("tiles",),
    Modality.LABS: ("tokens", "ratios", "wordings"),
}
_RATIO_CAP = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseTensors:
    """One case. None means missing.

    `crop`: float32 (1, side, side), 0..1; `tiles`: uint8 (tiles, 3, side, side);
    `tokens`: int64 (length,); `ratios`: float32 (2 × weighed analytes,), value ÷ upper
    limit and flags; `wordings`: tokens of other sound wordings of the same text, where the
    preparation makes any.
    """

    crop: torch.Tensor | None
    tiles: torch.Tensor | None
    tokens: torch.Tensor | None
    ratios: torch.Tensor | None
    wordings: tuple[torch.Tensor, ...] | None = None


Labelled = tuple[CaseTensors, int]
"""A case and its class, by its place in TumourClass."""


def modalities(case: CaseTensors) -> tuple[Modality, ...]:
    """Which modalities a case has."""
    return tuple(m for m, names in _FIELDS.items() if getattr(case, names[0]) is not None)


def only(case: CaseTensors, kept: Collection[Modality]) -> CaseTensors:
    """The case with only some of its modalities."""
    dropped = {name: None for m, names in _FIELDS.items() if m not in kept for name in names}
    return replace(case, **dropped)


@dataclass(frozen=True, slots=True)
class Preparation:
    """How evidence becomes tensors. `wordings`: how many other wordings of the blood markers'
    text each case gets, to train and to calibrate with. With `content_px` crops are of pictures
    that are standardised to that, as the detector sees them."""

    crop_px: int
    tile_px: int
    tokenizer: BertTokenizer
    wordings: int = 0
    content_px: int | None = None

    def prepare(
        self,
        image: ClinicalImage | None,
        box: BoundingBox | None,
        slides: tuple[SlideTiles, ...] | None,
        labs: LabPanel | None,
        text: str | None = None,
    ) -> CaseTensors:
        """Tensors of one case. `text`: the blood markers in words; else they are the template's."""
        if labs is not None and not labs.weighed:
            labs = None
        return CaseTensors(
            crop=None if image is None or box is None else self._crop(image, box),
            tiles=None if not slides else self._tiles(slides),
            tokens=None if labs is None else self.tokens(text or describe(labs)),
            ratios=None if labs is None else ratios(labs),
            wordings=None
            if labs is None
            else tuple(map(self.tokens, paraphrases(labs, self.wordings))),
        )

    def region(self, image: ClinicalImage, box: BoundingBox) -> BoundingBox:
        """What of an image, in its stored pixels, the network sees of a box."""
        if self.content_px is None:
            return _surroundings(box)
        content, kept = standardise(image.pixels, self.content_px)
        inner = _surroundings(_corners(kept.moved(box.as_tuple(), content.shape)))
        return _corners(kept.back(inner.as_tuple(), content.shape))

    def _crop(self, image: ClinicalImage, box: BoundingBox) -> torch.Tensor:
        if self.content_px is None:
            return crop(image.pixels, box, self.crop_px)
        content, kept = standardise(image.pixels, self.content_px)
        moved = kept.moved(box.as_tuple(), content.shape)
        return crop(content, _corners(moved), self.crop_px)

    def tokens(self, text: str) -> torch.Tensor:
        """The tokens of a text that describes the abnormal markers: int64 (length,)."""
        encoded = self.tokenizer(text, truncation=True, max_length=_MAX_TOKENS)
        return torch.tensor(encoded["input_ids"], dtype=torch.int64)

    def _tiles(self, slides: tuple[SlideTiles, ...]) -> torch.Tensor:
        pixels = np.concatenate([s.pixels for s in slides])
        resized = [
            p
            if p.shape[0] == self.tile_px
            else cv2.resize(p, (self.tile_px, self.tile_px), interpolation=cv2.INTER_AREA)
            for p in pixels
        ]
        return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)


def _half_side(box: BoundingBox) -> float:
    """Half the side, in pixels, of the square about the box that the network sees."""
    return max(box.x1 - box.x0, box.y1 - box.y0, 16.0) * CONTEXT / 2


def _surroundings(box: BoundingBox) -> BoundingBox:
    half = _half_side(box)
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    return BoundingBox(x0=x - half, y0=y - half, x1=x + half, y1=y + half)


def _corners(corners: Corners) -> BoundingBox:
    return BoundingBox(x0=corners[0], y0=corners[1], x1=corners[2], y1=corners[3])


def crop(pixels: NDArray[np.uint8], box: BoundingBox, side_px: int) -> torch.Tensor:
    """The box and its surroundings, black beyond the image: float32 (1, side, side)."""
    half = _half_side(box)
    centre_x, centre_y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    scale = side_px / (2 * half)
    matrix = np.array(
        [
            [scale, 0, scale * (half - centre_x + 0.5) - 0.5],
            [0, scale, scale * (half - centre_y + 0.5) - 0.5],
        ]
    )
    source = pixels if scale > 0.5 else cv2.GaussianBlur(pixels, (0, 0), 0.4 / scale)
    square = cv2.warpAffine(source, matrix, (side_px, side_px), flags=cv2.INTER_LINEAR)
    return torch.from_numpy(square).float().div(255.0)[None]


def ratios(labs: LabPanel) -> torch.Tensor:
    """Value ÷ upper limit of each weighed analyte, then 1 where it or its limit is unknown."""
    found = {r.analyte: r.ratio_to_upper_limit for r in labs.results}
    values = [found.get(analyte) for analyte in WEIGHED]
    capped = [0.0 if v is None else min(v, _RATIO_CAP) for v in values]
    return torch.tensor([*capped, *(float(v is None) for v in values)], dtype=torch.float32)
