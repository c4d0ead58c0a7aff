"""Laboratory Observations, read one by one: what is not understood is named, not dropped."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.labs import Analyte, LabPanel, LabResult
from bonetumor.domain.study import PatientIdentity
from bonetumor.fhir.analytes import READINGS, Catalogue, build_catalogue
from bonetumor.fhir.moments import read_moment
from bonetumor.fhir.quantity import read_value
from bonetumor.fhir.ranges import person_at, read_range
from bonetumor.fhir.shapes import Resource
from bonetumor.fhir.specimens import spoils

_RANK = {"corrected": 3, "amended": 2, "final": 1, "preliminary": 0}
_VOID = {"entered-in-error", "cancelled", "registered"}
_FLAGS = {"H": "H", "HH": "H", "HU": "H", "L": "L", "LL": "L", "LU": "L", "N": "N"}
_BROKEN = (AttributeError, TypeError, KeyError, IndexError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabWindow:
    """Which results count: so long before and after the images."""

    before: timedelta
    after: timedelta

    def covers(self, taken_at: datetime | None, around: datetime | None) -> bool:
        """Whether a result belongs to the images; unknown images rule nothing out."""
        if taken_at is None or around is None:
            return True
        return around - self.before <= taken_at <= around + self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class LabContext:
    """Whose blood it is, when the images were taken, and how this site writes."""

    window: LabWindow
    around: datetime | None = None
    identity: PatientIdentity | None = None
    catalogue: Catalogue = field(default_factory=build_catalogue)


def read_panel(
    observations: Iterable[Resource],
    context: LabContext,
    specimens: Mapping[str, Resource] | None = None,
) -> LabPanel:
    """A panel from Observations of one patient, and the Specimens that they name."""
    reader = _PanelReader(context, specimens or {})
    for observation in observations:
        reader.add(observation)
    return reader.panel()


def read_resources(content: object, catalogue: Catalogue) -> LabPanel:
    """What would be understood of an Observation or of a Bundle, at any time and of anybody."""
    entries = content.get("entry") if isinstance(content, dict) else None
    found = [e.get("resource") for e in entries or [{"resource": content}] if isinstance(e, dict)]
    resources = [r for r in found if isinstance(r, dict)]
    specimens = {
        f"Specimen/{r.get('id')}": r for r in resources if r.get("resourceType") == "Specimen"
    }
    forever = timedelta(days=365_000)
    context = LabContext(window=LabWindow(before=forever, after=forever), catalogue=catalogue)
    observations = [r for r in resources if r.get("resourceType") == "Observation"]
    return read_panel(observations, context, specimens)


def analytes_in(
    observation: Resource, catalogue: Catalogue
) -> Iterator[tuple[Analyte | None, Resource]]:
    """Each item of ours in the Observation or its components.

    None stands for an item whose codings name two of our analytes.
    """
    for item in (observation, *(observation.get("component") or [])):
        codings = (item.get("code") or {}).get("coding") or []
        found = {catalogue.analyte(c.get("system"), c.get("code")) for c in codings} - {None}
        if found:
            yield (found.pop() if len(found) == 1 else None), item


class _PanelReader:
    def __init__(self, context: LabContext, specimens: Mapping[str, Resource]) -> None:
        self._context = context
        self._specimens = specimens
        self._newest: dict[Analyte, tuple[tuple[datetime, int, str], LabResult]] = {}
        self._problems: list[str] = []
        self._considered: list[str] = []
        self._outside = 0

    def add(self, observation: Resource) -> None:
        """Reads one Observation; whatever is wrong with it is noted and harms no other."""
        source = f"Observation/{observation.get('id', '?')}"
        try:
            if observation.get("status") in _VOID:
                return
            for analyte, item in list(analytes_in(observation, self._context.catalogue)):
                self._add_item(analyte, item, observation, source)
        except _BROKEN as error:
            self._problems.append(
                f"{source}: expected a FHIR R4 Observation, got {type(error).__name__}"
            )

    def panel(self) -> LabPanel:
        """The newest of each analyte; of one moment, the correction."""
        return LabPanel(
            results=tuple(self._newest[a][1] for a in Analyte if a in self._newest),
            not_understood=tuple(self._problems),
            considered=tuple(dict.fromkeys(self._considered)),
            outside_window=self._outside,
        )

    def _add_item(
        self, analyte: Analyte | None, item: Resource, observation: Resource, source: str
    ) -> None:
        try:
            if analyte is None:
                raise InvalidInput("expected codes of one analyte, got codes of several")
            result = self._read(analyte, item, observation, source)
        except InvalidInput as error:
            self._problems.append(f"{source} ({analyte or 'code'}): {error}")
            return
        if not self._context.window.covers(result.taken_at, self._context.around):
            self._outside += 1
            return
        self._considered.append(source)
        moment = result.taken_at or datetime.min.replace(tzinfo=UTC)
        rank = (moment, _RANK[observation["status"]], source)
        if analyte not in self._newest or rank > self._newest[analyte][0]:
            self._newest[analyte] = (rank, result)

    def _read(
        self, analyte: Analyte, item: Resource, observation: Resource, source: str
    ) -> LabResult:
        if observation.get("status") not in _RANK:
            raise InvalidInput(
                f"expected status {', '.join(_RANK)}, got {observation.get('status') or 'none'}"
            )
        reason = spoils(analyte, observation, item, self._specimens)
        if reason:
            raise InvalidInput(reason)
        reading, units = READINGS[analyte], self._context.catalogue.units
        measured = read_value(item, reading, units)
        taken_at = read_moment(observation)
        if taken_at is None and self._context.around is not None:
            raise InvalidInput("expected the time it was taken, got none")
        low, high = read_range(item, reading, units, person_at(self._context.identity, taken_at))
        return LabResult(
            analyte=analyte,
            value=measured.value,
            unit=reading.unit,
            low=low,
            high=high,
            taken_at=taken_at,
            source=source,
            comparator=measured.comparator,
            flag=_flag(item),
        )


def _flag(item: Resource) -> str | None:
    """The laboratory's own H, L or N; none where it says several."""
    codings = [c for i in item.get("interpretation") or [] for c in i.get("coding") or []]
    found = {_FLAGS[c["code"]] for c in codings if c.get("code") in _FLAGS}
    return found.pop() if len(found) == 1 else None
