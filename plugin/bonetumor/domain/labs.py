"""Blood markers, read and understood."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Analyte(StrEnum):
    """The blood markers that we read, by our short names."""

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
    MONOCYTES = "monocytes"
    ALBUMIN = "albumin"
    CREATININE = "creatinine"
    PTH = "pth"
    VITAMIN_D = "vitamin_d"
    URATE = "urate"
    PSA = "psa"


# What the networks weigh. The others are read and shown beside it; they weigh nothing.
WEIGHED = (
    Analyte.ALP,
    Analyte.ALP_BONE,
    Analyte.LDH,
    Analyte.CALCIUM,
    Analyte.PHOSPHATE,
    Analyte.CRP,
    Analyte.ESR,
    Analyte.HEMOGLOBIN,
    Analyte.WBC,
    Analyte.PLATELETS,
    Analyte.NEUTROPHILS,
    Analyte.LYMPHOCYTES,
)


class Comparator(StrEnum):
    """What a laboratory says when a value lies beyond what it can measure (FHIR Quantity)."""

    LESS = "<"
    AT_MOST = "<="
    AT_LEAST = ">="
    GREATER = ">"

    @property
    def is_upper_bound(self) -> bool:
        """Whether the true value lies at or below what was written."""
        return self in {Comparator.LESS, Comparator.AT_MOST}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabResult:
    """One blood marker in its canonical unit, with the reference range it came with.

    `comparator` says that `value` is only a bound of the true value. `flag` is the laboratory's
    own H, L or N (HL7 v3 ObservationInterpretation), which counts where no range came with it.
    """

    analyte: Analyte
    value: float
    unit: str
    low: float | None
    high: float | None
    taken_at: datetime | None
    source: str
    comparator: Comparator | None = None
    flag: str | None = None

    @property
    def is_high(self) -> bool:
        """Above its own upper reference limit, for certain."""
        if self.high is None:
            return self.flag == "H"
        if self.comparator is None:
            return self.value > self.high
        return not self.comparator.is_upper_bound and self.value >= self.high

    @property
    def is_low(self) -> bool:
        """Below its own lower reference limit, for certain."""
        if self.low is None:
            return self.flag == "L"
        if self.comparator is None:
            return self.value < self.low
        return self.comparator.is_upper_bound and self.value <= self.low

    @property
    def ratio_to_upper_limit(self) -> float | None:
        """Value ÷ upper reference limit, comparable across methods and ages.

        A bound counts as its value where that puts it on the right side of the limit, and is
        unknown otherwise: below 5 with a limit of 10 is normal, below 50 may be anything.
        """
        if not self.high:
            return None
        ratio = self.value / self.high
        if self.comparator is None:
            return ratio
        settled = ratio <= 1.0 if self.comparator.is_upper_bound else ratio >= 1.0
        return ratio if settled else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabPanel:
    """The newest understood result of each analyte, and what could not be understood.

    `considered` names every Observation that was understood, also those that a newer one
    replaced; `outside_window` counts those taken too long before or after the images.
    """

    results: tuple[LabResult, ...]
    not_understood: tuple[str, ...] = ()
    considered: tuple[str, ...] = ()
    outside_window: int = 0

    @property
    def weighed(self) -> tuple[LabResult, ...]:
        """The results that the networks know."""
        return tuple(r for r in self.results if r.analyte in WEIGHED)

    @property
    def abnormal(self) -> tuple[LabResult, ...]:
        """The weighed results outside their own reference range."""
        return tuple(r for r in self.weighed if r.is_high or r.is_low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Who words blood markers: a template, or a language model.

    `version` is that of the template, or the SHA-256 over the files of the language model.
    """

    name: str
    version: str
    is_language_model: bool

    def __str__(self) -> str:
        """The writer as reports name it."""
        if self.is_language_model:
            return f"the language model {self.name} (SHA-256 {self.version})"
        return f"{self.name} {self.version}"

    @property
    def key(self) -> str:
        """SHA-256 over all of it: the same writer, one key."""
        return hashlib.sha256(str(self).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class BloodText:
    """The abnormal blood markers in words, as the networks read them, and who wrote them.

    `note` says why a language model that was asked did not write it; else it is empty.
    """

    text: str
    writer: Writer
    note: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 over text, writer and note: the same words, one key."""
        parts = [self.text, self.writer.key, self.note]
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
