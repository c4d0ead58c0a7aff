"""Converting laboratory units. UCUM is read by ucumvert over pint; chemistry is added here.

Between moles and mass stands the molar mass; between equivalents and moles the valence. The
arbitrary [IU] of an enzyme is taken for its U: laboratories write one for the other.
"""

import re
from functools import cache

from pint.errors import DimensionalityError
from ucumvert import PintUcumRegistry
from ucumvert.parser import InvalidUcumError

from bonetumor.domain.errors import InvalidInput
from bonetumor.fhir.analytes import AnalyteReading

_POWER = re.compile(r"\b[xX]?\s*10\s*(?:\^|\*\*|E|e|\()\s*(\d+)\)?")
# What stands for what, one after the other.
_SPELLINGS = (
    (re.compile(r"(?<=10)(?=[⁰¹²³⁴-⁹])"), "^"),
    (re.compile("×"), "x"),
    (re.compile("[µμ]"), "u"),
    (re.compile(r"mc(?=[gL]\b)"), "u"),
    (re.compile(r"/100 ?m[lL]\b"), "/dL"),
    (re.compile(r"\bgm(?=/)"), "g"),
)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_ANNOTATION = re.compile(r"\{[^}]*\}")


@cache
def factor(reading: AnalyteReading, unit: str) -> float:
    """Value in the analyte's canonical unit = value × factor.

    Raises:
        InvalidInput: no UCUM unit, or one of another kind of quantity.
    """
    ucum = _as_ucum(unit)
    if reading.is_activity:
        ucum = ucum.replace("[IU]", "U").replace("[iU]", "U")
    try:
        given = _registry().from_ucum(ucum)
        wanted = _registry().from_ucum(reading.unit)
        if "eq" in ucum:
            if reading.valence is None:
                raise InvalidInput(f"expected a unit that converts to {reading.unit}, got {unit}")
            given = given / reading.valence
        if reading.molar_mass and given.check("[substance] / [length] ** 3"):
            given = given * reading.molar_mass * _registry().from_ucum("g/mol")
        return float((given / wanted).to("dimensionless").magnitude)
    except (InvalidUcumError, DimensionalityError) as error:
        raise InvalidInput(
            f"expected a unit that converts to {reading.unit}, got {unit or 'no unit'}"
        ) from error


def _as_ucum(unit: str) -> str:
    """Common spellings of powers, micro, litre and gram as UCUM has them."""
    for spelled, meant in _SPELLINGS:
        unit = spelled.sub(meant, unit)
    text = _POWER.sub(r"10*\1", unit.translate(_RAISED)).replace(" ", "")
    text = _ANNOTATION.sub("", text).replace("/dl", "/dL").replace("/ml", "/mL")
    return re.sub(r"/([un]?)l$", r"/\1L", text)


@cache
def _registry() -> PintUcumRegistry:
    return PintUcumRegistry()
