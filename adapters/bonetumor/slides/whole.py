"""Whole slides: tissue is found, tiles of it are sampled, and only those are kept.

DICOM VL Whole Slide Microscopy, from files and over DICOMweb, is read by wsidicom; the vendors'
formats by OpenSlide. Neither is ever decoded in full: a slide of 50,000 × 50,000 pixels is
7.5 GB. Tiles are taken at one resolution (1 µm per pixel, about 10×), the most evenly spread of
those with tissue, in a fixed order: the same slide gives the same tiles.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openslide
import requests
from dicomweb_client.api import DICOMwebClient
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from wsidicom import WsiDicom, WsiDicomWebClient

from bonetumor.domain.errors import (
    BoneTumorError,
    CorruptPixelData,
    FhirUnavailable,
    UnsupportedImage,
)
from bonetumor.service.ports import SlideAddress

MPP = 1.0
_ASSUMED_MPP = 0.25  # 40×, where a file does not say: what most scanners write at level 0
_OVERVIEW_PX = 4096
_MAX_PICTURE_PIXELS = 64 * 1024 * 1024
_CANDIDATES = 400
_LEAST_TISSUE = 0.35

Pixels = NDArray[np.uint8]


class Slide(Protocol):
    """An open whole slide. Coordinates are pixels of the base level."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the base level."""
        ...

    @property
    def mpp(self) -> float:
        """Micrometres per pixel of the base level."""
        ...

    def overview(self) -> Pixels | None:
        """The whole slide at a small level, (rows, columns, 3); None if it has no small level."""
        ...

    def region(self, x: int, y: int, side: int, out_px: int) -> Pixels:
        """A square of `side` base pixels as (out_px, out_px, 3)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideSampler:
    """Samples at most `tiles` tiles of `tile_px` from a whole slide, side by side in one PNG."""

    tile_px: int = 128
    tiles: int = 64

    def sample_file(self, file: Path) -> bytes:
        """Tiles of a file that wsidicom or OpenSlide reads, or of a folder with the DICOM files of
        one slide.

        Raises:
            UnsupportedImage: another format, or no tissue.
            CorruptPixelData: it cannot be decoded.
        """
        with _reading(), _open_file(file) as slide:
            return self.sample(slide)

    def sample_dicomweb(self, address: SlideAddress) -> bytes:
        """Tiles of a series behind DICOMweb.

        Raises:
            FhirUnavailable: the service does not answer now.
            UnsupportedImage: no whole slide there, or no tissue on it.
            CorruptPixelData: it cannot be decoded.
        """
        with _reading(), _open_dicomweb(address) as slide:
            return self.sample(slide)

    def sample(self, slide: Slide) -> bytes:
        """Tiles of an open slide as PNG."""
        side = max(1, round(self.tile_px * MPP / slide.mpp))
        found = list(self._tissue(slide, side))
        if not found:
            raise UnsupportedImage("whole slide: expected tissue, got none")
        columns = math.ceil(math.sqrt(len(found)))
        rows = math.ceil(len(found) / columns)
        sheet = np.full((rows * self.tile_px, columns * self.tile_px, 3), 255, np.uint8)
        for number, tile in enumerate(found):
            top, left = (self.tile_px * n for n in divmod(number, columns))
            sheet[top : top + self.tile_px, left : left + self.tile_px] = tile
        buffer = BytesIO()
        Image.fromarray(sheet).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def _tissue(self, slide: Slide, side: int) -> Iterator[Pixels]:
        """The tiles that are kept."""
        grid = _grid(slide.size, side)
        overview = slide.overview()
        if overview is not None:
            scale = overview.shape[1] / slide.size[0]
            grid = [
                (x, y) for x, y in grid if _tissue_share(_patch(overview, x, y, side, scale)) > 0
            ]
        kept = 0
        for x, y in _spread(grid, _CANDIDATES if overview is None else self.tiles * 2):
            tile = slide.region(x, y, side, self.tile_px)
            if _tissue_share(tile) >= _LEAST_TISSUE:
                yield tile
                kept += 1
                if kept == self.tiles:
                    return


def _grid(size: tuple[int, int], side: int) -> list[tuple[int, int]]:
    """The corners of whole tiles, row by row; one tile for a slide smaller than that."""
    columns, rows = (max(1, n // side) for n in size)
    return [(x * side, y * side) for y in range(rows) for x in range(columns)]


def _spread(places: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """At most `count` places, spread over all of them, the coarsest choice first.

    The golden ratio visits a list evenly however soon one stops.
    """
    total = len(places)
    if total <= count:
        step = _coprime(total)
        return [places[i * step % total] for i in range(total)]
    golden = (math.sqrt(5) - 1) / 2
    chosen = dict.fromkeys(int((i * golden % 1.0) * total) for i in range(2 * count))
    return [places[i] for i in list(chosen)[:count]]


def _coprime(total: int) -> int:
    """A step near the golden section that meets every place once."""
    step = max(1, round(total * 0.618))
    while math.gcd(step, total) != 1:
        step += 1
    return step


def _patch(overview: Pixels, x: int, y: int, side: int, scale: float) -> Pixels:
    left, top = int(x * scale), int(y * scale)
    length = max(1, round(side * scale))
    return overview[top : top + length, left : left + length]


def _tissue_share(pixels: Pixels) -> float:
    """The share that is coloured and neither glass nor black."""
    if pixels.size == 0:
        return 0.0
    red, green, blue = (pixels[..., channel] for channel in range(3))
    brightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    return float(((brightest - darkest > 18) & (brightest > 40)).mean())


# -- the two libraries -----------------------------------------------------------------------------


class _VendorSlide:
    """A file that OpenSlide reads, or a plain picture, which is taken as it is."""

    def __init__(self, slide: openslide.AbstractSlide) -> None:
        self._slide = slide
        self.size: tuple[int, int] = slide.dimensions
        is_picture = isinstance(slide, openslide.ImageSlide)
        if is_picture and self.size[0] * self.size[1] > _MAX_PICTURE_PIXELS:
            raise UnsupportedImage(
                f"slide picture: expected at most {_MAX_PICTURE_PIXELS} pixels, got "
                f"{self.size[0]} x {self.size[1]}"
            )
        stated = slide.properties.get(openslide.PROPERTY_NAME_MPP_X)
        self.mpp = MPP if is_picture else float(stated or _ASSUMED_MPP)

    def overview(self) -> Pixels | None:
        size = self._slide.level_dimensions[-1]
        if max(size) > _OVERVIEW_PX:
            return None
        return _rgb(self._slide.read_region((0, 0), self._slide.level_count - 1, size))

    def region(self, x: int, y: int, side: int, out_px: int) -> Pixels:
        level = self._slide.get_best_level_for_downsample(side / out_px)
        length = max(1, round(side / self._slide.level_downsamples[level]))
        picture = self._slide.read_region((x, y), level, (length, length))
        return _rgb(picture.resize((out_px, out_px), Image.Resampling.BOX))


class _DicomSlide:
    """A slide that wsidicom reads."""

    def __init__(self, slide: WsiDicom) -> None:
        self._slide = slide
        self._levels = sorted(slide.levels, key=lambda level: -level.size.width)
        base = self._levels[0]
        self.size = (base.size.width, base.size.height)
        self.mpp = float(base.mpp.width) if base.mpp else _ASSUMED_MPP

    def overview(self) -> Pixels | None:
        smallest = self._levels[-1]
        size = (smallest.size.width, smallest.size.height)
        if max(size) > _OVERVIEW_PX:
            return None
        return _rgb(self._slide.read_region((0, 0), smallest.level, size))

    def region(self, x: int, y: int, side: int, out_px: int) -> Pixels:
        wanted = side / out_px
        level = max(
            (v for v in self._levels if self.size[0] / v.size.width <= wanted * 1.01),
            key=lambda v: self.size[0] / v.size.width,
            default=self._levels[0],
        )
        scale = level.size.width / self.size[0]
        left, top = int(x * scale), int(y * scale)
        width = min(max(1, round(side * scale)), level.size.width - left)
        height = min(max(1, round(side * scale)), level.size.height - top)
        picture = self._slide.read_region((left, top), level.level, (width, height))
        return _rgb(picture.resize((out_px, out_px), Image.Resampling.BOX))


def _rgb(picture: Image.Image) -> Pixels:
    """RGB over white: OpenSlide leaves transparent what the scanner did not see."""
    if picture.mode == "RGBA":
        ground = Image.new("RGB", picture.size, (255, 255, 255))
        ground.paste(picture, mask=picture.getchannel("A"))
        picture = ground
    return np.asarray(picture.convert("RGB"), np.uint8)


@contextmanager
def _open_file(file: Path) -> Iterator[Slide]:
    if file.is_dir() or _is_dicom(file):
        with WsiDicom.open(file) as slide:
            yield _DicomSlide(slide)
    else:
        with openslide.open_slide(file) as vendor:
            yield _VendorSlide(vendor)


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


@contextmanager
def _open_dicomweb(address: SlideAddress) -> Iterator[Slide]:
    session = requests.Session()
    session.max_redirects = 0  # the site listed this origin, and no other
    client = DICOMwebClient(url=address.base_url.rstrip("/"), session=session)
    series = address.series_instance_uid or _slide_series(client, address.study_instance_uid)
    with WsiDicom.open_web(WsiDicomWebClient(client), address.study_instance_uid, series) as slide:
        yield _DicomSlide(slide)


def _slide_series(client: DICOMwebClient, study_instance_uid: str) -> str:
    """The first series of modality SM."""
    found: list[dict[str, Any]] = client.search_for_series(
        study_instance_uid, search_filters={"Modality": "SM"}
    )
    uids = sorted(str(s["0020000E"]["Value"][0]) for s in found)
    if not uids:
        raise UnsupportedImage("whole slide: expected a series of modality SM, got none")
    return uids[0]


@contextmanager
def _reading() -> Iterator[None]:
    """The libraries' exceptions as ours."""
    try:
        yield
    except BoneTumorError:
        raise
    except (openslide.OpenSlideUnsupportedFormatError, UnidentifiedImageError) as error:
        raise UnsupportedImage(
            "whole slide: expected a format that OpenSlide reads, got another"
        ) from error
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in {408, 425, 429} or status >= 500:
            raise FhirUnavailable(f"DICOMweb: expected 2xx, got {status}") from error
        raise UnsupportedImage(f"DICOMweb: expected the slide, got {status}") from error
    except requests.RequestException as error:
        raise FhirUnavailable(
            f"DICOMweb: expected an answer, got {type(error).__name__}"
        ) from error
    except Exception as error:
        # A foreign file can make three libraries raise anything.
        raise CorruptPixelData(
            f"whole slide: expected one that can be read, got {type(error).__name__}"
        ) from error
