"""PDUs arrive in any pieces: cut anywhere, many at once, one byte at a time."""

import socket
import struct
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonetumor.dicom.upper_layer import Deadlines, PeerGone, PeerTooSlow, ProtocolViolation, Wire
from kit import studies
from kit.site import associate_request, command_of, p_data, read_pdu, store_bytes

LARGEST = 4096


def pdu(kind, body):
    return struct.pack(">BBL", kind, 0, len(body)) + body


def wire(sock, **deadlines):
    seconds = {"associate_s": 5.0, "pdu_s": 5.0, "idle_s": 5.0, **deadlines}
    return Wire(sock, max_pdu_bytes=LARGEST, deadlines=Deadlines(**seconds))


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(0, LARGEST), min_size=1, max_size=60),
    pieces=st.lists(st.integers(1, 200_000), min_size=1, max_size=8),
    ahead=st.integers(0, 300_000),
)
def test_pdus_are_read_as_they_were_sent_however_they_are_cut(sizes, pieces, ahead):
    bodies = [bytes((n * 7 + i) % 251 for i in range(size)) for n, size in enumerate(sizes)]
    request = pdu(1, bytes(ahead))
    stream = request + b"".join(pdu(4, body) for body in bodies)
    ours, theirs = socket.socketpair()

    def send():
        start, turn = 0, 0
        while start < len(stream):
            size = pieces[turn % len(pieces)] if turn < 200 else len(stream)
            theirs.sendall(stream[start : start + size])
            start, turn = start + size, turn + 1

    sender = threading.Thread(target=send)
    with ours, theirs:
        sender.start()
        reading = wire(ours)
        assert reading.read_associate() == request
        assert [bytes(reading.read()[1]) for _ in bodies] == bodies
        sender.join()


@pytest.mark.parametrize("after", [1, 6, 500])
def test_a_pdu_that_drips_is_given_up_at_its_deadline(after):
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def drip():
        whole = pdu(4, bytes(1000))
        theirs.sendall(whole[:after])
        for byte in whole[after:]:
            if stop.wait(0.05):
                return
            theirs.sendall(bytes([byte]))

    sender = threading.Thread(target=drip)
    with ours, theirs:
        sender.start()
        start = time.monotonic()
        try:
            with pytest.raises(PeerTooSlow):
                wire(ours, pdu_s=0.4).read()
        finally:
            stop.set()
            sender.join()
        assert 0.4 <= time.monotonic() - start < 20  # to the end it takes 25 s or more


@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_silence_and_a_peer_that_does_not_read_end_at_their_deadlines(seconds):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        quiet = wire(ours, idle_s=seconds, pdu_s=seconds)
        for wait in (quiet.read, lambda: quiet.send(bytes(10_000_000))):
            start = time.monotonic()
            with pytest.raises(PeerTooSlow):
                wait()
            assert seconds <= time.monotonic() - start < seconds + 20


def test_what_is_too_large_and_what_ends_too_early_are_told_apart():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(pdu(4, bytes(LARGEST + 1)))
        with pytest.raises(ProtocolViolation, match=f"at most {LARGEST} bytes"):
            wire(ours).read()
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(pdu(4, bytes(100))[:50])
        theirs.close()
        with pytest.raises(PeerGone):
            wire(ours).read()


def test_a_whole_association_in_one_burst_with_empty_fragments_is_stored_byte_for_byte(site):
    image = studies.dataset(21)
    request = store_bytes(image)
    command = command_of(request)
    data = request[len(command) :]
    with site.raw() as sock:
        sock.sendall(associate_request() + command + p_data(b"", 0) * 3 + data + pdu(5, bytes(4)))
        assert [read_pdu(sock)[0] for _ in range(3)] == [2, 4, 6]
    [stored] = site.stored()
    sent = b"".join(part[12:] for part in _parts(data))
    assert stored.read_bytes().endswith(sent)
    assert stored.read_bytes()[: -len(sent)].count(b"DICM") == 1
    assert len(stored.read_bytes()) - len(sent) < 500


def _parts(stream):
    while stream:
        size = 6 + struct.unpack(">L", stream[2:6])[0]
        yield stream[:size]
        stream = stream[size:]
