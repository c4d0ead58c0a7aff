"""Blood markers of phantom patients.

Each tumour type raises or lowers a marker in a share of its patients. Directions and rough shares
are textbook knowledge (WHO Classification of Tumours, Soft Tissue and Bone, 5th ed. 2020; alkaline
phosphatase in osteosarcoma: about half of patients; lactate dehydrogenase, sedimentation rate and
leukocytes in Ewing sarcoma: about a third); the sizes of the effects are our assumption. Benign
lesions leave blood alone, and so do many malignant ones: blood never settles the class. The upper
limit of alkaline phosphatase depends on age and that of haemoglobin on sex, as laboratories
report them; raised markers of patients with a cold come at random.
"""

from dataclasses import dataclass

import numpy as np

from bonetumor.domain.labs import Analyte
from bonetumor.phantom.tumour import TumourType


@dataclass(frozen=True, slots=True, kw_only=True)
class BloodMarker:
    """One measured marker in its canonical UCUM unit, with its reference range."""

    analyte: Analyte
    value: float
    unit: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Marker:
    unit: str
    low: float
    high: float
    spread: float


_MARKERS = {
    Analyte.ALP: _Marker("U/L", 40, 120, 0.28),
    Analyte.LDH: _Marker("U/L", 125, 220, 0.16),
    Analyte.CRP: _Marker("mg/L", 0.1, 5, 0.8),
    Analyte.ESR: _Marker("mm/h", 1, 20, 0.55),
    Analyte.CALCIUM: _Marker("mg/dL", 8.6, 10.3, 0.04),
    Analyte.PHOSPHATE: _Marker("mg/dL", 2.5, 4.5, 0.14),
    Analyte.HEMOGLOBIN: _Marker("g/dL", 12, 16, 0.07),
    Analyte.WBC: _Marker("10*3/uL", 4, 10.5, 0.22),
    Analyte.PLATELETS: _Marker("10*3/uL", 150, 400, 0.2),
}
_Effects = dict[Analyte, tuple[float, float]]  # share of patients, shift of the logarithm
_EFFECTS: dict[str, _Effects] = {
    "osteosarcoma": {
        Analyte.ALP: (0.55, 1.0), Analyte.LDH: (0.4, 0.55), Analyte.ESR: (0.4, 0.9),
        Analyte.CRP: (0.35, 1.3), Analyte.HEMOGLOBIN: (0.3, -0.15),
    },
    "Ewing sarcoma": {
        Analyte.LDH: (0.5, 0.7), Analyte.ESR: (0.6, 1.2), Analyte.CRP: (0.55, 1.9),
        Analyte.WBC: (0.4, 0.45), Analyte.HEMOGLOBIN: (0.5, -0.2),
        Analyte.PLATELETS: (0.35, 0.35),
    },
    "chondrosarcoma": {Analyte.ALP: (0.15, 0.5), Analyte.ESR: (0.25, 0.7)},
    "other malignant tumour": {
        Analyte.ALP: (0.35, 0.7), Analyte.LDH: (0.4, 0.6), Analyte.CALCIUM: (0.25, 0.14),
        Analyte.ESR: (0.45, 1.0), Analyte.CRP: (0.4, 1.4), Analyte.HEMOGLOBIN: (0.45, -0.2),
    },
    "giant cell tumour": {
        Analyte.ALP: (0.3, 0.45), Analyte.PHOSPHATE: (0.25, -0.2), Analyte.ESR: (0.25, 0.6),
    },
    "osteoblastoma": {Analyte.ALP: (0.25, 0.4), Analyte.ESR: (0.3, 0.7), Analyte.CRP: (0.2, 0.9)},
    "atypical cartilaginous tumour": {Analyte.ESR: (0.15, 0.5)},
    "fibrous dysplasia": {Analyte.ALP: (0.3, 0.5), Analyte.PHOSPHATE: (0.15, -0.2)},
    "aneurysmal bone cyst": {Analyte.ALP: (0.2, 0.4)},
}  # fmt: skip
_MISSING = 0.25
_COLD = 0.12
_COLD_EFFECTS: _Effects = {
    Analyte.CRP: (1.0, 1.5), Analyte.ESR: (1.0, 0.8), Analyte.WBC: (0.6, 0.3),
}  # fmt: skip


def draw_blood(
    kind: TumourType, age_years: int, sex: str, rng: np.random.Generator
) -> tuple[BloodMarker, ...]:
    """The markers that were measured; each is missing for about a quarter of patients."""
    cold = rng.random() < _COLD
    drawn = []
    for analyte, marker in _MARKERS.items():
        low, high = _range(analyte, marker, age_years, sex)
        shift = _shift(_EFFECTS.get(kind.name, {}), analyte, rng)
        shift += _shift(_COLD_EFFECTS if cold else {}, analyte, rng)
        value = np.sqrt(low * high) * np.exp(shift + rng.normal(0, marker.spread))
        if rng.random() >= _MISSING:
            drawn.append(
                BloodMarker(
                    analyte=analyte,
                    value=round(float(value), 2),
                    unit=marker.unit,
                    low=low,
                    high=high,
                )
            )
    return tuple(drawn)


def _range(analyte: Analyte, marker: _Marker, age_years: int, sex: str) -> tuple[float, float]:
    factor = 1.0
    if analyte is Analyte.ALP and 3 <= age_years <= 17:
        factor = 3.0
    elif analyte is Analyte.HEMOGLOBIN and sex == "M" and age_years >= 15:
        factor = 1.1
    elif analyte is Analyte.ESR and age_years >= 50:
        factor = 1.5
    return round(marker.low * factor, 2), round(marker.high * factor, 2)


def _shift(effects: _Effects, analyte: Analyte, rng: np.random.Generator) -> float:
    share, size = effects.get(analyte, (0.0, 0.0))
    return size * float(rng.uniform(0.5, 1.5)) if rng.random() < share else 0.0
