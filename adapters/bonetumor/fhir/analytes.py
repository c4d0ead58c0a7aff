"""The blood markers we read: LOINC codes, canonical UCUM units, and factors into them.

This material contains content from LOINC (http://loinc.org). LOINC is copyright © Regenstrief
Institute, Inc. and the LOINC Committee and is available at no cost under the license at
http://loinc.org/license. A value in the canonical unit is value × factor; factors that cross
from moles to mass follow from molar masses (calcium 40.078, phosphorus 30.974, haemoglobin
monomer 16 114 g/mol).
"""

from dataclasses import dataclass

from bonetumor.domain.labs import Analyte

_ENZYME = {"U/L": 1.0, "[IU]/L": 1.0, "ukat/L": 60.0}
_CELLS = {"10*3/uL": 1.0, "10*9/L": 1.0, "/uL": 0.001}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyteReading:
    """How one analyte may come."""

    loinc: frozenset[str]
    unit: str
    factors: dict[str, float]


def _reading(loinc: str, unit: str, factors: dict[str, float]) -> AnalyteReading:
    return AnalyteReading(loinc=frozenset(loinc.split()), unit=unit, factors=factors)


READINGS = {
    Analyte.ALP: _reading("6768-6", "U/L", _ENZYME),
    Analyte.ALP_BONE: _reading("1777-2", "U/L", _ENZYME),
    Analyte.LDH: _reading("2532-0 14804-9 14805-6", "U/L", _ENZYME),
    Analyte.CALCIUM: _reading(
        "17861-6 2000-8 49765-1", "mg/dL", {"mg/dL": 1.0, "mmol/L": 4.0078, "meq/L": 2.0039}
    ),
    Analyte.PHOSPHATE: _reading("2777-1 14879-1", "mg/dL", {"mg/dL": 1.0, "mmol/L": 3.0974}),
    Analyte.CRP: _reading("1988-5 30522-7", "mg/L", {"mg/L": 1.0, "mg/dL": 10.0}),
    Analyte.ESR: _reading("4537-7 30341-2 18184-2", "mm/h", {"mm/h": 1.0}),
    Analyte.HEMOGLOBIN: _reading(
        "718-7 59260-0", "g/dL", {"g/dL": 1.0, "g/L": 0.1, "mmol/L": 1.6114}
    ),
    Analyte.WBC: _reading("6690-2 26464-8", "10*3/uL", _CELLS),
    Analyte.PLATELETS: _reading("777-3 26515-7", "10*3/uL", _CELLS),
    Analyte.NEUTROPHILS: _reading("751-8 26499-4", "10*3/uL", _CELLS),
    Analyte.LYMPHOCYTES: _reading("731-0 26474-7", "10*3/uL", _CELLS),
}

BY_LOINC = {code: analyte for analyte, reading in READINGS.items() for code in reading.loinc}

# Unit strings seen in the field that are not UCUM.
UNIT_ALIASES = {
    "IU/L": "[IU]/L",
    "IU/l": "[IU]/L",
    "U/l": "U/L",
    "mm/hr": "mm/h",
    "mm/1h": "mm/h",
    "10^3/uL": "10*3/uL",
    "10^3/µL": "10*3/uL",
    "K/uL": "10*3/uL",
    "x10E3/uL": "10*3/uL",
    "10^9/L": "10*9/L",
    "G/l": "10*9/L",
    "Gpt/l": "10*9/L",
    "mg/dl": "mg/dL",
    "µkat/L": "ukat/L",
    "g/dl": "g/dL",
}
