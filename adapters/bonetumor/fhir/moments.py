"""FHIR dates and times, which may be partial (R4 2.24.0.1)."""

from datetime import UTC, datetime

from bonetumor.domain.errors import InvalidInput
from bonetumor.fhir.shapes import Resource


def read_moment(resource: Resource) -> datetime | None:
    """When what the resource says was so: effective, else issued; None where neither is given.

    Raises:
        InvalidInput: something that is no date stands there.
    """
    period = resource.get("effectivePeriod") or {}
    text = (
        resource.get("effectiveDateTime")
        or resource.get("effectiveInstant")
        or period.get("start")
        or period.get("end")
        or resource.get("issued")
    )
    return parse_moment(str(text)) if text else None


def parse_moment(text: str) -> datetime:
    """A dateTime of any precision; a year or a month stands for its first day, in UTC.

    Raises:
        InvalidInput: no FHIR date.
    """
    padded = {4: f"{text}-01-01", 7: f"{text}-01"}.get(len(text), text)
    try:
        moment = datetime.fromisoformat(padded.replace("Z", "+00:00"))
    except ValueError as error:
        raise InvalidInput("expected an effective date, got what is none") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
