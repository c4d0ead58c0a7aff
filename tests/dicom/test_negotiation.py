"""Associations with every feature: our answer is stock pynetdicom's, for the same request."""

import socket
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from pynetdicom import AE, build_context
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    PatientRootQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
    Verification,
)

from bonetumor.dicom.negotiation import APPLICATION_CONTEXT, storage_contexts
from kit.site import Site, read_pdu

_OURS_ALONE = (
    MaximumLengthNotification,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
)
_CLASSES = st.sampled_from(
    [
        DigitalXRayImageStorageForPresentation,
        CTImageStorage,
        Verification,
        StorageCommitmentPushModel,
        ModalityPerformedProcedureStep,
        PatientRootQueryRetrieveInformationModelFind,
        "1.2.3.4.5",
    ]
)
_SYNTAXES = st.lists(
    st.sampled_from(
        [
            ImplicitVRLittleEndian,
            ExplicitVRLittleEndian,
            ExplicitVRBigEndian,
            DeflatedExplicitVRLittleEndian,
            JPEG2000Lossless,
            UID("1.2.3.4.6"),
        ]
    ),
    min_size=1,
    max_size=4,
    unique=True,
)
_TITLES = st.sampled_from(["BONETUMOR", "BONETUMOR", " BONETUMOR", "bonetumor", "OTHER"])


@st.composite
def _requests(draw) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(
        draw(st.sampled_from([APPLICATION_CONTEXT] * 4 + ["1.2.3"]))
    )
    primitive.called_ae_title = draw(_TITLES)
    primitive.calling_ae_title = draw(st.sampled_from(["PACS", "PACS ", "STRANGER"]))
    contexts = [
        build_context(a, s)
        for a, s in draw(st.lists(st.tuples(_CLASSES, _SYNTAXES), min_size=1, max_size=6))
    ]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    primitive.user_information = [*_always(draw), *_sometimes(draw)]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def _always(draw):
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = draw(st.sampled_from([0, 4096, 16382, 131072]))
    implementation.implementation_class_uid = UID("1.2.3")
    yield length
    yield implementation


def _sometimes(draw):
    if draw(st.booleans()):
        window = AsynchronousOperationsWindowNegotiation()
        window.maximum_number_operations_invoked = draw(st.sampled_from([0, 1, 8]))
        window.maximum_number_operations_performed = draw(st.sampled_from([0, 1, 8]))
        yield window
    for sop_class in draw(st.lists(_CLASSES, max_size=3, unique=True)):
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid = UID(sop_class)
        role.scu_role, role.scp_role = draw(
            st.sampled_from([(True, False), (False, True), (True, True)])
        )
        yield role
    if draw(st.booleans()):
        extended = SOPClassExtendedNegotiation()
        extended.sop_class_uid = UID(draw(_CLASSES))
        extended.service_class_application_information = b"\2\0\3\0\1\0"
        yield extended
    if draw(st.booleans()):
        common = SOPClassCommonExtendedNegotiation()
        common.sop_class_uid = UID(draw(_CLASSES))
        common.service_class_uid = UID("1.2.840.10008.4.2")
        yield common
    if draw(st.booleans()):
        identity = UserIdentityNegotiation()
        identity.user_identity_type = 1
        identity.positive_response_requested = draw(st.booleans())
        identity.primary_field = b"somebody"
        yield identity


@contextmanager
def _stock():
    entity = AE(ae_title="BONETUMOR")
    for context in storage_contexts():  # assigned as a list, they would lose their roles
        entity.add_supported_context(
            context.abstract_syntax,
            context.transfer_syntax,
            scu_role=context.scu_role,
            scp_role=context.scp_role,
        )
    entity.require_called_aet = True
    entity.require_calling_aet = ["PACS"]
    server = entity.start_server(("127.0.0.1", 0), block=False)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("ours"), calling_ae_titles=frozenset({"PACS"}))
    with _stock() as stock:
        yield site.port, stock
    site.listener.stop()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=_requests())
def test_our_answer_is_that_of_stock_pynetdicom(ports, request):
    ours, stock = (_said(_answer(port, request)) for port in ports)
    assert ours == stock


def _answer(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
        peer.sendall(request)
        return read_pdu(peer)


def _said(answer: bytes) -> object:
    """What an answer says, without what every product says of itself."""
    if answer[0] == 0x03:
        rejection = A_ASSOCIATE_RJ()
        rejection.decode(answer)
        return rejection.result, rejection.source, rejection.reason_diagnostic
    acceptance = A_ASSOCIATE_AC()
    acceptance.decode(answer)
    primitive = acceptance.to_primitive()
    contexts = {
        c.context_id: (c.result, c.transfer_syntax if c.result == 0 else None)
        for c in primitive.presentation_context_definition_results_list
    }
    items = [i for i in primitive.user_information if not isinstance(i, _OURS_ALONE)]
    roles = sorted(
        (i.sop_class_uid, i.scu_role, i.scp_role)
        for i in items
        if isinstance(i, SCP_SCU_RoleSelectionNegotiation)
    )
    others = sorted(
        type(i).__name__ for i in items if not isinstance(i, SCP_SCU_RoleSelectionNegotiation)
    )
    names = (
        primitive.application_context_name,
        primitive.called_ae_title,
        primitive.calling_ae_title,
    )
    return contexts, roles, others, names
