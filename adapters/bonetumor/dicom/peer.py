"""Another DICOM application entity, and associations that we open to it."""

import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID as DicomUID
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from bonetumor.dicom.attributes import refusing
from bonetumor.dicom.inbox import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from bonetumor.domain.errors import ArchiveUnavailable, Rejected

FIND = StudyRootQueryRetrieveInformationModelFind
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_PENDING = {0xFF00, 0xFF01}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAddress:
    """Where the peer listens, what we call ourselves, and TLS where the peer speaks it."""

    host: str
    port: int
    ae_title: str
    calling_ae_title: str
    timeout_s: float
    tls: ssl.SSLContext | None = None


class Peer:
    """Opens associations, and asks what is always asked in the same way."""

    def __init__(self, address: PeerAddress) -> None:
        self.address = address

    def echo(self) -> None:
        """C-ECHO; raises ArchiveUnavailable if the peer does not answer Success."""
        with self.associate([Verification]) as association:
            if Verification not in accepted(association):
                raise Rejected("archive: expected it to accept C-ECHO, got no context")
            status = association.send_c_echo().get("Status")
            if status != 0x0000:
                raise ArchiveUnavailable(
                    f"archive: expected Success for C-ECHO, got {said(status)}"
                )

    @contextmanager
    def associate(
        self,
        contexts: Iterable[str | PresentationContext],
        *,
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
        handlers: Sequence[tuple[Any, Callable[..., Any]]] = (),
    ) -> Iterator[Association]:
        """An association with these abstract syntaxes; it may have accepted none of them.

        Raises:
            ArchiveUnavailable: no association, or it ended before what was asked of it.
        """
        rejections: list[A_ASSOCIATE_RJ] = []

        def hear(event: evt.Event) -> None:
            if isinstance(event.pdu, A_ASSOCIATE_RJ):
                rejections.append(event.pdu)

        address = self.address
        entity = AE(ae_title=address.calling_ae_title)
        entity.implementation_class_uid = DicomUID(IMPLEMENTATION_CLASS_UID)
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = address.timeout_s
        entity.connection_timeout = address.timeout_s
        entity.requested_contexts = [
            c if isinstance(c, PresentationContext) else build_context(c, _SYNTAXES)
            for c in contexts
        ]
        association = entity.associate(
            address.host,
            address.port,
            ae_title=address.ae_title,
            ext_neg=list(roles),
            evt_handlers=[(evt.EVT_PDU_RECV, hear), *handlers],
            tls_args=None if address.tls is None else (address.tls, address.host),
        )
        # `is_rejected` is not set where the rejection comes before pynetdicom awaits an answer.
        if rejections:
            raise ArchiveUnavailable(
                f"archive: expected an association, got a rejection: {_reason(rejections[0])}"
            )
        # An acceptor that takes no context makes pynetdicom abort: nobody is left to talk to.
        if not association.is_established and not association.rejected_contexts:
            raise ArchiveUnavailable(
                f"archive: expected an association with {address.host}:{address.port}, got none"
            )
        try:
            yield association
        except RuntimeError as error:  # pynetdicom's word for asking over one that has ended
            if association.is_established:
                raise
            raise ArchiveUnavailable(
                "archive: expected an association that lasts, got its end"
            ) from error
        finally:
            if association.is_established:
                association.release()


def _reason(rejection: A_ASSOCIATE_RJ) -> str:
    """Why the peer rejects, in the words of PS3.8 table 9-21, or in its numbers."""
    try:
        return str(rejection.reason_str)
    except ValueError:
        return f"source {rejection.source}, reason {rejection.reason_diagnostic}"


def accepted(association: Association) -> set[str]:
    """The abstract syntaxes that the peer took."""
    return {str(context.abstract_syntax) for context in association.accepted_contexts}


def find(association: Association, query: Dataset) -> list[Dataset]:
    """C-FIND in the study root; every match.

    Raises:
        Rejected: the peer takes no C-FIND.
        ArchiveUnavailable: it does not end with Success.
    """
    if FIND not in accepted(association):
        raise Rejected("archive: expected it to accept C-FIND, got no context")
    matches, final = [], None
    for status, found in association.send_c_find(query, FIND):
        final = status.get("Status")
        if final in _PENDING and found is not None:
            matches.append(found)
    if final != 0x0000:
        raise ArchiveUnavailable(f"archive: expected Success for C-FIND, got {said(final)}")
    return matches


def reading() -> AbstractContextManager[None]:
    """Where an archive's answer is read: what is in no form of the standard is no answer.

    Within, other faults raise ArchiveUnavailable too: keep it around the reading alone.
    """
    return refusing("archive: expected an answer in the standard's form", ArchiveUnavailable)


def said(status: int | None) -> str:
    """A status as it is written in the standard."""
    return "no answer" if status is None else f"{status:04X}"
