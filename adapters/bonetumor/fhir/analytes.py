"""The blood markers we read: LOINC codes, canonical units, and what a plausible value is.

This material contains content from LOINC (http://loinc.org). LOINC is copyright © Regenstrief
Institute, Inc. and the LOINC Committee and is available at no cost under the license at
http://loinc.org/license.

Molar masses in g/mol: IUPAC 2021 atomic weights for calcium, phosphorus (phosphate is reported as
phosphorus), creatinine, urate and 25-hydroxyvitamin D3; haemoglobin per monomer (IFCC); PTH 1-84;
C-reactive protein as in the AMA's SI table, 1 mg/L = 9.524 nmol/L. Plausible limits are wide: they
catch a value under the wrong unit, not an ill patient.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bonetumor.domain.errors import Misconfigured
from bonetumor.domain.labs import Analyte

LOINC = "http://loinc.org"
LOINC_SYSTEMS = frozenset({LOINC, "urn:oid:2.16.840.1.113883.6.1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyteReading:
    """How one analyte may come. `molar_mass` in g/mol; `valence` turns equivalents into moles.

    Equivalents of an analyte without a fixed valence, such as phosphate, say nothing of its moles.
    """

    loinc: frozenset[str]
    unit: str
    plausible: tuple[float, float]
    molar_mass: float | None = None
    valence: int | None = None

    @property
    def is_activity(self) -> bool:
        """Whether it is an enzyme, measured by what it does."""
        return self.unit == "U/L"


def _reading(
    loinc: str,
    unit: str,
    plausible: tuple[float, float],
    *,
    molar_mass: float | None = None,
    valence: int | None = None,
) -> AnalyteReading:
    return AnalyteReading(
        loinc=frozenset(loinc.split()),
        unit=unit,
        plausible=plausible,
        molar_mass=molar_mass,
        valence=valence,
    )


READINGS = {
    Analyte.ALP: _reading("6768-6", "U/L", (1, 20_000)),
    Analyte.ALP_BONE: _reading("1777-2", "U/L", (0.5, 20_000)),
    Analyte.LDH: _reading("2532-0 14804-9 14805-6", "U/L", (5, 50_000)),
    Analyte.CALCIUM: _reading(
        "17861-6 2000-8 49765-1", "mg/dL", (1.5, 30), molar_mass=40.078, valence=2
    ),
    Analyte.PHOSPHATE: _reading("2777-1 14879-1", "mg/dL", (0.1, 40), molar_mass=30.974),
    Analyte.CRP: _reading("1988-5 30522-7 76485-2", "mg/L", (0, 1_500), molar_mass=105_000),
    Analyte.ESR: _reading("4537-7 30341-2 18184-2", "mm/h", (0, 250)),
    Analyte.HEMOGLOBIN: _reading("718-7 59260-0", "g/dL", (0.5, 30), molar_mass=16_114),
    Analyte.WBC: _reading("6690-2 26464-8", "10*3/uL", (0, 1_500)),
    Analyte.PLATELETS: _reading("777-3 26515-7", "10*3/uL", (0, 5_000)),
    Analyte.NEUTROPHILS: _reading("751-8 26499-4", "10*3/uL", (0, 1_000)),
    Analyte.LYMPHOCYTES: _reading("731-0 26474-7", "10*3/uL", (0, 1_000)),
    Analyte.MONOCYTES: _reading("742-7 26484-6", "10*3/uL", (0, 500)),
    Analyte.ALBUMIN: _reading("1751-7 54347-0", "g/dL", (0.2, 12), molar_mass=66_438),
    Analyte.CREATININE: _reading(
        "2160-0 14682-9 38483-4 59826-8", "mg/dL", (0.02, 50), molar_mass=113.12
    ),
    Analyte.PTH: _reading("2731-8", "pg/mL", (0.5, 20_000), molar_mass=9_425),
    Analyte.VITAMIN_D: _reading("1989-3 14635-7", "ng/mL", (0.5, 1_000), molar_mass=400.64),
    Analyte.URATE: _reading("3084-1 14933-6", "mg/dL", (0.05, 60), molar_mass=168.11),
    Analyte.PSA: _reading("2857-1", "ng/mL", (0, 50_000)),
}

# Unit strings seen in the field that are not UCUM.
UNIT_ALIASES = {
    "IU/L": "[IU]/L",
    "IU/l": "[IU]/L",
    "IE/L": "[IU]/L",
    "IE/l": "[IU]/L",
    "UI/L": "[IU]/L",
    "UI/l": "[IU]/L",
    "U/l": "U/L",
    "u/L": "U/L",
    "units/L": "U/L",
    "E/l": "U/L",
    "E/L": "U/L",
    "mm/hr": "mm/h",
    "mm/1h": "mm/h",
    "mm/1.h": "mm/h",
    "mm/1.Std": "mm/h",
    "mm/1. Std.": "mm/h",
    "mm/Std": "mm/h",
    "mm/hour": "mm/h",
    "MM/HR": "mm/h",
    "K/uL": "10*3/uL",
    "K/µL": "10*3/uL",
    "K/mm3": "10*3/uL",
    "K/mm³": "10*3/uL",
    "Tsd/µl": "10*3/uL",
    "Tsd./µl": "10*3/uL",
    "thou/uL": "10*3/uL",
    "Thousand/uL": "10*3/uL",
    "th/mm3": "10*3/uL",
    "THOU/MM3": "10*3/uL",
    "/nl": "10*9/L",
    "/nL": "10*9/L",
    "G/l": "10*9/L",
    "G/L": "10*9/L",
    "Gpt/l": "10*9/L",
    "Gpt/L": "10*9/L",
    "cells/uL": "/uL",
    "cells/µL": "/uL",
    "mg%": "mg/dL",
    "g%": "g/dL",
    "MG/DL": "mg/dL",
    "G/DL": "g/dL",
    "MG/L": "mg/L",
    "mEq/L": "meq/L",
    "mval/l": "meq/L",
}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Which codes mean which analyte, and which unit strings mean which UCUM unit."""

    codes: Mapping[tuple[str, str], Analyte]
    units: Mapping[str, str]

    def analyte(self, system: object, code: object) -> Analyte | None:
        """The analyte of a coding, if it is one that we read. Displays are never looked at."""
        wanted = LOINC if system in LOINC_SYSTEMS else str(system)
        return self.codes.get((wanted, str(code)))


def build_catalogue(
    local_codes: Mapping[str, str] | None = None, local_units: Mapping[str, str] | None = None
) -> Catalogue:
    """LOINC and a site's own codes.

    `local_codes` maps `system|code` to our short name of the analyte; `local_units` maps a unit
    string to UCUM.

    Raises:
        Misconfigured: a code without system, or an analyte that we do not know.
    """
    codes = {(LOINC, code): analyte for analyte, r in READINGS.items() for code in r.loinc}
    for name, analyte in (local_codes or {}).items():
        system, bar, code = name.rpartition("|")
        if not bar or not system or not code:
            raise Misconfigured(f"ehr.local_codes: expected system|code, got {name}")
        if analyte not in set(Analyte):
            raise Misconfigured(
                f"ehr.local_codes: expected one of {', '.join(Analyte)}, got {analyte}"
            )
        codes[system, code] = Analyte(analyte)
    return Catalogue(codes=codes, units={**UNIT_ALIASES, **(local_units or {})})
