"""An image with its boxes, their labels, and where the class was read from."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from bonetumor.domain.assessment import HeatMap
from bonetumor.domain.image import ClinicalImage
from bonetumor.domain.lesion import Lesion

_COLOUR = (255, 196, 0)
_GREATEST_TINT = 110


def draw(
    image: ClinicalImage, lesions: Sequence[Lesion], heat: HeatMap | None, *, scale: float = 1.0
) -> Image.Image:
    """The image in RGB with boxes, `scale` times its size; the heat map in red beneath them."""
    picture = Image.fromarray(image.pixels).convert("RGB")
    if heat is not None:
        picture = _warm(picture, heat)
    if scale != 1.0:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    width = max(2, max(picture.size) // 400)
    for lesion in lesions:
        x0, y0, x1, y1 = (v * scale for v in lesion.detection.box.as_tuple())
        pen.rectangle((x0, y0, x1, y1), outline=_COLOUR, width=width)
        pen.text(
            (x0, y1 + width),
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
