"""An image with its boxes, their labels, and where the class was read from."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from bonetumor.domain.assessment import HeatMap
from bonetumor.domain.image import ClinicalImage
from bonetumor.domain.lesion import Lesion

_COLOUR = (255, 196, 0)
_GREATEST_TINT = 110


def draw(image: ClinicalImage, lesions: Sequence[Lesion], heat: HeatMap | None) -> Image.Image:
    """The image in RGB with boxes; the heat map in red beneath them."""
    picture = Image.fromarray(image.pixels).convert("RGB")
    if heat is not None:
        picture = _warm(picture, heat)
    pen = ImageDraw.Draw(picture)
    width = max(2, max(picture.size) // 400)
    for lesion in lesions:
        box = lesion.detection.box
        pen.rectangle(box.as_tuple(), outline=_COLOUR, width=width)
        pen.text(
            (box.x0, box.y1 + width),
            f"{lesion.tracking_identifier} {lesion.detection.score:.0%}",
            fill=_COLOUR,
            font_size=max(14, max(picture.size) // 50),
            stroke_width=2,
            stroke_fill=(0, 0, 0),
        )
    return picture


def _warm(picture: Image.Image, heat: HeatMap) -> Image.Image:
    """The picture with the heat map in red over its region."""
    left, top, right, bottom = (round(v) for v in heat.region.as_tuple())
    size = (max(1, right - left), max(1, bottom - top))
    strength = Image.fromarray(np.uint8(np.array(heat.values) * _GREATEST_TINT)).resize(
        size, Image.Resampling.BICUBIC
    )
    mask = Image.new("L", picture.size)
    mask.paste(strength, (left, top))
    return Image.composite(Image.new("RGB", picture.size, (255, 60, 0)), picture, mask)
