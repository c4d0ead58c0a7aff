"""The listener facing hostile and broken peers: nobody else waits, nothing false is said."""

import socket
import ssl
import struct
import threading
import time

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from bonetumor.dicom.tls import server_context
from bonetumor.domain.errors import ArchiveUnavailable
from kit import studies
from kit.archives import peer_at
from kit.servers import certificate
from kit.site import (
    HASTY,
    MAX_PDU,
    Site,
    associate_request,
    command_of,
    dx_context,
    is_closed,
    p_data,
    read_pdu,
    send,
    settle,
    store_as,
    store_bytes,
)

# What hostile UIDs make pydicom say while the tests build and send them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning"),
    pytest.mark.filterwarnings("ignore:The value length:UserWarning"),
]


@pytest.mark.parametrize(
    "uid", ["../../../evil", "1.2.3/4", "1..2", "1.2.a", "1.2\n3", "9" * 65, ""]
)
def test_uids_that_are_none_never_become_paths(site, uid):
    association = site.associate(dx_context())
    image = studies.dataset(16)
    pydicom.config.settings.writing_validation_mode, before = (
        pydicom.config.IGNORE,
        pydicom.config.settings.writing_validation_mode,
    )
    try:
        image.StudyInstanceUID = uid
        status = store_as(association, image, str(image.SOPInstanceUID))
    finally:
        pydicom.config.settings.writing_validation_mode = before
    association.release()
    assert status == 0xC000
    assert not site.stored()
    assert not site.temporary_files()


def test_ae_titles_that_are_padded_by_nul_are_what_stands_before(site):
    padded = associate_request()
    for title in (b"RAW", b"BONETUMOR"):
        assert padded.count(title.ljust(16)) == 1
        padded = padded.replace(title.ljust(16), title.ljust(16, b"\0"))
    with site.raw() as sock:
        sock.sendall(padded)
        assert read_pdu(sock)[0] == 0x02
        sock.sendall(store_bytes(studies.dataset(26)))
        read_pdu(sock)
    [instance] = site.ledger.study(str(studies.dataset(26).StudyInstanceUID)).instances
    assert instance.calling_ae_title == "RAW"


@pytest.mark.parametrize("title", [b"R\0W", b"\0" * 16, b"R\x0bW"])
def test_an_ae_title_that_is_none_is_not_taken(site, title):
    request = associate_request().replace(b"RAW".ljust(16), title.ljust(16))
    with site.raw() as sock:
        sock.sendall(request)
        assert read_pdu(sock)[0] == 0x07


def test_an_abort_in_the_middle_leaves_nothing_behind(site):
    request = associate_request()
    for cut in (10, 500, 5_000, 100_000):
        with site.raw() as sock:
            sock.sendall(request)
            read_pdu(sock)
            sock.sendall(store_bytes(studies.dataset(20))[:cut])
    settle(site)
    assert not site.stored()
    assert not site.temporary_files()
    assert site.ledger.progress() == []


def test_a_huge_pdu_is_cut_off_at_its_header(site):
    with site.raw() as sock:
        sock.sendall(b"\x01\x00" + struct.pack(">L", 0xFFFFFFFF))
        assert is_closed(sock, 30)
    with site.raw() as sock:
        sock.sendall(associate_request())
        read_pdu(sock)
        sock.sendall(b"\x04\x00" + struct.pack(">L", MAX_PDU + 1))
        assert is_closed(sock, 30)


def test_dripping_senders_are_closed_and_others_are_served(hasty_site):
    drips = [hasty_site.raw() for _ in range(10)]
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
        association = hasty_site.associate()
        assert association.send_c_echo().Status == 0x0000
        association.release()
        assert all(is_closed(sock, 30) for sock in drips)
    finally:
        stop.set()
        thread.join()
        for sock in drips:
            sock.close()


def test_too_many_connections_are_rejected_as_transient(site):
    silent = [site.raw() for _ in range(12)]
    time.sleep(0.3)
    with site.raw() as sock:
        pdu = read_pdu(sock)
    for sock in silent:
        sock.close()
    assert pdu[0] == 0x03
    assert (pdu[7], pdu[8], pdu[9]) == (2, 3, 2)
    settle(site)
    assert send(site, studies.dataset(21)) == 0x0000


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), position=st.integers(0, 400))
def test_no_bytes_make_a_false_success_or_stop_the_listener(module_site, data, position):
    """Mutated associations: the peer is answered or cut off, nothing is stored."""
    request = bytearray(associate_request())
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


@pytest.fixture
def hasty_site(tmp_path):
    with Site(tmp_path, deadlines=HASTY) as running:
        yield running


@pytest.fixture(scope="module")
def module_site(tmp_path_factory):
    with Site(tmp_path_factory.mktemp("site")) as running:
        yield running


def test_a_refused_object_without_end_is_cut_off(site, monkeypatch):
    monkeypatch.setattr("bonetumor.dicom.association._MAX_DRAINED_BYTES", 1_000_000)
    with site.raw() as sock:
        sock.sendall(associate_request())
        read_pdu(sock)
        command, endless = command_of(store_bytes(studies.dataset(23))), p_data(bytes(16000), 0)
        sock.sendall(command)
        with pytest.raises(ConnectionError):
            sock.sendall(endless * 2000)
    settle(site)
    assert not site.temporary_files()
    assert not site.stored()


def test_tls_takes_known_senders_only_and_a_silent_one_blocks_nobody(tmp_path):
    server, sender, stranger = (certificate(tmp_path, n) for n in ("server", "sender", "stranger"))
    site = Site(tmp_path / "site", tls=server_context(*server, sender[0]))
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


def test_an_object_above_the_limit_is_refused_and_the_association_lives(site):
    association = site.associate(dx_context())
    image = studies.dataset(17)
    image.PixelData = bytes(5_000_000)
    assert association.send_c_store(image).Status == 0xC000
    assert association.send_c_store(studies.dataset(18)).Status == 0x0000
    association.release()
    assert len(site.stored()) == 1
    assert not site.temporary_files()


def test_a_wrong_called_ae_title_is_rejected(site):
    with pytest.raises(ArchiveUnavailable, match="rejection: Called AE title not recognised"):
        peer_at(site.port, "OTHER").echo()


def test_only_listed_senders_may_call(tmp_path):
    with Site(tmp_path, calling_ae_titles=frozenset({"PACS"})) as site:
        with pytest.raises(ArchiveUnavailable, match="rejection: Calling AE title not recognised"):
            peer_at(site.port, "BONETUMOR", calling="INTRUDER").echo()
        peer_at(site.port, "BONETUMOR", calling="PACS").echo()


def test_a_command_uid_that_is_not_the_data_sets_is_refused(site):
    association = site.associate(dx_context())
    image = studies.dataset(15)
    original = image.SOPInstanceUID
    primitive_status = store_as(association, image, "1.2.3.4")
    association.release()
    assert primitive_status == 0xA900
    assert image.SOPInstanceUID == original
    assert not site.stored()
