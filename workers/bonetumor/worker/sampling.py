"""Whole slides sampled as the networks of a bundle learned tiles, to serve and to train."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from bonetumor.domain.errors import InvalidInput
from bonetumor.service.ports import SlideAddress
from bonetumor.slides.whole import SlideSampler
from bonetumor.weights.tiles import tile_px_of


class BundleSampler:
    """Samples tiles of the size that a bundle's network learned on.

    The manifest is read when the first slide comes, so that a spoilt bundle holds the studies with
    slides, with that reason, and not the process.
    """

    def __init__(self, bundle: Path | None) -> None:
        self._bundle = bundle

    def sample_file(self, file: Path) -> bytes:
        """As `SlideSampler.sample_file`; also raises WeightsMismatch."""
        return self._sampler.sample_file(file)

    def sample_dicomweb(self, address: SlideAddress) -> bytes:
        """As `SlideSampler.sample_dicomweb`; also raises WeightsMismatch."""
        return self._sampler.sample_dicomweb(address)

    @cached_property
    def _sampler(self) -> SlideSampler:
        return SlideSampler(tile_px=tile_px_of(self._bundle))


def write_tiles(
    slides: Sequence[Path], out: Path, bundle: Path | None, problems: list[str]
) -> list[Path]:
    """The tiles of each slide, side by side in a PNG that `slides` of a cohort may name; what
    cannot be sampled is reported.

    Raises:
        InvalidInput: two slides are named alike.
        WeightsMismatch: the bundle does not say how large a tile is.
    """
    names = [slide.stem for slide in slides]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"tiles: expected slides of different names, got {name} twice")
    sampler = BundleSampler(bundle)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for slide in slides:
        try:
            tiles = sampler.sample_file(slide)
        except InvalidInput as error:
            problems.append(f"{slide.name}: {error}")
            continue
        written.append(out / f"{slide.stem}.png")
        written[-1].write_bytes(tiles)
    return written
