"""ORU^R01 over MLLP, against an engine that answers as it likes."""

import base64
import socket
import threading
from dataclasses import replace

import pytest

from bonetumor.domain.errors import Hl7Unavailable, Rejected
from bonetumor.hl7.message import acknowledgement, control_id, observation_result
from bonetumor.hl7.server import Hl7ReportServer, MllpAddress
from kit.results import result


def fields(message: bytes, name: str) -> list[list[str]]:
    segments = message.decode().split("\r")
    return [s.split("|") for s in segments if s.startswith(f"{name}|")]


class Engine:
    """An interface engine on loopback; `answer` makes the acknowledgement from the message."""

    def __init__(self, answer):
        self.received = []
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                data = b""
                while not data.endswith(b"\x1c\x0d"):
                    part = connection.recv(65536)
                    if not part:
                        break
                    data += part
                message = data.strip(b"\x0b\x1c\x0d")
                self.received.append(message)
                answer = self._answer(message)
                if answer:
                    half = len(answer) // 2
                    connection.sendall(answer[:half])
                    connection.sendall(answer[half:])

    def close(self):
        if self._socket.fileno() >= 0:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()


def ack(code):
    def answer(message):
        about = fields(message, "MSH")[0][9]
        text = f"MSH|^~\\&|E||||1||ACK|1|P|2.5.1\rMSA|{code}|{about}\r"
        return b"\x0b" + text.encode() + b"\x1c\x0d"

    return answer


@pytest.fixture
def engine():
    made = []

    def start(answer):
        made.append(Engine(answer))
        address = MllpAddress(
            host="127.0.0.1", port=made[-1].port, facility="Ward|1", timeout_s=1.0
        )
        return made[-1], Hl7ReportServer(address, lambda _: b"%PDF" + b"x" * 300_000)

    yield start
    for one in made:
        one.close()


def test_a_message_says_whose_what_how_sure_and_that_it_is_preliminary():
    one = next(r for r in map(result, range(50)) if r.header.accession_number)
    one = replace(
        one,
        header=replace(
            one.header, patient=replace(one.header.patient, patient_id="P|1^x\x0b\x1c\r")
        ),
    )
    message = observation_result(one, "Ward", b"%PDF")
    [header], [patient], [order] = (fields(message, n) for n in ("MSH", "PID", "OBR"))
    assert header[8] == "ORU^R01^ORU_R01"
    assert header[17] == "UNICODE UTF-8"
    assert patient[3].startswith("P\\F\\1\\S\\x   ^^^")
    assert (order[2], order[18], order[25]) == ("A1", "A1", "P")
    values = fields(message, "OBX")
    assert {v[11] for v in values} == {"P"}
    [text] = [v for v in values if v[2] == "TX"]
    assert text[5].startswith("PRELIMINARY AI OUTPUT")
    [pdf] = [v for v in values if v[2] == "ED"]
    assert base64.b64decode(pdf[5].split("^")[4]) == b"%PDF"
    if one.assessment.diagnosis.probabilities:
        assert len([v for v in values if v[2] == "NM"]) == 3


def test_an_acknowledged_message_is_sent_and_a_repetition_has_the_same_name(engine):
    there, server = engine(ack("AA"))
    one = result(3)
    server.send(one)
    server.send(one)
    assert server.holds(one)
    names = {fields(m, "MSH")[0][9] for m in there.received}
    assert names == {control_id(one)}
    assert fields(there.received[0], "MSH")[0][3] == "Ward\\F\\1"


@pytest.mark.parametrize(
    "answer", [ack("AE"), lambda _: b"", lambda _: b"\x0bMSA|AA|other\x1c\x0d"]
)
def test_anything_but_an_acknowledgement_of_this_message_is_tried_again_later(engine, answer):
    _, server = engine(answer)
    with pytest.raises(Hl7Unavailable, match="expected"):
        server.send(result(3))


def test_a_refusal_is_final_and_a_dead_engine_is_unavailable(engine):
    there, server = engine(ack("AR"))
    with pytest.raises(Rejected, match="AR"):
        server.send(result(3))
    there.close()
    with pytest.raises(Hl7Unavailable):
        server.send(result(3))
    with pytest.raises(Rejected):
        server.withdraw(["r" * 64])


def test_acknowledgements_are_read_with_any_line_ends():
    assert acknowledgement(b"MSH|x\nMSA|AA|7\n") == ("AA", "7")
    assert acknowledgement(b"") == ("", "")
