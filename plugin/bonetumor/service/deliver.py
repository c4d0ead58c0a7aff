"""Delivering: results go out, and are only called delivered once the other side confirms."""

from collections.abc import Callable

from bonetumor.domain.errors import FhirUnavailable, InvalidInput
from bonetumor.service.ports import Parcel, ReportServer, Result


class ReportDestination:
    """The EHR as a destination: the report goes to its server and is read back."""

    def __init__(self, server: ReportServer) -> None:
        self._server = server

    def send(self, parcel: Parcel) -> str:
        """Posts the report."""
        result = _result(parcel)
        self._server.send(result)
        return f"report of run {result.assessment.run_key[:16]}"

    def confirm(self, parcel: Parcel) -> str:
        """Asks for the report; raises FhirUnavailable while it is not shown."""
        result = _result(parcel)
        run = result.assessment.run_key[:16]
        if not self._server.holds(result):
            raise FhirUnavailable(f"EHR: expected a report of run {run}, got an answer without it")
        return f"the EHR answers that it holds the report of run {run}"


class ShelfDestination:
    """Our own shelf, from which EHRs that cannot be written to read."""

    def __init__(self, shelve: Callable[[Result], None]) -> None:
        self._shelve = shelve

    def send(self, parcel: Parcel) -> str:
        """Puts the report on the shelf."""
        result = _result(parcel)
        self._shelve(result)
        return f"report of run {result.assessment.run_key[:16]}"

    def confirm(self, parcel: Parcel) -> str:
        """The shelf is the ledger: what was put there is there."""
        return f"the report of run {_result(parcel).assessment.run_key[:16]} can be read from us"


def _result(parcel: Parcel) -> Result:
    if not isinstance(parcel, Result):
        raise InvalidInput("destination: expected a result, got a notice")
    return parcel
