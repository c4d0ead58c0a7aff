"""Blood markers, read and understood."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Analyte(StrEnum):
    """The blood markers that the model knows, by our short names."""

    ALP = "alp"
    ALP_BONE = "alp_bone"
    LDH = "ldh"
    CALCIUM = "calcium"
    PHOSPHATE = "phosphate"
    CRP = "crp"
    ESR = "esr"
    HEMOGLOBIN = "hemoglobin"
    WBC = "wbc"
    PLATELETS = "platelets"
    NEUTROPHILS = "neutrophils"
    LYMPHOCYTES = "lymphocytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabResult:
    """One blood marker in its canonical unit, with the reference range it came with."""

    analyte: Analyte
    value: float
    unit: str
    low: float | None
    high: float | None
    taken_at: datetime | None
    source: str

    @property
    def is_high(self) -> bool:
        """Above its own upper reference limit."""
        return self.high is not None and self.value > self.high

    @property
    def is_low(self) -> bool:
        """Below its own lower reference limit."""
        return self.low is not None and self.value < self.low

    @property
    def ratio_to_upper_limit(self) -> float | None:
        """Value ÷ upper reference limit, comparable across methods and ages."""
        return self.value / self.high if self.high else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabPanel:
    """The newest understood result of each analyte, and what could not be understood."""

    results: tuple[LabResult, ...]
    not_understood: tuple[str, ...] = ()

    @property
    def abnormal(self) -> tuple[LabResult, ...]:
        """The results outside their own reference range."""
        return tuple(r for r in self.results if r.is_high or r.is_low)
