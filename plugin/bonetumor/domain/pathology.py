"""Pathology that the EHR refers to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PathologySlide:
    """A slide picture as it was fetched, with the FHIR reference it came from."""

    source: str
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pathology:
    """The slides and the reports that the EHR holds for the patient."""

    slides: tuple[PathologySlide, ...]
    reports: tuple[str, ...]
    not_understood: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideTiles:
    """Tissue tiles of one slide. `pixels`: uint8, shape (tiles, height, width, 3), RGB."""

    source: str
    pixels: NDArray[np.uint8]
