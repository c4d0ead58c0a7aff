"""Laboratory Observations, read one by one: what is not understood is named, not dropped."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.labs import Analyte, LabPanel, LabResult
from bonetumor.fhir.analytes import BY_LOINC, READINGS, UNIT_ALIASES
from bonetumor.fhir.client import FhirClient, Resource

LOINC = "http://loinc.org"
_VALID_STATUSES = {"corrected": 0, "amended": 1, "final": 2, "preliminary": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabWindow:
    """Which results count: so long before and after the images."""

    before: timedelta
    after: timedelta

    def covers(self, taken_at: datetime | None, around: datetime | None) -> bool:
        """Whether a result belongs to the images. An unknown moment cannot be ruled out."""
        if taken_at is None or around is None:
            return True
        return around - self.before <= taken_at <= around + self.after


def read_labs(
    client: FhirClient, patient: str, around: datetime | None, window: LabWindow
) -> LabPanel | None:
    """The newest understood result of each analyte in the window; None if there are none at all."""
    found = client.search(
        "Observation", {"patient": patient.split("/")[1], "category": "laboratory"}
    )
    mine = [o for o in found if o.get("subject", {}).get("reference", "").endswith(patient)]
    panel = read_panel(mine, around, window)
    return panel if panel.results or panel.not_understood else None


def read_panel(
    observations: Iterable[Resource], around: datetime | None, window: LabWindow
) -> LabPanel:
    """A panel from Observations of one patient."""
    newest: dict[Analyte, tuple[tuple[datetime, int], LabResult]] = {}
    problems = []
    for observation in observations:
        if observation.get("status") not in _VALID_STATUSES:
            continue
        source = f"Observation/{observation.get('id', '?')}"
        for analyte, item in _analytes(observation):
            try:
                result = _read(analyte, item, observation, source)
            except InvalidInput as error:
                problems.append(f"{source} ({analyte}): {error}")
                continue
            if not window.covers(result.taken_at, around):
                continue
            rank = (
                result.taken_at or datetime.min.replace(tzinfo=UTC),
                -_VALID_STATUSES[observation["status"]],
            )
            if analyte not in newest or rank > newest[analyte][0]:
                newest[analyte] = (rank, result)
    results = tuple(newest[a][1] for a in Analyte if a in newest)
    return LabPanel(results=results, not_understood=tuple(problems))


def _analytes(observation: Resource) -> Iterator[tuple[Analyte, Resource]]:
    """Each known analyte in the Observation itself or in its components."""
    for item in (observation, *(observation.get("component") or [])):
        for coding in item.get("code", {}).get("coding") or []:
            if coding.get("system") == LOINC and coding.get("code") in BY_LOINC:
                yield BY_LOINC[coding["code"]], item
                break


def _read(analyte: Analyte, item: Resource, observation: Resource, source: str) -> LabResult:
    if observation.get("modifierExtension") or item.get("modifierExtension"):
        raise InvalidInput("expected no modifier, got one that may change the meaning")
    quantity = item.get("valueQuantity")
    if not isinstance(quantity, dict) or not isinstance(quantity.get("value"), (int, float)):
        raise InvalidInput("expected a numeric valueQuantity, got none")
    if quantity.get("comparator"):
        raise InvalidInput(f"expected an exact value, got comparator {quantity['comparator']}")
    reading = READINGS[analyte]
    factor = _factor(analyte, quantity)
    low, high = _range(item, analyte)
    return LabResult(
        analyte=analyte,
        value=float(quantity["value"]) * factor,
        unit=reading.unit,
        low=low,
        high=high,
        taken_at=_moment(observation),
        source=source,
    )


def _factor(analyte: Analyte, quantity: Resource) -> float:
    unit = str(quantity.get("code") or quantity.get("unit") or "")
    unit = UNIT_ALIASES.get(unit, unit)
    factor = READINGS[analyte].factors.get(unit)
    if factor is None:
        raise InvalidInput(
            f"expected one of {', '.join(READINGS[analyte].factors)}, got {unit or 'no unit'}"
        )
    return factor


def _range(item: Resource, analyte: Analyte) -> tuple[float | None, float | None]:
    """The first range that is for everyone, in the canonical unit."""
    for candidate in item.get("referenceRange") or []:
        if candidate.get("appliesTo") or candidate.get("age"):
            continue
        limits = []
        for side in ("low", "high"):
            limit = candidate.get(side)
            known = isinstance(limit, dict) and isinstance(limit.get("value"), (int, float))
            limits.append(float(limit["value"]) * _factor(analyte, limit) if known else None)
        return limits[0], limits[1]
    return None, None


def _moment(observation: Resource) -> datetime | None:
    text = observation.get("effectiveDateTime") or observation.get("effectivePeriod", {}).get(
        "start"
    )
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError as error:
        raise InvalidInput("expected an effective date, got what is none") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
