"""Tumour types of the phantom, and the radiographic signs that each tends to show.

The signs are those radiologists name (margin after Lodwick, matrix, periosteal reaction,
expansion, cortical breach, soft-tissue mass). Sizes, aspects, ages, sex and sites follow the
published aggregate statistics of the BTXRD data set (Yao et al. 2025,
doi:10.1038/s41597-024-04311-y) where it lists the type. How often each type shows each sign, and
everything about the types it does not list, are our assumptions after textbook descriptions.
Classes after WHO 2020.
"""

from dataclasses import dataclass, field

import numpy as np

from bonetumor.domain.assessment import TumourClass

Quantiles = tuple[float, float, float, float, float]
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_ASPECT: Quantiles = (0.32, 0.50, 0.69, 0.91, 1.47)


@dataclass(frozen=True, slots=True, kw_only=True)
class TumourType:
    """How a tumour type looks on average.

    Quantiles are those at 5, 25, 50, 75 and 95 %. `area_fraction` is that of the box in the
    image, `aspect` its width over height in pixels. `margin` is 0 for a sharp (Lodwick IA), 1 for
    a permeative one (III). Other signs are means in 0..1; `matrix` and `periosteal` are the odds
    of each kind. `place` says where along the bone: 0 the shaft, 1 the end.
    """

    name: str
    tumour_class: TumourClass
    age_years: Quantiles
    area_fraction: Quantiles
    weight: float
    male: float = 0.57
    aspect: Quantiles = _ASPECT
    sites: dict[str, float]
    place: float = 0.5
    lysis: float = 0.0
    rim: float = 0.0
    margin: float = 0.0
    septa: float = 0.0
    expansion: float = 0.0
    breach: float = 0.0
    soft_tissue: float = 0.0
    sclerosis: float = 0.0
    eccentric: float = 0.4
    matrix: dict[str, float] = field(default_factory=lambda: {"none": 1.0})
    periosteal: dict[str, float] = field(default_factory=lambda: {"none": 1.0})
    form: str = "inside"
    most_lesions: int = 1


_LONG = {"femur": 0.45, "tibia": 0.3, "humerus": 0.15, "radius": 0.05, "fibula": 0.05}
_ANY = {**_LONG, "hand": 0.15, "foot": 0.1}

TYPES = (
    TumourType(
        name="osteochondroma", tumour_class=TumourClass.BENIGN, weight=1.3, male=0.59,
        age_years=(9, 15, 37, 55, 72), area_fraction=(0.0005, 0.0013, 0.003, 0.0079, 0.0318),
        aspect=(0.32, 0.47, 0.62, 0.80, 1.18), place=0.6, form="exostosis",
        sites={"tibia": 0.47, "femur": 0.23, "fibula": 0.11, "humerus": 0.08, "hand": 0.06,
               "foot": 0.05},
    ),
    TumourType(
        name="multiple osteochondromas", tumour_class=TumourClass.BENIGN, weight=0.6, male=0.54,
        age_years=(5, 10, 12, 18, 53), area_fraction=(0.0024, 0.0098, 0.0232, 0.0498, 0.107),
        aspect=(0.29, 0.49, 0.73, 1.02, 1.60), place=0.7, form="exostosis", most_lesions=5,
        sites={"tibia": 0.5, "femur": 0.3, "humerus": 0.1, "radius": 0.1},
    ),
    TumourType(
        name="simple bone cyst", tumour_class=TumourClass.BENIGN, weight=0.7, male=0.62,
        age_years=(4, 10, 16, 40, 69), area_fraction=(0.0005, 0.0035, 0.0171, 0.036, 0.1052),
        aspect=(0.38, 0.56, 0.71, 0.88, 1.29), place=0.5, lysis=0.85, rim=0.45, margin=0.05,
        septa=0.25, expansion=0.35, eccentric=0.1,
        sites={"humerus": 0.32, "femur": 0.21, "foot": 0.17, "hand": 0.14, "tibia": 0.11,
               "fibula": 0.05},
    ),
    TumourType(
        name="non-ossifying fibroma", tumour_class=TumourClass.BENIGN, weight=0.7, male=0.64,
        age_years=(4, 10, 14, 20, 35), area_fraction=(0.0008, 0.0022, 0.005, 0.011, 0.03),
        aspect=(0.29, 0.41, 0.51, 0.71, 0.96), place=0.5, lysis=0.7, rim=0.85, margin=0.05,
        septa=0.45, expansion=0.2, eccentric=0.85,
        sites={"tibia": 0.5, "femur": 0.35, "fibula": 0.1, "humerus": 0.05},
    ),
    TumourType(
        name="enchondroma", tumour_class=TumourClass.BENIGN, weight=0.6, male=0.5,
        age_years=(12, 25, 38, 52, 70), area_fraction=(0.0007, 0.003, 0.008, 0.019, 0.05),
        place=0.4, lysis=0.55, rim=0.3, margin=0.15, septa=0.15, expansion=0.3, eccentric=0.15,
        matrix={"none": 0.3, "chondroid": 0.7},
        sites={"hand": 0.5, "femur": 0.2, "humerus": 0.15, "foot": 0.15},
    ),
    TumourType(
        name="fibrous dysplasia", tumour_class=TumourClass.BENIGN, weight=0.5,
        age_years=(4, 14, 19, 30, 61), area_fraction=(0.0013, 0.004, 0.010, 0.025, 0.08),
        aspect=(0.25, 0.38, 0.5, 0.71, 0.96), place=0.3, lysis=0.55, rim=0.5, margin=0.1,
        expansion=0.4, eccentric=0.15, matrix={"ground glass": 0.8, "none": 0.2},
        sites={"tibia": 0.4, "femur": 0.4, "humerus": 0.1, "radius": 0.05, "fibula": 0.05},
    ),
    TumourType(
        name="osteoid osteoma", tumour_class=TumourClass.BENIGN, weight=0.4, male=0.67,
        age_years=(6, 11, 16, 24, 40), area_fraction=(0.0007, 0.0018, 0.004, 0.009, 0.025),
        place=0.3, lysis=0.5, rim=0.3, margin=0.1, sclerosis=0.8, eccentric=0.9,
        matrix={"none": 0.6, "osteoid": 0.4}, periosteal={"solid": 0.8, "none": 0.2},
        sites=_ANY,
    ),
    TumourType(
        name="aneurysmal bone cyst", tumour_class=TumourClass.BENIGN, weight=0.4, male=0.5,
        age_years=(5, 10, 15, 21, 45), area_fraction=(0.003, 0.012, 0.025, 0.05, 0.12),
        place=0.6, lysis=0.9, rim=0.3, margin=0.15, septa=0.8, expansion=0.9, eccentric=0.6,
        periosteal={"none": 0.7, "solid": 0.3}, soft_tissue=0.15, sites=_ANY,
    ),
    TumourType(
        name="giant cell tumour", tumour_class=TumourClass.INTERMEDIATE, weight=1.6, male=0.55,
        age_years=(13, 24, 30, 46, 65), area_fraction=(0.0054, 0.0212, 0.0343, 0.0609, 0.1526),
        aspect=(0.56, 0.67, 0.81, 0.94, 1.48), place=1.0, lysis=0.85, rim=0.1, margin=0.3,
        septa=0.5, expansion=0.6, breach=0.4, soft_tissue=0.25, eccentric=0.55,
        sites={"femur": 0.42, "tibia": 0.2, "hand": 0.12, "radius": 0.14, "fibula": 0.07,
               "humerus": 0.05},
    ),
    TumourType(
        name="osteoblastoma", tumour_class=TumourClass.INTERMEDIATE, weight=0.7, male=0.67,
        age_years=(8, 14, 20, 30, 50), area_fraction=(0.0015, 0.006, 0.014, 0.028, 0.08),
        place=0.4, lysis=0.6, rim=0.45, margin=0.2, septa=0.2, expansion=0.55, sclerosis=0.4,
        eccentric=0.6, matrix={"osteoid": 0.7, "none": 0.3},
        periosteal={"solid": 0.5, "none": 0.5}, soft_tissue=0.15, sites=_ANY,
    ),
    TumourType(
        name="synovial chondromatosis", tumour_class=TumourClass.INTERMEDIATE, weight=0.5,
        male=0.46, age_years=(23, 48, 62, 65, 75),
        area_fraction=(0.0087, 0.04, 0.0841, 0.1114, 0.179),
        aspect=(0.67, 0.96, 1.07, 1.27, 2.2), place=1.0, form="bodies",
        sites={"femur": 0.75, "humerus": 0.15, "tibia": 0.1},
    ),
    TumourType(
        name="atypical cartilaginous tumour", tumour_class=TumourClass.INTERMEDIATE, weight=0.6,
        age_years=(20, 35, 48, 60, 74), area_fraction=(0.004, 0.012, 0.025, 0.05, 0.11),
        place=0.4, lysis=0.6, rim=0.15, margin=0.35, expansion=0.35, breach=0.15, eccentric=0.2,
        matrix={"chondroid": 0.9, "none": 0.1}, sites=_LONG,
    ),
    TumourType(
        name="osteosarcoma", tumour_class=TumourClass.MALIGNANT, weight=2.0, male=0.54,
        age_years=(9, 13, 17, 46, 70), area_fraction=(0.0119, 0.027, 0.046, 0.0799, 0.1951),
        aspect=(0.32, 0.52, 0.70, 0.86, 1.16), place=0.65, lysis=0.45, margin=0.75, breach=0.7,
        soft_tissue=0.75, sclerosis=0.35, eccentric=0.4,
        matrix={"osteoid": 0.75, "none": 0.25},
        periosteal={"sunburst": 0.4, "codman": 0.3, "lamellated": 0.15, "none": 0.15},
        sites={"femur": 0.5, "humerus": 0.2, "tibia": 0.2, "fibula": 0.1},
    ),
    TumourType(
        name="Ewing sarcoma", tumour_class=TumourClass.MALIGNANT, weight=0.7, male=0.58,
        age_years=(5, 10, 14, 20, 35), area_fraction=(0.008, 0.02, 0.042, 0.08, 0.16),
        aspect=(0.25, 0.36, 0.5, 0.7, 1.0), place=0.15, lysis=0.6, margin=0.95, breach=0.5,
        soft_tissue=0.7, eccentric=0.15,
        periosteal={"lamellated": 0.55, "sunburst": 0.15, "codman": 0.15, "none": 0.15},
        sites=_LONG,
    ),
    TumourType(
        name="chondrosarcoma", tumour_class=TumourClass.MALIGNANT, weight=0.6,
        age_years=(25, 42, 53, 63, 78), area_fraction=(0.008, 0.02, 0.045, 0.085, 0.17),
        place=0.6, lysis=0.65, rim=0.1, margin=0.5, expansion=0.5, breach=0.6, soft_tissue=0.5,
        eccentric=0.3, matrix={"chondroid": 0.85, "none": 0.15},
        periosteal={"solid": 0.3, "none": 0.7}, sites=_LONG,
    ),
    TumourType(
        name="other malignant tumour", tumour_class=TumourClass.MALIGNANT, weight=0.7, male=0.47,
        age_years=(6, 14, 30, 55, 72), area_fraction=(0.0049, 0.0117, 0.0398, 0.0807, 0.1489),
        aspect=(0.35, 0.53, 0.83, 1.07, 1.61), place=0.5, lysis=0.8, margin=0.85, breach=0.6,
        soft_tissue=0.45, eccentric=0.4,
        periosteal={"none": 0.6, "lamellated": 0.25, "sunburst": 0.15},
        sites={"tibia": 0.35, "femur": 0.3, "humerus": 0.25, "fibula": 0.1},
    ),
)  # fmt: skip


def draw_type(rng: np.random.Generator) -> TumourType:
    """A tumour type; the types come in the proportion of their weights."""
    weights = np.array([t.weight for t in TYPES])
    return TYPES[int(rng.choice(len(TYPES), p=weights / weights.sum()))]


def draw_age(kind: TumourType, rng: np.random.Generator) -> int:
    """An age in years from the type's quantiles."""
    return round(draw_quantile(kind.age_years, rng))


def draw_quantile(quantiles: Quantiles, rng: np.random.Generator) -> float:
    """A value whose logarithm is linear between the five quantiles; the outer tenth is clipped."""
    return float(np.exp(np.interp(rng.random(), _LEVELS, np.log(quantiles))))


def draw_kind(odds: dict[str, float], rng: np.random.Generator) -> str:
    """One of the keys, in the proportion of their values."""
    weights = np.array(list(odds.values()))
    return str(rng.choice(list(odds), p=weights / weights.sum()))


def draw_sign(mean: float, rng: np.random.Generator, spread: float = 0.2) -> float:
    """One patient's strength of a sign, 0..1, around the type's mean; absent stays rare."""
    return float(np.clip(rng.normal(mean, spread if mean > 0 else spread / 3), 0.0, 1.0))
