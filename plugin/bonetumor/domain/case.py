"""Everything known of a patient's study when it is assessed."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from bonetumor.domain.labs import LabPanel
from bonetumor.domain.pathology import Pathology

_PROBLEMS_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the EHR gave. None means that it holds nothing: a clinical fact, not a failure.

    `patient` is the FHIR reference of the matched Patient; None where no EHR is configured.
    `chosen_by_a_person` says that people, not identifiers, decided who the patient is.
    """

    patient: str | None
    labs: LabPanel | None
    pathology: Pathology | None
    order: str | None = None
    chosen_by_a_person: bool = False

    @property
    def has_labs(self) -> bool:
        """Whether there is blood that the networks can weigh."""
        return self.labs is not None and bool(self.labs.weighed)

    @property
    def has_slides(self) -> bool:
        """Whether there is pathology that the networks can weigh."""
        return self.pathology is not None and bool(self.pathology.slides)

    @property
    def digest(self) -> str:
        """SHA-256 over the patient and all that is weighed or shown: the same evidence, one key."""
        parts = [str(self.patient)]
        parts += [
            f"{lab.source}={lab.comparator or ''}{lab.value}{lab.unit}"
            f" {lab.low} {lab.high} {lab.flag}"
            for lab in (self.labs.results if self.labs else ())
        ]
        parts += [
            f"{slide.source}={hashlib.sha256(slide.data).hexdigest()}"
            for slide in (self.pathology.slides if self.pathology else ())
        ]
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def why_superseded(earlier: Evidence, now: Evidence) -> str | None:
    """What makes a result from earlier evidence out of date; None if nothing does.

    Another patient behind the same identifiers; evidence that was missing and has come; evidence
    that was used and has since been corrected or withdrawn. A newer value of the same marker is no
    reason: it is another day's blood.
    """
    if now.patient != earlier.patient:
        return "the EHR has another patient behind the identifiers now"
    if now.has_labs and not earlier.has_labs:
        return "blood markers arrived"
    if now.has_slides and not earlier.has_slides:
        return "pathology arrived"
    if earlier.labs is None:
        return None
    values = {r.source: r.value for r in (now.labs.results if now.labs else ())}
    still_there = set(now.labs.considered) if now.labs else set()
    for used in earlier.labs.weighed:
        if used.source not in still_there or values.get(used.source, used.value) != used.value:
            return "a blood marker that was used has been corrected or withdrawn"
    return None


def describe_evidence(evidence: Evidence, acquired_at: datetime | None) -> tuple[str, ...]:
    """What was used of the EHR, how old it was, and what could not be: one sentence each."""
    said = []
    if evidence.chosen_by_a_person:
        said.append("the patient was chosen by a person, not matched by identifiers")
    if evidence.labs is not None:
        said += _describe_labs(evidence.labs, acquired_at)
    if evidence.pathology is not None:
        reports, slides = len(evidence.pathology.reports), len(evidence.pathology.slides)
        said.append(f"pathology: {reports} reports, {slides} slides with a picture")
        said += _describe_problems(evidence.pathology.not_understood)
    return tuple(said)


def _describe_labs(labs: LabPanel, acquired_at: datetime | None) -> list[str]:
    said = []
    taken = sorted(r.taken_at for r in labs.weighed if r.taken_at)
    if taken and acquired_at:
        first, last = (
            round((m - acquired_at).total_seconds() / 86400) for m in (taken[0], taken[-1])
        )
        span = f"{first:+d}" if first == last else f"{first:+d} to {last:+d}"
        day = "on the day of" if first == last == 0 else f"{span} days from"
        said.append(f"blood taken {day} the images")
    shown = [r.analyte for r in labs.results if r not in labs.weighed]
    if shown:
        said.append(f"blood read and not weighed: {', '.join(shown)}")
    if labs.outside_window:
        said.append(f"{labs.outside_window} blood markers too old or too new to be used")
    return [*said, *_describe_problems(labs.not_understood)]


def _describe_problems(problems: tuple[str, ...]) -> list[str]:
    """The first problems in full: a reader of the report needs to know that there are more."""
    said = [f"not understood: {problem}" for problem in problems[:_PROBLEMS_SHOWN]]
    more = len(problems) - len(said)
    return [*said, f"not understood: {more} more"] if more else said
