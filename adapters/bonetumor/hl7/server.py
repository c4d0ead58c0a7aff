"""The EHR as the place where reports go: the ReportServer port over HL7 v2 and MLLP.

The acknowledgement is all the confirmation that HL7 v2 has: `send` returns only after AA or CA.
"""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bonetumor.domain.errors import Hl7Unavailable, Rejected
from bonetumor.hl7.message import acknowledgement, control_id, observation_result
from bonetumor.service.ports import Result

_START, _END = b"\x0b", b"\x1c\x0d"
_MAX_ANSWER = 1024 * 1024
_ACCEPTED = {"AA", "CA"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MllpAddress:
    """Where the interface engine listens."""

    host: str
    port: int
    facility: str
    timeout_s: float


class Hl7ReportServer:
    """Sends ORU^R01 messages to one interface engine."""

    def __init__(self, address: MllpAddress, page: Callable[[Result], bytes]) -> None:
        self._address = address
        self._page = page

    def send(self, result: Result) -> None:
        """Sends the message and waits for its acknowledgement.

        Raises:
            Hl7Unavailable: no acknowledgement in time, or one of an application error (AE).
            Rejected: the engine refuses the message (AR).
        """
        message = observation_result(result, self._address.facility, self._page(result))
        code, about = acknowledgement(self._exchange(message))
        if code in _ACCEPTED and about == control_id(result):
            return
        if code in {"AR", "CR"}:
            raise Rejected(f"HL7: expected AA, got {code}")
        raise Hl7Unavailable(
            f"HL7: expected AA for {control_id(result)}, got {code or 'no acknowledgement'}"
        )

    def holds(self, result: Result) -> bool:  # noqa: ARG002 - as in the port
        """True: a message that was not acknowledged has not been sent."""
        return True

    def withdraw(self, runs: Sequence[str]) -> int:
        """HL7 v2 has no way that every engine understands."""
        raise Rejected(f"withdraw: expected a FHIR server for run {runs[0][:16]}, got HL7 v2")

    def _exchange(self, message: bytes) -> bytes:
        address = (self._address.host, self._address.port)
        ends = time.monotonic() + self._address.timeout_s
        try:
            with socket.create_connection(address, self._address.timeout_s) as connection:
                connection.sendall(_START + message + _END)
                answer = bytearray()
                while not answer.endswith(_END) and len(answer) < _MAX_ANSWER:
                    connection.settimeout(max(0.01, ends - time.monotonic()))
                    part = connection.recv(65536)
                    if not part:
                        break
                    answer += part
                return bytes(answer).strip(_START + _END)
        except OSError as error:
            raise Hl7Unavailable(
                f"HL7: expected an acknowledgement, got {type(error).__name__}"
            ) from error
