"""Blood markers of phantom patients.

The direction of each effect is textbook: alkaline phosphatase and lactate dehydrogenase rise in
osteosarcoma and Ewing sarcoma, inflammation markers in Ewing sarcoma; benign lesions leave blood
alone. The sizes of the effects are our assumption. The upper limit of alkaline phosphatase
depends on age, as laboratories report it.
"""

from dataclasses import dataclass

import numpy as np

from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.labs import Analyte


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
    shift: dict[TumourClass, float]
    spread: float


_BENIGN, _MIDDLE, _MALIGNANT = TumourClass
_MARKERS = {
    Analyte.ALP: _Marker("U/L", 40, 120, {_BENIGN: 0.0, _MIDDLE: 0.15, _MALIGNANT: 0.7}, 0.35),
    Analyte.LDH: _Marker("U/L", 125, 220, {_BENIGN: 0.0, _MIDDLE: 0.1, _MALIGNANT: 0.45}, 0.25),
    Analyte.CRP: _Marker("mg/L", 0.1, 5, {_BENIGN: 0.0, _MIDDLE: 0.3, _MALIGNANT: 1.1}, 0.8),
    Analyte.ESR: _Marker("mm/h", 1, 20, {_BENIGN: 0.0, _MIDDLE: 0.2, _MALIGNANT: 0.7}, 0.5),
    Analyte.CALCIUM: _Marker(
        "mg/dL", 8.6, 10.3, {_BENIGN: 0, _MIDDLE: 0.0, _MALIGNANT: 0.01}, 0.04
    ),
    Analyte.PHOSPHATE: _Marker("mg/dL", 2.5, 4.5, {_BENIGN: 0, _MIDDLE: 0.05, _MALIGNANT: 0}, 0.14),
    Analyte.HEMOGLOBIN: _Marker("g/dL", 12, 16, {_BENIGN: 0, _MIDDLE: 0, _MALIGNANT: -0.1}, 0.07),
    Analyte.WBC: _Marker("10*3/uL", 4, 10.5, {_BENIGN: 0, _MIDDLE: 0.03, _MALIGNANT: 0.12}, 0.22),
    Analyte.PLATELETS: _Marker(
        "10*3/uL", 150, 400, {_BENIGN: 0, _MIDDLE: 0, _MALIGNANT: 0.12}, 0.2
    ),
}
_MISSING = 0.25


def draw_blood(
    tumour_class: TumourClass, age_years: int, rng: np.random.Generator
) -> tuple[BloodMarker, ...]:
    """The markers that were measured; each is missing for about a quarter of patients."""
    drawn = []
    for analyte, marker in _MARKERS.items():
        factor = 3.0 if analyte is Analyte.ALP and 3 <= age_years <= 17 else 1.0
        low, high = marker.low * factor, marker.high * factor
        middle = np.sqrt(low * high)
        value = middle * np.exp(marker.shift[tumour_class] + rng.normal(0, marker.spread))
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
