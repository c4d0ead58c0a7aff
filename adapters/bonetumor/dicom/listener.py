"""The DICOM listener: accepts connections, keeps hostile ones cheap, serves the rest."""

import socket
import ssl
import threading
from collections import Counter
from dataclasses import dataclass

import structlog

from bonetumor.dicom.association import Association
from bonetumor.dicom.negotiation import (
    Peer,
    Policy,
    Refusal,
    congestion,
    negotiate,
    storage_contexts,
)
from bonetumor.dicom.normalized import NormalizedServices
from bonetumor.dicom.upper_layer import Deadlines, Wire
from bonetumor.domain.errors import BoneTumorError, Misconfigured, Unavailable
from bonetumor.service.intake import Intake

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many connections are served at once, in all and from one address."""

    associations: int
    associations_per_peer: int


class Listener:
    """A Storage SCP (PS3.4 B) on one port. `start`, then `stop`."""

    def __init__(
        self,
        *,
        address: tuple[str, int],
        policy: Policy,
        deadlines: Deadlines,
        limits: Limits,
        intake: Intake,
        told: NormalizedServices | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._address = address
        self._policy = policy
        self._deadlines = deadlines
        self._limits = limits
        self._intake = intake
        self._told = told
        self._tls = tls
        self._supported = storage_contexts()
        self._peers: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._socket is None:
            raise Misconfigured("listener: expected to be started, got no socket")
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Binds the port and accepts in a thread of its own."""
        try:
            self._socket = socket.create_server(self._address, backlog=256)
        except OSError as error:
            raise Misconfigured(
                f"listener: expected to bind {self._address[0]}:{self._address[1]}, "
                f"got {error.strerror}"
            ) from error
        threading.Thread(
            target=self._accept, args=(self._socket,), name="accept", daemon=True
        ).start()

    def stop(self) -> None:
        """Accepts no more; associations that run are left to end."""
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, address = listening.accept()
            except OSError:
                return  # closed by stop()
            peer = str(address[0])
            if not self._admit(peer):
                _close(connection, congestion())
                _log.warning("association refused: too many at once", peer=peer)
                continue
            threading.Thread(target=self._serve, args=(connection, peer), daemon=True).start()

    def _admit(self, peer: str) -> bool:
        with self._lock:
            full = self._peers.total() >= self._limits.associations
            if full or self._peers[peer] >= self._limits.associations_per_peer:
                return False
            self._peers[peer] += 1
            return True

    def _serve(self, connection: socket.socket, peer: str) -> None:
        try:
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._secure(connection) as secured:
                    self._talk(secured, peer)
        except OSError as error:
            _log.warning(
                "connection lost", peer=peer, reason=error.strerror or type(error).__name__
            )
        finally:
            with self._lock:
                self._peers[peer] -= 1
                if not self._peers[peer]:
                    del self._peers[peer]

    def _secure(self, connection: socket.socket) -> socket.socket:
        if self._tls is None:
            return connection
        connection.settimeout(self._deadlines.associate_s)
        return self._tls.wrap_socket(connection, server_side=True)

    def _talk(self, connection: socket.socket, peer: str) -> None:
        wire = Wire(connection, max_pdu_bytes=self._policy.max_pdu_bytes, deadlines=self._deadlines)
        try:
            agreed = negotiate(wire.read_associate(), self._policy, self._supported)
            if isinstance(agreed, Peer) and agreed.may_store and not self._intake.has_room():
                agreed = Refusal(reason="disk: expected room, got little", answer=congestion())
            wire.send(agreed.answer)
            if isinstance(agreed, Refusal):
                _log.warning("association refused", peer=peer, reason=agreed.reason)
                return
            association = Association(wire, agreed, self._intake, self._told)
            association.serve()
            _log.info(
                "association ended",
                calling_ae_title=agreed.calling_ae_title,
                stored=association.stored,
            )
        except Unavailable as error:
            _log.warning("association lost", peer=peer, error=error.code, reason=str(error))
            wire.abort()
        except BoneTumorError as error:
            _log.warning("association aborted", peer=peer, error=error.code, reason=str(error))
            wire.abort()


def _close(connection: socket.socket, last_word: bytes) -> None:
    with connection:
        connection.settimeout(1.0)
        try:
            connection.sendall(last_word)
        except OSError:
            return  # it did not wait for our answer
