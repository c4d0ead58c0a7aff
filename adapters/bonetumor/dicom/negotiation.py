"""Deciding whom to talk to and in which syntaxes, by pynetdicom (PS3.8 7.1, PS3.7 Annex D)."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydicom.uid import UID as DicomUID
from pydicom.uid import AllTransferSyntaxes, ImplicitVRLittleEndian
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_acceptor
from pynetdicom.sop_class import (
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    Verification,
)

from bonetumor.dicom.inbox import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from bonetumor.dicom.upper_layer import ProtocolViolation

_T = TypeVar("_T")
_TOLD = (
    StorageCommitmentPushModel,
    ModalityPerformedProcedureStep,
    InstanceAvailabilityNotification,
)
_NOT_STORAGE = frozenset({Verification, *_TOLD})
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedContext:
    """A presentation context that both sides agreed on."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who called, and what was agreed. `max_pdu_bytes` 0 means that the peer takes any size."""

    calling_ae_title: str
    called_ae_title: str
    max_pdu_bytes: int
    contexts: Mapping[int, AcceptedContext]
    answer: bytes

    @property
    def may_store(self) -> bool:
        """Whether any context is for storage; an echo or a notification needs no room."""
        return any(c.abstract_syntax not in _NOT_STORAGE for c in self.contexts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an association is rejected, and the A-ASSOCIATE-RJ that says so."""

    reason: str
    answer: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Whom we talk to, and under which names. An empty `calling_ae_titles` allows everyone."""

    ae_titles: frozenset[str]
    calling_ae_titles: frozenset[str]
    max_pdu_bytes: int


def storage_contexts() -> list[PresentationContext]:
    """Every storage SOP class in every transfer syntax that is known, what archives and modalities
    tell us (storage commitment, MPPS, Instance Availability Notification), and verification."""
    syntaxes = list(dict.fromkeys([*AllTransferSyntaxes, *ALL_TRANSFER_SYNTAXES]))
    contexts = [
        build_context(context.abstract_syntax, syntaxes)
        for context in AllStoragePresentationContexts
    ]
    plain = [ImplicitVRLittleEndian, *syntaxes]
    told = [build_context(sop_class, plain) for sop_class in _TOLD]
    # An archive that answers storage commitment opens the association in the role of the SCP.
    told[0].scu_role = told[0].scp_role = True
    return [*contexts, *told, build_context(Verification, plain)]


def negotiate(
    request: bytes, policy: Policy, supported: list[PresentationContext]
) -> Peer | Refusal:
    """Answers an A-ASSOCIATE-RQ.

    Raises:
        ProtocolViolation: the request cannot be decoded.
    """
    primitive = _decode(request)
    called, calling = primitive.called_ae_title, primitive.calling_ae_title
    if called.strip() not in policy.ae_titles:
        wanted = " or ".join(sorted(policy.ae_titles))
        return _refuse(0x07, f"called AE title: expected {wanted}, got another")
    if policy.calling_ae_titles and calling.strip() not in policy.calling_ae_titles:
        return _refuse(0x03, "calling AE title: expected one from the list, got another")
    roles = {
        item.sop_class_uid: (item.scu_role, item.scp_role)
        for item in _items(primitive, SCP_SCU_RoleSelectionNegotiation)
    }
    results, role_answers = negotiate_as_acceptor(
        primitive.presentation_context_definition_list, supported, roles
    )
    limits = [item.maximum_length_received for item in _items(primitive, MaximumLengthNotification)]
    return Peer(
        calling_ae_title=calling.strip(),
        called_ae_title=called.strip(),
        max_pdu_bytes=int(limits[0] or 0) if limits else 0,
        contexts={
            int(c.context_id or 0): AcceptedContext(
                abstract_syntax=str(c.abstract_syntax), transfer_syntax=str(c.transfer_syntax[0])
            )
            for c in results
            if c.result == 0x00
        },
        answer=_accept(primitive, results, list(role_answers), policy.max_pdu_bytes),
    )


def congestion() -> bytes:
    """A-ASSOCIATE-RJ: transient, local limit exceeded."""
    return _reject(result=0x02, source=0x03, diagnostic=0x02)


def _decode(request: bytes) -> A_ASSOCIATE:
    pdu = A_ASSOCIATE_RQ()
    try:
        pdu.decode(_spaced(request))
        primitive = pdu.to_primitive()
    # pynetdicom decodes by slicing, enumerations and assertions: hostile bytes surface as these.
    except (
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        NotImplementedError,
        AssertionError,
        UnicodeError,
        struct.error,
    ) as error:
        raise ProtocolViolation(
            "A-ASSOCIATE-RQ: expected PS3.8 9.3.2, got what cannot be decoded "
            f"({type(error).__name__})"
        ) from error
    if not primitive.called_ae_title or not primitive.calling_ae_title:
        raise ProtocolViolation("A-ASSOCIATE-RQ: expected two AE titles, got none")
    return primitive


def _spaced(request: bytes) -> bytes:
    """The request with its AE titles (PS3.8 9.3.2, bytes 11 to 26 and 27 to 42) padded by spaces:
    old devices pad by NUL."""
    if len(request) < 42:
        return request
    titles = (title.rstrip(b"\0").ljust(16) for title in (request[10:26], request[26:42]))
    return b"".join((request[:10], *titles, request[42:]))


def _items(primitive: A_ASSOCIATE, kind: type[_T]) -> Iterator[_T]:
    return (item for item in primitive.user_information or [] if isinstance(item, kind))


def _accept(
    request: A_ASSOCIATE,
    results: list[PresentationContext],
    roles: list[SCP_SCU_RoleSelectionNegotiation],
    max_pdu_bytes: int,
) -> bytes:
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu_bytes
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = DicomUID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    primitive = A_ASSOCIATE()
    primitive.application_context_name = DicomUID(APPLICATION_CONTEXT)
    primitive.calling_ae_title = request.calling_ae_title
    primitive.called_ae_title = request.called_ae_title
    primitive.result, primitive.result_source = 0x00, 0x01
    primitive.presentation_context_definition_results_list = results
    primitive.user_information = [length, implementation, version, *roles]
    answer = A_ASSOCIATE_AC()
    answer.from_primitive(primitive)
    return bytes(answer.encode())


def _refuse(diagnostic: int, reason: str) -> Refusal:
    return Refusal(reason=reason, answer=_reject(result=0x01, source=0x01, diagnostic=diagnostic))


def _reject(*, result: int, source: int, diagnostic: int) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.result, primitive.result_source, primitive.diagnostic = result, source, diagnostic
    answer = A_ASSOCIATE_RJ()
    answer.from_primitive(primitive)
    return bytes(answer.encode())
