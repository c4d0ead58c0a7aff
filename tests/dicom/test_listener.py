"""The listener facing ordinary and hostile peers."""

import hashlib
import socket
import ssl
import struct
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, AllStoragePresentationContexts, build_context
from pynetdicom.sop_class import CTImageStorage, Verification

from bonetumor.dicom.inbox import Spool
from bonetumor.dicom.listener import Limits, Listener, tls_context
from bonetumor.dicom.negotiation import Policy
from bonetumor.dicom.upper_layer import Deadlines
from bonetumor.domain.errors import StorageUnavailable
from bonetumor.service.intake import Intake
from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger
from kit import studies
from kit.plugin import storescu
from kit.servers import need

# What hostile UIDs make pydicom say while the tests build and send them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning"),
    pytest.mark.filterwarnings("ignore:The value length:UserWarning"),
]
MAX_PDU = 65536


class Site:
    """A listener over a spool and a ledger of its own."""

    def __init__(self, folder, tls=None, **policy):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ledger = SqlLedger(
            open_engine(f"sqlite:///{folder / 'ledger.sqlite'}"),
            clock=lambda: datetime.now(UTC),
            lease=timedelta(minutes=1),
            max_attempts=3,
        )
        self.ledger.prepare()
        self.spool = Spool(folder / "spool", max_object_bytes=4_000_000, min_free_bytes=0)
        self.spool.prepare()
        chosen = {
            "ae_title": "BONETUMOR",
            "calling_ae_titles": frozenset(),
            "max_pdu_bytes": MAX_PDU,
        }
        self.listener = Listener(
            address=("127.0.0.1", 0),
            policy=Policy(**(chosen | policy)),
            deadlines=Deadlines(associate_s=1.0, pdu_s=1.0, idle_s=2.0),
            limits=Limits(associations=12, associations_per_peer=12),
            intake=Intake(inbox=self.spool, ledger=self.ledger, clock=lambda: datetime.now(UTC)),
            tls=tls,
        )
        self.listener.start()
        self.port = self.listener.port

    def associate(self, *contexts, ae_title="BONETUMOR", calling="TESTER"):
        entity = AE(ae_title=calling)
        entity.requested_contexts = list(contexts) or [build_context(Verification)]
        return entity.associate("127.0.0.1", self.port, ae_title=ae_title)

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def temporary_files(self):
        return list((self.folder / "spool" / "arriving").iterdir())

    def stored(self):
        return list((self.folder / "spool").glob("*/*.dcm"))


@pytest.fixture
def site(tmp_path):
    running = Site(tmp_path)
    yield running
    running.listener.stop()
    running.ledger.close()


@pytest.fixture(scope="module")
def module_site(tmp_path_factory):
    running = Site(tmp_path_factory.mktemp("site"))
    yield running
    running.listener.stop()
    running.ledger.close()


def _context(syntax=ExplicitVRLittleEndian):
    return build_context(DigitalXRayImageStorageForPresentation, syntax)


def _send(site, dataset, syntax=ExplicitVRLittleEndian) -> int:
    dataset.file_meta.TransferSyntaxUID = syntax
    association = site.associate(_context(syntax))
    assert association.is_established
    status = association.send_c_store(dataset).Status
    association.release()
    return status


def test_echo_from_a_stock_peer(site):
    association = site.associate()
    assert association.send_c_echo().Status == 0x0000
    association.release()
    assert association.is_released


def test_every_storage_class_is_accepted_in_every_transfer_syntax(site):
    pairs = [
        (context.abstract_syntax, syntax)
        for context in AllStoragePresentationContexts
        for syntax in AllTransferSyntaxes
    ]
    for start in range(0, len(pairs), 128):
        wanted = pairs[start : start + 128]
        association = site.associate(*(build_context(a, t) for a, t in wanted))
        accepted = [
            (c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts
        ]
        assert accepted == wanted
        association.release()


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless],
)
def test_an_instance_is_stored_byte_for_byte(site, tmp_path, syntax):
    image = studies.dataset(10)
    if syntax.is_compressed:
        image.compress(syntax, generate_instance_uid=False)
    else:
        image.file_meta.TransferSyntaxUID = syntax
    path = tmp_path / "sent.dcm"
    image.save_as(path, enforce_file_format=True)
    association = site.associate(_context(syntax))
    assert association.send_c_store(path).Status == 0x0000  # the path form sends stored bytes
    association.release()
    [stored] = site.stored()
    assert _data_set_bytes(stored) == _data_set_bytes(path)
    assert pydicom.dcmread(stored).file_meta.TransferSyntaxUID == syntax
    [instance] = site.ledger.study(str(image.StudyInstanceUID)).instances
    assert instance.sha256 == hashlib.sha256(_data_set_bytes(stored)).hexdigest()
    assert instance.size == len(_data_set_bytes(stored))
    assert not site.temporary_files()


def _data_set_bytes(path) -> bytes:
    data = path.read_bytes()
    meta = pydicom.dcmread(path, stop_before_pixels=True).file_meta
    return data[132 + 12 + meta.FileMetaInformationGroupLength :]


@pytest.mark.parametrize(
    ("syntax", "option"), [(ExplicitVRBigEndian, "+tb"), (DeflatedExplicitVRLittleEndian, "+td")]
)
def test_rarer_syntaxes_are_understood(site, tmp_path, syntax, option):
    [path] = studies.write(tmp_path, 11)
    converted = tmp_path / "converted.dcm"
    subprocess.run([need("dcmconv"), option, str(path), str(converted)], check=True)
    association = site.associate(_context(syntax))
    assert association.send_c_store(converted).Status == 0x0000
    association.release()
    [stored] = site.stored()
    # pynetdicom pads an odd deflated stream by a null byte before it sends it.
    assert _data_set_bytes(stored).rstrip(b"\0") == _data_set_bytes(converted).rstrip(b"\0")


def test_dcmtk_sends_with_small_pdus(site, tmp_path):
    files = studies.write(tmp_path, 12, images=3)
    storescu(site.port, *files)
    assert len(site.stored()) == 3


def test_the_same_instance_again_is_success_and_stored_once(site):
    image = studies.dataset(13)
    assert [_send(site, image), _send(site, image)] == [0x0000, 0x0000]
    assert len(site.stored()) == 1


def test_other_bytes_under_a_known_uid_are_refused_and_the_first_kept(site):
    image = studies.dataset(14)
    assert _send(site, image) == 0x0000
    [stored] = site.stored()
    before = stored.read_bytes()
    image.PixelData = bytes(len(image.PixelData))
    assert _send(site, image) == 0xC001
    assert site.stored() == [stored]
    assert stored.read_bytes() == before
    assert "conflict" in [e.kind for e in site.ledger.story(str(image.StudyInstanceUID))]


def test_a_command_uid_that_is_not_the_data_sets_is_refused(site):
    association = site.associate(_context())
    image = studies.dataset(15)
    original = image.SOPInstanceUID
    primitive_status = _store_as(association, image, "1.2.3.4")
    association.release()
    assert primitive_status == 0xA900
    assert image.SOPInstanceUID == original
    assert not site.stored()


def _store_as(association, image, command_uid: str) -> int:
    """C-STORE whose command set names another instance than the data set does."""
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.dsutils import encode

    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = image.SOPClassUID
    request.AffectedSOPInstanceUID = command_uid
    request.Priority = 2
    request.DataSet = BytesIO(encode(image, False, True))
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return response.Status


@pytest.mark.parametrize(
    "uid", ["../../../evil", "1.2.3/4", "1..2", "1.2.a", "1.2\n3", "9" * 65, ""]
)
def test_uids_that_are_none_never_become_paths(site, uid):
    association = site.associate(_context())
    image = studies.dataset(16)
    pydicom.config.settings.writing_validation_mode, before = (
        pydicom.config.IGNORE,
        pydicom.config.settings.writing_validation_mode,
    )
    try:
        image.StudyInstanceUID = uid
        status = _store_as(association, image, str(image.SOPInstanceUID))
    finally:
        pydicom.config.settings.writing_validation_mode = before
    association.release()
    assert status == 0xC000
    assert not site.stored()
    assert not site.temporary_files()


def test_a_wrong_called_ae_title_is_rejected(site):
    assert site.associate(ae_title="OTHER").is_rejected


def test_only_listed_senders_may_call(tmp_path):
    site = Site(tmp_path, calling_ae_titles=frozenset({"PACS"}))
    try:
        assert site.associate(calling="INTRUDER").is_rejected
        allowed = site.associate(calling="PACS")
        assert allowed.is_established
        allowed.release()
    finally:
        site.listener.stop()
        site.ledger.close()


def test_an_unknown_service_is_answered_not_hung(site):
    association = site.associate(_context())
    from pynetdicom.dimse_primitives import C_FIND

    request = C_FIND()
    request.MessageID = 7
    request.AffectedSOPClassUID = DigitalXRayImageStorageForPresentation
    request.Priority = 2
    request.Identifier = BytesIO(bytes.fromhex("0800050002000000 4353".replace(" ", "")))
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    assert response.Status == 0x0211


def test_an_object_above_the_limit_is_refused_and_the_association_lives(site):
    association = site.associate(_context())
    image = studies.dataset(17)
    image.PixelData = bytes(5_000_000)
    assert association.send_c_store(image).Status == 0xC000
    assert association.send_c_store(studies.dataset(18)).Status == 0x0000
    association.release()
    assert len(site.stored()) == 1
    assert not site.temporary_files()


def test_a_full_disk_is_a700_and_no_false_success(site, monkeypatch):
    def full(*_):
        raise StorageUnavailable("spool: expected at least 1 free bytes, got 0")

    monkeypatch.setattr(site.spool, "open", full)
    assert _send(site, studies.dataset(19)) == 0xA700
    monkeypatch.undo()
    assert _send(site, studies.dataset(19)) == 0x0000


def test_an_abort_in_the_middle_leaves_nothing_behind(site):
    request = _associate_request()
    for cut in (10, 500, 5_000, 100_000):
        with site.raw() as sock:
            sock.sendall(request)
            _read_pdu(sock)
            sock.sendall(_store_bytes(studies.dataset(20))[:cut])
    _settle(site)
    assert not site.stored()
    assert not site.temporary_files()
    assert site.ledger.progress() == []


def test_a_huge_pdu_is_cut_off_at_its_header(site):
    with site.raw() as sock:
        sock.sendall(b"\x01\x00" + struct.pack(">L", 0xFFFFFFFF))
        assert _is_closed(sock, 3)
    with site.raw() as sock:
        sock.sendall(_associate_request())
        _read_pdu(sock)
        sock.sendall(b"\x04\x00" + struct.pack(">L", MAX_PDU + 1))
        assert _is_closed(sock, 3)


def test_dripping_senders_are_closed_and_others_are_served(site):
    drips = [site.raw() for _ in range(10)]
    stop = threading.Event()

    def drip():
        while not stop.wait(0.1):
            for sock in drips:
                try:
                    sock.send(b"\x01")
                except OSError:
                    continue

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        association = site.associate()
        assert association.send_c_echo().Status == 0x0000
        association.release()
        time.sleep(1.5)
        assert all(_is_closed(sock, 2) for sock in drips)
    finally:
        stop.set()
        thread.join()
        for sock in drips:
            sock.close()


def test_too_many_connections_are_rejected_as_transient(site):
    silent = [site.raw() for _ in range(12)]
    time.sleep(0.3)
    with site.raw() as sock:
        pdu = _read_pdu(sock)
    for sock in silent:
        sock.close()
    assert pdu[0] == 0x03
    assert (pdu[7], pdu[8], pdu[9]) == (2, 3, 2)
    _settle(site)
    assert _send(site, studies.dataset(21)) == 0x0000


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=300), position=st.integers(0, 400))
def test_no_bytes_make_a_false_success_or_stop_the_listener(module_site, data, position):
    """Mutated associations: the peer is answered or cut off, nothing is stored."""
    request = bytearray(_associate_request())
    request[position : position + len(data)] = data
    with module_site.raw() as sock:
        try:
            sock.sendall(bytes(request))
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(3)
            while sock.recv(4096):
                pass
        except OSError:
            pass
    assert module_site.stored() == []


def test_the_listener_lives_after_the_mutations(module_site):
    association = module_site.associate()
    assert association.send_c_echo().Status == 0x0000
    association.release()


def test_a_context_of_another_class_is_a_mismatch(site):
    association = site.associate(build_context(CTImageStorage, ExplicitVRLittleEndian))
    image = studies.dataset(22)
    with pytest.raises(ValueError, match="presentation context"):
        association.send_c_store(image)
    association.release()


def test_a_refused_object_without_end_is_cut_off(site, monkeypatch):
    monkeypatch.setattr("bonetumor.dicom.association._MAX_DRAINED_BYTES", 1_000_000)
    with site.raw() as sock:
        sock.sendall(_associate_request())
        _read_pdu(sock)
        command, endless = _store_bytes(studies.dataset(23)), _pdu(bytes(16000), 0)
        sock.sendall(command[: command.index(b"\x04\x00", 6)])
        with pytest.raises(ConnectionError):
            sock.sendall(endless * 2000)
    _settle(site)
    assert not site.temporary_files()
    assert not site.stored()


def _certificate(folder, name):
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    subprocess.run(
        [
            need("openssl"),
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    return str(certificate), str(key)


def test_tls_takes_known_senders_only_and_a_silent_one_blocks_nobody(tmp_path):
    server, sender, stranger = (_certificate(tmp_path, n) for n in ("server", "sender", "stranger"))
    site = Site(tmp_path / "site", tls=tls_context(*server, sender[0]))
    try:
        silent = site.raw()  # opens a connection and never says hello
        known = _tls_client(site, server[0], sender)
        assert known.send_c_echo().Status == 0x0000
        known.release()
        assert not _tls_client(site, server[0], stranger).is_established
        assert not site.associate().is_established
        silent.close()
    finally:
        site.listener.stop()
        site.ledger.close()


def _tls_client(site, authority, identity):
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = False
    context.load_cert_chain(*identity)
    entity = AE(ae_title="TESTER")
    entity.add_requested_context(Verification)
    return entity.associate("127.0.0.1", site.port, ae_title="BONETUMOR", tls_args=(context, None))


def _associate_request() -> bytes:
    """An A-ASSOCIATE-RQ as pynetdicom encodes it."""
    from pynetdicom.pdu import A_ASSOCIATE_RQ
    from pynetdicom.pdu_primitives import (
        A_ASSOCIATE,
        ImplementationClassUIDNotification,
        MaximumLengthNotification,
    )

    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "RAW", "BONETUMOR"
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = pydicom.uid.UID("1.2.3")
    primitive.user_information = [length, implementation]
    context = _context()
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def _store_bytes(image) -> bytes:
    """A C-STORE request as P-DATA, command and data set in PDUs of 16 KB."""
    from pynetdicom.dsutils import encode

    command = pydicom.Dataset()
    command.AffectedSOPClassUID = image.SOPClassUID
    command.CommandField, command.MessageID, command.Priority = 0x0001, 1, 2
    command.CommandDataSetType = 1
    command.AffectedSOPInstanceUID = image.SOPInstanceUID
    body = encode(command, True, True)
    command.CommandGroupLength = len(body)
    parts = [_pdu(encode(command, True, True), 0x03)]
    data = encode(image, False, True)
    for start in range(0, len(data), 16000):
        last = 0x02 if start + 16000 >= len(data) else 0
        parts.append(_pdu(data[start : start + 16000], last))
    return b"".join(parts)


def _pdu(data: bytes, control: int) -> bytes:
    value = struct.pack(">LBB", len(data) + 2, 1, control) + data
    return struct.pack(">BBL", 4, 0, len(value)) + value


def _read_pdu(sock) -> bytes:
    sock.settimeout(5)
    header = sock.recv(6, socket.MSG_WAITALL)
    return header + sock.recv(struct.unpack(">L", header[2:])[0], socket.MSG_WAITALL)


def _is_closed(sock, seconds: float) -> bool:
    """Whether the listener ends the connection; an A-ABORT may come first."""
    sock.settimeout(seconds)
    try:
        while sock.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def _settle(site) -> None:
    deadline = time.monotonic() + 5
    while site.temporary_files() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
