"""Coded concepts (PS3.3 section 8, FHIR Coding)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A concept: code value, coding scheme designator, code meaning."""

    value: str
    scheme: str
    meaning: str
