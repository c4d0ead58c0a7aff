"""What a FHIR search asks of the read API (R4 3.1.1.4)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from bonetumor.domain.errors import InvalidInput
from bonetumor.service.shelf import ReportQuery

_MAX_COUNT = 200
_COUNT = 50
_PARAMETERS = (
    "_id", "patient", "subject", "patient.identifier", "identifier", "date", "category", "code",
    "_count", "_offset",
)  # fmt: skip
_REPEATED = frozenset({"date", "category", "code"})  # each of them must fit
_ALTERNATIVES = frozenset({"_id", "category", "code"})  # one of several with commas is enough


class Criteria:
    """Parameters by name.

    Raises:
        InvalidInput: one that is not known, that is empty, or that stands where only one value is
            understood with several. Passing over it would give more than was asked for.
    """

    def __init__(self, said: Iterable[tuple[str, str]]) -> None:
        values: dict[str, list[str]] = defaultdict(list)
        for name, value in said:
            if name not in _PARAMETERS:
                raise InvalidInput(f"expected parameters {', '.join(_PARAMETERS)}, got {name}")
            if not value:
                raise InvalidInput(f"{name}: expected a value, got none")
            if name in values and name not in _REPEATED:
                raise InvalidInput(f"{name}: expected it once, got it again")
            if "," in value and name not in _ALTERNATIVES:
                raise InvalidInput(f"{name}: expected one value, got several")
            values[name].append(value)
        self._values: Mapping[str, list[str]] = dict(values)

    def query(self) -> ReportQuery:
        """What the shelf is asked; raises InvalidInput for what is no date or no number."""
        patient = self._one("patient") or self._one("subject")
        identifier, of_patient = self._one("identifier"), self._one("patient.identifier") or ""
        system, _, patient_id = of_patient.rpartition("|")
        spans = [_span(text) for text in self._values.get("date", ())]
        return ReportQuery(
            patient=f"Patient/{patient.rpartition('/')[2]}" if patient else None,
            patient_id=patient_id or None,
            patient_system=system or None,
            identifier=identifier.rpartition("|")[2] if identifier else None,
            acquired_from=max((first for first, _ in spans if first), default=None),
            acquired_until=min((until for _, until in spans if until), default=None),
            # 0 asks for the number of reports alone, which is not counted here.
            limit=min(self._number("_count", _COUNT), _MAX_COUNT) or _COUNT,
            offset=self._number("_offset", 0),
        )

    def fit(self, resource: Mapping[str, Any]) -> bool:
        """What the shelf does not know of a resource: its id, its category and its code."""
        wanted = self._one("_id")
        if wanted is not None and resource["id"] not in wanted.split(","):
            return False
        return all(
            any(_has_code(resource.get(name), one) for one in several.split(","))
            for name in ("category", "code")
            for several in self._values.get(name, ())
        )

    def following(self) -> str:
        """The query string of the next page."""
        query = self.query()
        pages = {**self._values, "_offset": [str(query.offset + query.limit)]}
        return urlencode(pages, doseq=True)

    def _one(self, name: str) -> str | None:
        return next(iter(self._values.get(name, ())), None)

    def _number(self, name: str, default: int) -> int:
        text = self._one(name) or str(default)
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise InvalidInput(f"{name}: expected a number, got something else")
        return int(text)


def _span(text: str) -> tuple[datetime | None, datetime | None]:
    """From and until of a date parameter with its prefix (R4 3.1.1.4.7)."""
    prefix, date = (text[:2], text[2:]) if text[:2].isalpha() else ("eq", text)
    try:
        first, until = _period(date)
    except (ValueError, OverflowError) as error:
        raise InvalidInput("date: expected a FHIR date, got what is none") from error
    spans = {
        "eq": (first, until),
        "ge": (first, None),
        "gt": (until, None),
        "le": (None, until),
        "lt": (None, first),
    }
    if prefix not in spans:
        raise InvalidInput(f"date: expected one of {', '.join(spans)}, got {prefix}")
    return spans[prefix]


def _period(text: str) -> tuple[datetime, datetime]:
    """The moments, in UTC, that a date of any precision stands for."""
    if len(text) == 4:
        return datetime(int(text), 1, 1, tzinfo=UTC), datetime(int(text) + 1, 1, 1, tzinfo=UTC)
    if len(text) == 7:
        first = datetime.fromisoformat(f"{text}-01").replace(tzinfo=UTC)
        return first, (first + timedelta(days=32)).replace(day=1)
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment, moment + (timedelta(days=1) if len(text) == 10 else timedelta(seconds=1))


def _has_code(concepts: Any, wanted: str) -> bool:
    listed = concepts if isinstance(concepts, list) else [concepts or {}]
    system, bar, code = wanted.rpartition("|")
    return any(
        c.get("code") == code and (not bar or c.get("system") == system)
        for concept in listed
        for c in concept.get("coding") or []
    )
