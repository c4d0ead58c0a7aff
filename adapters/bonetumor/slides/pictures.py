"""Pictures (JPEG, PNG, TIFF), and slide pictures cut into tissue tiles."""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bonetumor.domain.errors import CorruptPixelData, UnsupportedImage
from bonetumor.domain.pathology import PathologySlide, SlideTiles

_FORMATS = ("JPEG", "PNG", "TIFF")  # what nobody needs is not parsed
_MAX_PIXELS = 64 * 1024 * 1024
_BACKGROUND_BRIGHTNESS = 235.0


class SlidePictures:
    """Cuts a picture into at most `max_tiles` square tiles, those with the most tissue first."""

    def __init__(self, *, tile_px: int, max_tiles: int) -> None:
        self._tile_px = tile_px
        self._max_tiles = max_tiles

    def tiles(self, slide: PathologySlide) -> SlideTiles:
        """The tissue tiles of the slide.

        Raises:
            UnsupportedImage: no picture format that we read, too large, or no tissue on it.
            CorruptPixelData: the picture cannot be decoded.
        """
        return SlideTiles(source=slide.source, pixels=self.cut(_decode(slide)))

    def cut(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`picture`: uint8, shape (rows, columns, 3), RGB. Returns (tiles, side, side, 3)."""
        side = self._tile_px
        rows, columns = (max(side, n) for n in picture.shape[:2])
        padded = np.full((rows, columns, 3), 255, np.uint8)
        padded[: picture.shape[0], : picture.shape[1]] = picture
        tiles = [
            padded[y : y + side, x : x + side]
            for y in range(0, rows - side + 1, side)
            for x in range(0, columns - side + 1, side)
        ]
        tissue = [float((t.mean(axis=2) < _BACKGROUND_BRIGHTNESS).mean()) for t in tiles]
        order = sorted(range(len(tiles)), key=lambda i: (-round(tissue[i], 2), i))[
            : self._max_tiles
        ]
        kept = [tiles[i] for i in order if tissue[i] > 0.1]
        if not kept:
            raise UnsupportedImage("slide: expected tissue, got an empty picture")
        return np.stack(kept)


def load_picture(source: Path | BytesIO, expected: str, *, most_pixels: int) -> Image.Image:
    """A picture, decoded. `expected` is what errors begin with: "slide: expected JPEG".

    Raises:
        UnsupportedImage: another format, or a picture that is too large.
        CorruptPixelData: it cannot be decoded.
    """
    try:
        with Image.open(source, formats=_FORMATS) as picture:
            if picture.width * picture.height > most_pixels:
                raise Image.DecompressionBombError
            picture.load()
            return picture
    except UnidentifiedImageError as error:
        raise UnsupportedImage(f"{expected}, got something else") from error
    except Image.DecompressionBombError as error:
        raise UnsupportedImage(
            f"{expected} of at most {most_pixels} pixels, got a larger one"
        ) from error
    except Exception as error:  # decoders raise what they like
        raise CorruptPixelData(f"{expected} that is whole, got {type(error).__name__}") from error


def _decode(slide: PathologySlide) -> NDArray[np.uint8]:
    picture = load_picture(
        BytesIO(slide.data), "slide: expected JPEG, PNG or TIFF", most_pixels=_MAX_PIXELS
    )
    return np.asarray(picture.convert("RGB"), np.uint8)
