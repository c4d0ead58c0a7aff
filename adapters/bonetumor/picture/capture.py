"""Pictures that stand for themselves in any viewer: the image with its boxes between two strips of
text, or a page of text where there is no result."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw

from bonetumor.domain.assessment import HeatMap
from bonetumor.domain.image import ClinicalImage
from bonetumor.domain.lesion import Lesion
from bonetumor.picture.overlay import draw

_LONGEST_PX = 1024
_LETTERS_WIDE = 84  # of the strips, which are as wide as the picture
_GROUND, _TEXT, _WARNING = (24, 24, 24), (240, 240, 240), (255, 196, 0)


def capture(
    image: ClinicalImage,
    lesions: Sequence[Lesion],
    heat: HeatMap | None,
    *,
    banner: str,
    lines: Sequence[str],
) -> Image.Image:
    """The image at about 1024 px in RGB, `banner` above it and `lines` below it."""
    scale = _LONGEST_PX / max(image.pixels.shape)
    picture = draw(image, lesions, heat, scale=scale)
    width = max(picture.width, _LONGEST_PX // 2)
    above = _strip([banner], width, _GROUND, _WARNING)
    below = _strip(lines, width, _TEXT)
    whole = Image.new("RGB", (width, above.height + picture.height + below.height), (0, 0, 0))
    whole.paste(above, (0, 0))
    whole.paste(picture, ((width - picture.width) // 2, above.height))
    whole.paste(below, (0, above.height + picture.height))
    return whole


def placard(*, banner: str, lines: Sequence[str]) -> Image.Image:
    """A page of text in RGB."""
    above = _strip([banner], _LONGEST_PX, _GROUND, _WARNING)
    below = _strip(lines, _LONGEST_PX, _TEXT)
    whole = Image.new("RGB", (_LONGEST_PX, _LONGEST_PX * 3 // 4), _GROUND)
    whole.paste(above, (0, 0))
    whole.paste(below, (0, above.height))
    return whole


def _strip(
    lines: Sequence[str],
    width: int,
    colour: tuple[int, int, int],
    ground: tuple[int, int, int] = _GROUND,
) -> Image.Image:
    """Text, wrapped to the width."""
    size = max(14, width // 48)
    letters = max(30, min(_LETTERS_WIDE, round(width / size * 1.75)))
    wrapped = [part for line in lines for part in textwrap.wrap(line, letters) or [""]]
    line_px = round(size * 1.35)
    strip = Image.new("RGB", (width, line_px * len(wrapped) + size), ground)
    pen = ImageDraw.Draw(strip)
    for number, text in enumerate(wrapped):
        place = (size // 2, size // 2 + number * line_px)
        pen.text(place, text, fill=colour, font_size=size)
    return strip
