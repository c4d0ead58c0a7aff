"""Tumour types of the phantom, and the radiographic signs that each tends to show.

The signs are those radiologists name (margin after Lodwick, matrix, periosteal reaction,
expansion, soft-tissue mass). How often each type shows them, at which age and at which size are
our assumptions, set after textbook descriptions; sizes and ages follow the published aggregate
statistics of the BTXRD data set (Yao et al. 2025, doi:10.1038/s41597-024-04311-y).
"""

from dataclasses import dataclass

import numpy as np

from bonetumor.domain.assessment import TumourClass


@dataclass(frozen=True, slots=True, kw_only=True)
class TumourType:
    """How a tumour type looks on average. Every sign is a mean in 0..1 unless said otherwise."""

    name: str
    tumour_class: TumourClass
    age_years: tuple[float, float, float]
    area_fraction: tuple[float, float]
    aspect: tuple[float, float]
    lysis: float
    sclerotic_rim: float
    blur: float
    matrix: float
    expansion: float
    periosteal: float
    soft_tissue: float
    exophytic: float
    weight: float


TYPES = (
    TumourType(
        name="osteochondroma",
        tumour_class=TumourClass.BENIGN,
        age_years=(9, 16, 55),
        area_fraction=(0.0013, 0.02),
        aspect=(0.5, 1.1),
        lysis=0.1,
        sclerotic_rim=0.5,
        blur=0.15,
        matrix=0.3,
        expansion=0.2,
        periosteal=0.05,
        soft_tissue=0.1,
        exophytic=0.9,
        weight=1.0,
    ),
    TumourType(
        name="simple bone cyst",
        tumour_class=TumourClass.BENIGN,
        age_years=(4, 14, 40),
        area_fraction=(0.0035, 0.05),
        aspect=(0.4, 0.9),
        lysis=0.85,
        sclerotic_rim=0.6,
        blur=0.1,
        matrix=0.05,
        expansion=0.4,
        periosteal=0.05,
        soft_tissue=0.02,
        exophytic=0.0,
        weight=1.0,
    ),
    TumourType(
        name="non-ossifying fibroma",
        tumour_class=TumourClass.BENIGN,
        age_years=(6, 14, 30),
        area_fraction=(0.0012, 0.012),
        aspect=(0.3, 0.8),
        lysis=0.65,
        sclerotic_rim=0.9,
        blur=0.1,
        matrix=0.05,
        expansion=0.2,
        periosteal=0.02,
        soft_tissue=0.0,
        exophytic=0.0,
        weight=1.0,
    ),
    TumourType(
        name="enchondroma",
        tumour_class=TumourClass.BENIGN,
        age_years=(15, 38, 70),
        area_fraction=(0.0012, 0.02),
        aspect=(0.4, 1.0),
        lysis=0.45,
        sclerotic_rim=0.4,
        blur=0.2,
        matrix=0.8,
        expansion=0.3,
        periosteal=0.03,
        soft_tissue=0.02,
        exophytic=0.0,
        weight=0.8,
    ),
    TumourType(
        name="giant cell tumour",
        tumour_class=TumourClass.INTERMEDIATE,
        age_years=(16, 32, 60),
        area_fraction=(0.01, 0.08),
        aspect=(0.65, 1.1),
        lysis=0.9,
        sclerotic_rim=0.15,
        blur=0.3,
        matrix=0.05,
        expansion=0.7,
        periosteal=0.15,
        soft_tissue=0.25,
        exophytic=0.0,
        weight=2.0,
    ),
    TumourType(
        name="osteoblastoma",
        tumour_class=TumourClass.INTERMEDIATE,
        age_years=(9, 20, 40),
        area_fraction=(0.004, 0.03),
        aspect=(0.6, 1.2),
        lysis=0.55,
        sclerotic_rim=0.5,
        blur=0.3,
        matrix=0.6,
        expansion=0.6,
        periosteal=0.35,
        soft_tissue=0.15,
        exophytic=0.0,
        weight=1.0,
    ),
    TumourType(
        name="osteosarcoma",
        tumour_class=TumourClass.MALIGNANT,
        age_years=(9, 17, 65),
        area_fraction=(0.015, 0.10),
        aspect=(0.35, 0.9),
        lysis=0.45,
        sclerotic_rim=0.05,
        blur=0.75,
        matrix=0.7,
        expansion=0.35,
        periosteal=0.75,
        soft_tissue=0.75,
        exophytic=0.1,
        weight=2.0,
    ),
    TumourType(
        name="Ewing sarcoma",
        tumour_class=TumourClass.MALIGNANT,
        age_years=(5, 14, 35),
        area_fraction=(0.012, 0.09),
        aspect=(0.3, 0.7),
        lysis=0.65,
        sclerotic_rim=0.03,
        blur=0.85,
        matrix=0.1,
        expansion=0.2,
        periosteal=0.75,
        soft_tissue=0.65,
        exophytic=0.0,
        weight=1.0,
    ),
)


def draw_type(rng: np.random.Generator) -> TumourType:
    """A tumour type; the three classes come in the proportion of the weights."""
    weights = np.array([t.weight for t in TYPES])
    return TYPES[int(rng.choice(len(TYPES), p=weights / weights.sum()))]


def draw_age(kind: TumourType, rng: np.random.Generator) -> int:
    """An age in years, triangular over the type's low, typical and high age."""
    low, mode, high = kind.age_years
    return round(rng.triangular(low, mode, high))


def sign(mean: float, rng: np.random.Generator, spread: float = 0.22) -> float:
    """One patient's strength of a sign, 0..1, around the type's mean."""
    return float(np.clip(rng.normal(mean, spread), 0.0, 1.0))
