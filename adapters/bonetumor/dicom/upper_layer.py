"""Protocol data units over a socket, with a cap on size and a deadline on time (PS3.8 9.3).

A peer that sends one byte a second, or announces four gigabytes, gets no thread and no memory
for longer than the limits say.
"""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from bonetumor.domain.errors import InvalidInput, Unavailable

_HEADER = struct.Struct(">BBL")
_PDV = struct.Struct(">LBB")
_MAX_ASSOCIATE_BYTES = 1024 * 1024
_AHEAD_BYTES = 64 * 1024
_TURN_S = 1.0


class PduType(IntEnum):
    """PDU type, first byte."""

    ASSOCIATE_RQ = 0x01
    P_DATA = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


class PeerGone(Unavailable):
    """The peer closed the connection."""


class PeerTooSlow(Unavailable):
    """The peer did not finish a PDU, or sent none, in time."""


class ProtocolViolation(InvalidInput):
    """The peer sent what PS3.8 does not allow, or more than we take."""


class Fragment(NamedTuple):
    """One presentation data value (PS3.8 9.3.5.1). `data` is valid until the next read."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds: for the association request, for a whole PDU, between PDUs."""

    associate_s: float
    pdu_s: float
    idle_s: float


class Wire:
    """One peer's socket. Use from one thread.

    What the system has is read in one go and waits here: header, command and data set come
    together more often than not, and each question to the system costs a turn at the interpreter.
    """

    def __init__(self, sock: socket.socket, *, max_pdu_bytes: int, deadlines: Deadlines) -> None:
        self._socket = sock
        self._max_pdu_bytes = max_pdu_bytes
        self._deadlines = deadlines
        self._buffer = memoryview(bytearray(_HEADER.size + max_pdu_bytes + _AHEAD_BYTES))
        self._start = self._end = 0  # what was read and not yet given
        self._turn_s = 0.0  # not told yet

    def read_associate(self) -> bytes:
        """The whole A-ASSOCIATE-RQ, header included."""
        deadline = time.monotonic() + self._deadlines.associate_s
        header = bytes(self._take(_HEADER.size, deadline))
        kind, _, length = _HEADER.unpack(header)
        if kind != PduType.ASSOCIATE_RQ or length > _MAX_ASSOCIATE_BYTES:
            raise ProtocolViolation(
                f"PDU: expected an A-ASSOCIATE-RQ of at most {_MAX_ASSOCIATE_BYTES} bytes, "
                f"got type {kind} of {length} bytes"
            )
        body = b""
        while len(body) < length:
            body += self._take(min(length - len(body), self._max_pdu_bytes), deadline)
        return header + body

    def read(self) -> tuple[int, memoryview]:
        """The next PDU: its type and its body, which is valid until the next read."""
        if self._start == self._end:
            self._more(time.monotonic() + self._deadlines.idle_s)
        deadline = time.monotonic() + self._deadlines.pdu_s
        kind, _, length = _HEADER.unpack(self._take(_HEADER.size, deadline))
        if length > self._max_pdu_bytes:
            raise ProtocolViolation(
                f"PDU: expected at most {self._max_pdu_bytes} bytes, got {length}"
            )
        return kind, self._take(length, deadline)

    def send(self, data: bytes) -> None:
        """Sends all of `data` within the deadline for a PDU."""
        deadline = time.monotonic() + self._deadlines.pdu_s
        rest = memoryview(data)
        while rest:
            rest = rest[self._turn(deadline, self._socket.send, rest) :]

    def send_command(self, context_id: int, command: bytes, max_peer_bytes: int) -> None:
        """Sends a command set as P-DATA, in pieces the peer takes."""
        room = max(1, max_peer_bytes - _PDV.size) if max_peer_bytes else len(command)
        for start in range(0, len(command), room):
            piece = command[start : start + room]
            control = 0x01 | (0x02 if start + room >= len(command) else 0)
            value = _PDV.pack(len(piece) + 2, context_id, control) + piece
            self.send(_HEADER.pack(PduType.P_DATA, 0, len(value)) + value)

    def abort(self) -> None:
        """A-ABORT from the service provider, if the peer still listens (PS3.8 9.3.8)."""
        self._last_word(_HEADER.pack(PduType.ABORT, 0, 4) + b"\0\0\x02\0")

    def release(self) -> None:
        """A-RELEASE-RP."""
        self._last_word(_HEADER.pack(PduType.RELEASE_RP, 0, 4) + b"\0\0\0\0")

    def _last_word(self, data: bytes) -> None:
        try:
            self.send(data)
        except Unavailable:
            return  # the peer is gone, which is what we were about to tell it

    def _take(self, count: int, deadline: float) -> memoryview:
        """The next `count` bytes, at most a header and a PDU, valid until the next read."""
        if self._start + count > len(self._buffer):
            held = self._end - self._start
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start, self._end = 0, held
        while self._end - self._start < count:
            self._more(deadline)
        start, self._start = self._start, self._start + count
        return self._buffer[start : self._start]

    def _more(self, deadline: float) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        count = self._turn(deadline, self._socket.recv_into, self._buffer[self._end :])
        if count == 0:
            raise PeerGone("peer: expected a release, got the end of the connection")
        self._end += count

    def _turn(self, deadline: float, action: Callable[[memoryview], int], data: memoryview) -> int:
        """What a call of the socket answers, repeated until the deadline."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise PeerTooSlow("peer: expected it to send or read a PDU in time, got silence")
            # Telling the socket costs as much as reading: all turns but the last are alike.
            if (turn := min(left, _TURN_S)) != self._turn_s:
                self._socket.settimeout(turn)
                self._turn_s = turn
            try:
                return action(data)
            except TimeoutError:
                continue
            except OSError as error:
                raise PeerGone(
                    f"peer: expected an open connection, got {error.strerror}"
                ) from error


def fragments(body: memoryview) -> Iterator[Fragment]:
    """The presentation data values of a P-DATA body, in order."""
    offset = 0
    while offset < len(body):
        if offset + _PDV.size > len(body):
            raise ProtocolViolation("P-DATA: expected a whole PDV, got a part")
        length, context_id, control = _PDV.unpack_from(body, offset)
        end = offset + 4 + length
        if length < 2 or end > len(body):
            raise ProtocolViolation(f"P-DATA: expected a PDV inside the PDU, got {length} bytes")
        yield Fragment(context_id, bool(control & 1), bool(control & 2), body[offset + 6 : end])
        offset = end
