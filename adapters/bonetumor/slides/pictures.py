"""Slide pictures (JPEG, PNG, TIFF) cut into tissue tiles."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bonetumor.domain.errors import CorruptPixelData, UnsupportedImage
from bonetumor.domain.pathology import PathologySlide, SlideTiles

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


def _decode(slide: PathologySlide) -> NDArray[np.uint8]:
    try:
        with Image.open(BytesIO(slide.data)) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise UnsupportedImage(
                    f"slide: expected at most {_MAX_PIXELS} pixels, "
                    f"got {picture.width} x {picture.height}"
                )
            return np.asarray(picture.convert("RGB"), np.uint8)
    except UnidentifiedImageError as error:
        raise UnsupportedImage("slide: expected JPEG, PNG or TIFF, got another format") from error
    except OSError as error:
        raise CorruptPixelData(
            f"slide: expected a whole picture, got {type(error).__name__}"
        ) from error
