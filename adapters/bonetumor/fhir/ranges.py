"""Reference ranges that fit the patient (FHIR R4 Observation.referenceRange)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.study import PatientIdentity
from bonetumor.fhir.analytes import AnalyteReading
from bonetumor.fhir.quantity import read_limit, unit_of

_SEXES = {"248153007": "M", "248152002": "F", "M": "M", "F": "F", "male": "M", "female": "F"}
_YEARS = {"a": 1.0, "year": 1.0, "years": 1.0, "mo": 1 / 12, "wk": 7 / 365.25, "d": 1 / 365.25}
_NUMBER = r"(\d+(?:[.,]\d+)?)"
_SPAN = re.compile(rf"^\s*{_NUMBER}\s*(?:-|–|to|bis)\s*{_NUMBER}\s*[^\d;:]*$")
_UPPER = re.compile(rf"^\s*(?:<=?|≤|up to|bis)\s*{_NUMBER}\s*[^\d;:]*$")
_LOWER = re.compile(rf"^\s*(?:>=?|≥)\s*{_NUMBER}\s*[^\d;:]*$")

Limits = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Person:
    """What a range asks of a patient. `age_years` at the time of the blood; None if unknown."""

    sex: str | None
    age_years: float | None


def person_at(identity: PatientIdentity | None, moment: datetime | None) -> Person:
    """The patient when the blood was taken."""
    if identity is None:
        return Person(sex=None, age_years=None)
    age = None
    if identity.birth_date and moment:
        born = datetime.fromisoformat(identity.birth_date).replace(tzinfo=moment.tzinfo)
        age = (moment - born).days / 365.25
    return Person(sex=identity.sex, age_years=age)


def read_range(
    item: Mapping[str, Any], reading: AnalyteReading, units: Mapping[str, str], person: Person
) -> Limits:
    """The limits of the most specific range that fits, in the canonical unit.

    Two ranges that fit equally well and differ settle nothing: then there are no limits.
    """
    fitting: dict[int, set[Limits]] = {}
    for candidate in item.get("referenceRange") or []:
        if not _is_normal(candidate) or not _fits(candidate, person):
            continue
        limits = _limits(candidate, reading, units, unit_of(item))
        if limits != (None, None):
            specific = bool(candidate.get("appliesTo")) + bool(candidate.get("age"))
            fitting.setdefault(specific, set()).add(limits)
    best = fitting[max(fitting)] if fitting else set()
    return best.pop() if len(best) == 1 else (None, None)


def _is_normal(candidate: Mapping[str, Any]) -> bool:
    """Whether it is a normal range and not a therapeutic or a critical one."""
    codings = (candidate.get("type") or {}).get("coding") or []
    return not codings or any(c.get("code") == "normal" for c in codings)


def _fits(candidate: Mapping[str, Any], person: Person) -> bool:
    for concept in candidate.get("appliesTo") or []:
        sexes = {_SEXES.get(str(c.get("code"))) for c in concept.get("coding") or []}
        if person.sex is None or person.sex not in sexes:
            return False
    age = candidate.get("age")
    return not age or _age_fits(age, person.age_years)


def _age_fits(age: Mapping[str, Any], years: float | None) -> bool:
    """FHIR ranges are inclusive: up to 17 years is until the eighteenth birthday."""
    if years is None:
        return False
    low, high = age.get("low") or {}, age.get("high") or {}
    for side in (low, high):
        if side and str(side.get("code") or side.get("unit") or "a") not in _YEARS:
            return False
    if low and years < _in_years(low):
        return False
    return not high or years < _in_years({**high, "value": high["value"] + 1})


def _in_years(quantity: Mapping[str, Any]) -> float:
    unit = str(quantity.get("code") or quantity.get("unit") or "a")
    return float(quantity["value"]) * _YEARS[unit]


def _limits(
    candidate: Mapping[str, Any], reading: AnalyteReading, units: Mapping[str, str], fallback: str
) -> Limits:
    try:
        low = read_limit(candidate.get("low"), reading, units, fallback)
        high = read_limit(candidate.get("high"), reading, units, fallback)
        if low is None and high is None and candidate.get("text"):
            low, high = (
                read_limit({"value": v, "unit": fallback}, reading, units, fallback)
                if v is not None
                else None
                for v in _written(str(candidate["text"]))
            )
    except InvalidInput:
        return None, None
    if low is not None and high is not None and low > high:
        return None, None
    return low, high


def _written(text: str) -> tuple[str | None, str | None]:
    """The limits in a range that came as text: `40 - 120`, `< 5`, `>= 3.5`; else none."""
    if span := _SPAN.match(text):
        return span.group(1), span.group(2)
    if upper := _UPPER.match(text):
        return None, upper.group(1)
    if lower := _LOWER.match(text):
        return lower.group(1), None
    return None, None
