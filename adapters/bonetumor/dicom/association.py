"""One association from the sender's first byte to its release.

One blocking loop per association: fragments go from the socket straight into the spool file,
without data set objects in between.
"""

from collections.abc import Callable

import structlog

from bonetumor.dicom.dimse import Command, CommandSet, Status, decode_command, encode_response
from bonetumor.dicom.negotiation import AcceptedContext, Peer
from bonetumor.dicom.normalized import NormalizedServices
from bonetumor.dicom.upper_layer import Fragment, PduType, ProtocolViolation, Wire, fragments
from bonetumor.domain.errors import (
    BoneTumorError,
    InvalidInput,
    NotDicom,
    ObjectMismatch,
    Unavailable,
)
from bonetumor.domain.uid import parse_uid
from bonetumor.service.intake import Intake
from bonetumor.service.ledger import Arrival
from bonetumor.service.ports import Announced, Incoming

_MAX_COMMAND_BYTES = 64 * 1024
_MAX_TOLD_BYTES = 16 * 1024**2
_TOLD = {Command.N_EVENT_REPORT_RQ, Command.N_CREATE_RQ, Command.N_SET_RQ}
# How much of refused objects is read, so that their sender hears the status, and not for ever.
_MAX_DRAINED_BYTES = 1024**3
_log = structlog.get_logger(__name__)


class Association:
    """Serves C-ECHO and C-STORE to one peer, and hears what it tells us by DIMSE-N."""

    def __init__(
        self, wire: Wire, peer: Peer, intake: Intake, told: NormalizedServices | None = None
    ) -> None:
        self._told = told
        self._words = bytearray()
        self._wire = wire
        self._peer = peer
        self._intake = intake
        self._command = bytearray()
        self._request: CommandSet | None = None
        self._incoming: Incoming | None = None
        self._refused: BoneTumorError | None = None
        self._drained = 0
        self.stored = 0

    def serve(self) -> None:
        """Runs until the peer releases or aborts; raises if it breaks the protocol."""
        try:
            while True:
                kind, body = self._wire.read()
                if kind == PduType.P_DATA:
                    for fragment in fragments(body):
                        self._take(fragment)
                elif kind == PduType.RELEASE_RQ:
                    self._wire.release()
                    return
                elif kind == PduType.ABORT:
                    return
                else:
                    raise ProtocolViolation(
                        f"PDU: expected P-DATA, release or abort, got type {kind}"
                    )
        finally:
            if self._incoming is not None:
                self._incoming.discard()

    def _take(self, fragment: Fragment) -> None:
        context = self._peer.contexts.get(fragment.context_id)
        if context is None:
            raise ProtocolViolation(
                f"PDV: expected an accepted presentation context, got {fragment.context_id}"
            )
        if fragment.is_command:
            self._take_command(fragment, context)
        else:
            self._take_data(fragment)

    def _take_command(self, fragment: Fragment, context: AcceptedContext) -> None:
        if self._request is not None:
            raise ProtocolViolation("PDV: expected the data set of the request, got a new command")
        self._command += fragment.data
        if len(self._command) > _MAX_COMMAND_BYTES:
            raise ProtocolViolation(
                f"command set: expected at most {_MAX_COMMAND_BYTES} bytes, got more"
            )
        if not fragment.is_last:
            return
        request = decode_command(bytes(self._command))
        self._command.clear()
        if request.field == Command.C_CANCEL_RQ:
            return
        if request.has_data_set:
            self._request = request
            self._open(request, context)
        elif request.field == Command.C_ECHO_RQ:
            self._answer(fragment.context_id, request, Status.SUCCESS)
        else:
            self._answer(fragment.context_id, request, Status.UNRECOGNIZED_OPERATION)

    def _open(self, request: CommandSet, context: AcceptedContext) -> None:
        """Prepares for the data set; what is wrong already is answered after it has come."""
        if request.field != Command.C_STORE_RQ:
            return
        try:
            announced = Announced(
                sop_class_uid=parse_uid(request.sop_class_uid, name="Affected SOP Class UID"),
                sop_instance_uid=parse_uid(
                    request.sop_instance_uid, name="Affected SOP Instance UID"
                ),
                transfer_syntax_uid=parse_uid(context.transfer_syntax),
                calling_ae_title=self._peer.calling_ae_title,
                called_ae_title=self._peer.called_ae_title,
            )
            if announced.sop_class_uid != context.abstract_syntax:
                raise ObjectMismatch(
                    f"Affected SOP Class UID: expected {context.abstract_syntax} of the "
                    f"presentation context, got {announced.sop_class_uid}"
                )
            self._incoming = self._intake.open(announced)
        except BoneTumorError as error:
            self._refused = error

    def _take_data(self, fragment: Fragment) -> None:
        if self._request is None:
            raise ProtocolViolation("PDV: expected a command, got a data set")
        if self._incoming is not None:
            self._guarded(lambda incoming: incoming.write(fragment.data))
        elif self._request.field in _TOLD:
            self._words += fragment.data
            if len(self._words) > _MAX_TOLD_BYTES:
                raise ProtocolViolation(
                    f"data set: expected at most {_MAX_TOLD_BYTES} bytes, got more"
                )
        else:
            self._drained += len(fragment.data)
            if self._drained > _MAX_DRAINED_BYTES:
                raise ProtocolViolation(
                    "data set: expected a refused object to end, got more of it"
                )
        if fragment.is_last and self._request.field in _TOLD:
            self._hear(fragment.context_id, self._request)
        elif fragment.is_last:
            self._finish(fragment.context_id, self._request)

    def _hear(self, context_id: int, request: CommandSet) -> None:
        status, comment = Status.UNRECOGNIZED_OPERATION, ""
        if self._told is not None:
            syntax = self._peer.contexts[context_id].transfer_syntax
            status, comment = self._told.take(request, bytes(self._words), syntax)
        self._words.clear()
        self._request = None
        self._answer(context_id, request, status, comment)

    def _finish(self, context_id: int, request: CommandSet) -> None:
        status, comment = Status.UNRECOGNIZED_OPERATION, ""
        if request.field == Command.C_STORE_RQ:
            if self._incoming is not None:
                self._guarded(self._keep)
            status, comment = _verdict(self._refused)
        if self._refused is not None:
            self._intake.refuse(
                self._peer.calling_ae_title, _printable(request.sop_instance_uid), self._refused
            )
            _log.warning(
                "instance refused",
                status=f"{status:04X}",
                error=self._refused.code,
                reason=str(self._refused),
                calling_ae_title=self._peer.calling_ae_title,
            )
        self.stored += status is Status.SUCCESS
        self._request = self._incoming = self._refused = None
        self._answer(context_id, request, status, comment)

    def _keep(self, incoming: Incoming) -> None:
        if self._intake.keep(incoming) is Arrival.CONFLICTING:
            raise ConflictingInstance(
                "instance: expected the bytes stored before under this UID, got others"
            )

    def _guarded(self, action: Callable[[Incoming], None]) -> None:
        assert self._incoming is not None  # noqa: S101 - both callers checked; mypy cannot see it
        try:
            action(self._incoming)
        except BoneTumorError as error:
            self._refused = error
            self._incoming.discard()
            self._incoming = None

    def _answer(
        self, context_id: int, request: CommandSet, status: Status, comment: str = ""
    ) -> None:
        self._wire.send_command(
            context_id, encode_response(request, status, comment), self._peer.max_pdu_bytes
        )


class ConflictingInstance(InvalidInput):
    """Other bytes under a SOP Instance UID that is stored already: the first stay."""


def _printable(uid: str) -> str:
    """What a peer called a UID, fit for a ledger: it may be anything."""
    return "".join(c if c.isprintable() else "?" for c in uid)[:64]


def _verdict(refused: BoneTumorError | None) -> tuple[Status, str]:
    """The status that a sender gets (PS3.4 B.2.3)."""
    match refused:
        case None:
            return Status.SUCCESS, ""
        case ObjectMismatch():
            return Status.DOES_NOT_MATCH_SOP_CLASS, str(refused)
        case ConflictingInstance():
            return Status.CONFLICTING_INSTANCE, str(refused)
        case NotDicom():
            return Status.CANNOT_UNDERSTAND, str(refused)
        case Unavailable():
            return Status.OUT_OF_RESOURCES, str(refused)
        case _:
            return Status.CANNOT_UNDERSTAND, str(refused)
