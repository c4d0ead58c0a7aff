"""The value of an Observation: a quantity, or what sites write in place of one."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.labs import Comparator
from bonetumor.fhir.analytes import AnalyteReading
from bonetumor.fhir.units import factor

_UCUM_SYSTEMS = {"http://unitsofmeasure.org", "urn:oid:2.16.840.1.113883.6.8"}
_TEXT = re.compile(r"^\s*(<=|>=|<|>|≤|≥)?\s*(\d+(?:[.,]\d+)?)\s*(\S.*?)?\s*$")
_THOUSANDS = re.compile(r"^[1-9]\d{0,2},\d{3}$")
_COMPARATORS = {"≤": "<=", "≥": ">="}


@dataclass(frozen=True, slots=True)
class Measured:
    """A value in the canonical unit of its analyte."""

    value: float
    comparator: Comparator | None


def read_value(
    item: Mapping[str, Any], reading: AnalyteReading, units: Mapping[str, str]
) -> Measured:
    """The value of an Observation or a component, in the canonical unit.

    Raises:
        InvalidInput: with what was expected and what came.
    """
    said = sorted(key for key in item if key.startswith("value") and item[key] is not None)
    if not said:
        absent = "a reason for its absence" if item.get("dataAbsentReason") else "none"
        raise InvalidInput(f"expected a value, got {absent}")
    if len(said) > 1:
        raise InvalidInput(f"expected one value, got {', '.join(said)}")
    read = _READERS.get(said[0])
    if read is None:
        raise InvalidInput(f"expected a number with a unit, got {said[0]}")
    measured = read(item[said[0]], reading, units)
    low, high = reading.plausible
    if not low <= measured.value <= high and measured.comparator is None:
        raise InvalidInput(
            f"expected {low:g} to {high:g} {reading.unit}, got {measured.value:g}: a wrong unit?"
        )
    return measured


def read_limit(
    limit: object, reading: AnalyteReading, units: Mapping[str, str], fallback: str
) -> float | None:
    """One side of a reference range; `fallback` is the unit of the value it belongs to."""
    if not isinstance(limit, dict) or limit.get("value") is None:
        return None
    named = limit if limit.get("code") or limit.get("unit") else {**limit, "unit": fallback}
    return _number(limit["value"]) * _factor(named, reading, units)


def unit_of(item: Mapping[str, Any]) -> str:
    """The unit that a value came with, for the ranges that come without."""
    quantity = item.get("valueQuantity")
    if not isinstance(quantity, dict):
        return ""
    return str(quantity.get("unit") or quantity.get("code") or "")


def _from_quantity(quantity: Any, reading: AnalyteReading, units: Mapping[str, str]) -> Measured:
    if not isinstance(quantity, dict) or quantity.get("value") is None:
        raise InvalidInput("expected a numeric value, got none")
    comparator = quantity.get("comparator")
    if comparator is not None and comparator not in set(Comparator):
        raise InvalidInput(f"expected comparator {', '.join(Comparator)}, got {comparator}")
    return Measured(
        _number(quantity["value"]) * _factor(quantity, reading, units),
        Comparator(comparator) if comparator else None,
    )


def _from_text(text: Any, reading: AnalyteReading, units: Mapping[str, str]) -> Measured:
    found = _TEXT.match(str(text))
    if not found:
        raise InvalidInput("expected a number with a unit, got other text")
    sign, number, unit = found.groups()
    sign = _COMPARATORS.get(sign, sign)
    return Measured(
        _number(number) * _factor({"unit": unit}, reading, units),
        Comparator(sign) if sign else None,
    )


def _from_ratio(ratio: Any, reading: AnalyteReading, units: Mapping[str, str]) -> Measured:
    """Amount over volume: 5 mg over 1 L. A ratio without units is a titre, and none of ours."""
    above, below = (ratio.get(side) or {} for side in ("numerator", "denominator"))
    if above.get("comparator") or below.get("comparator"):
        raise InvalidInput("expected a ratio of exact values, got a comparator in it")
    volume = _number(below.get("value"))
    names = [str(q.get("code") or q.get("unit") or "") for q in (above, below)]
    if not volume or not all(names) or any("/" in name for name in names):
        raise InvalidInput("expected an amount over a volume, got another ratio")
    whole = {"unit": f"{names[0]}/{names[1]}"}
    return Measured(_number(above.get("value")) / volume * _factor(whole, reading, units), None)


_Reader = Callable[[Any, AnalyteReading, Mapping[str, str]], Measured]
_READERS: dict[str, _Reader] = {
    "valueQuantity": _from_quantity,
    "valueString": _from_text,
    "valueRatio": _from_ratio,
}


def _number(value: object) -> float:
    if isinstance(value, str):
        text = value.strip()
        if _THOUSANDS.match(text):
            raise InvalidInput("expected a number, got a comma that may be of thousands")
        value = _plain_float(text.replace(",", "."))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidInput("expected a numeric value, got something else")
    return float(value)


def _plain_float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _factor(
    quantity: Mapping[str, Any], reading: AnalyteReading, units: Mapping[str, str]
) -> float:
    """The factor of a quantity's unit; code and unit must not contradict each other."""
    found = {factor(reading, name) for name in _named(quantity, reading, units)}
    if len(found) != 1:
        said = " and ".join(str(quantity[k]) for k in ("code", "unit") if quantity.get(k))
        raise InvalidInput(
            f"expected a unit that converts to {reading.unit}, got {said or 'no unit'}"
        )
    return found.pop()


def _named(
    quantity: Mapping[str, Any], reading: AnalyteReading, units: Mapping[str, str]
) -> list[str]:
    """The unit's names that can be converted; a code counts only where it is UCUM."""
    code, unit = quantity.get("code"), quantity.get("unit")
    is_ucum = quantity.get("system") in {None, *_UCUM_SYSTEMS}
    names = [units.get(str(n), str(n)) for n in (code if is_ucum else None, unit) if n]
    return [name for name in names if _converts(reading, name)] if len(names) > 1 else names


def _converts(reading: AnalyteReading, name: str) -> bool:
    try:
        factor(reading, name)
    except InvalidInput:
        return False
    return True
