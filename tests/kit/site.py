"""A listener over a spool and a ledger of its own, and bytes to send to it."""

import socket
import struct
import time
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pydicom
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification

from bonetumor.dicom.inbox import Spool
from bonetumor.dicom.listener import Limits, Listener
from bonetumor.dicom.negotiation import Policy
from bonetumor.dicom.normalized import NormalizedServices
from bonetumor.dicom.upper_layer import Deadlines
from bonetumor.service.intake import Intake
from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger

MAX_PDU = 65536
# Tests draw images between two messages, on machines that do other things too.
PATIENT = Deadlines(associate_s=60.0, pdu_s=60.0, idle_s=60.0)
HASTY = Deadlines(associate_s=1.0, pdu_s=1.0, idle_s=2.0)


class Site:
    """A listener over a spool and a ledger of its own."""

    def __init__(self, folder, tls=None, bucket=None, deadlines=PATIENT, **policy):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ledger = SqlLedger(
            open_engine(f"sqlite:///{folder / 'ledger.sqlite'}"),
            clock=lambda: datetime.now(UTC),
            lease=timedelta(minutes=1),
            max_attempts=3,
        )
        self.ledger.prepare()
        self.spool = Spool(
            folder / "spool", max_object_bytes=4_000_000, min_free_bytes=0, bucket=bucket
        )
        self.spool.prepare()
        chosen = {
            "ae_titles": frozenset({"BONETUMOR"}),
            "calling_ae_titles": frozenset(),
            "max_pdu_bytes": MAX_PDU,
        }
        self.listener = Listener(
            address=("127.0.0.1", 0),
            policy=Policy(**(chosen | policy)),
            deadlines=deadlines,
            limits=Limits(associations=12, associations_per_peer=12),
            intake=Intake(inbox=self.spool, ledger=self.ledger, clock=lambda: datetime.now(UTC)),
            told=NormalizedServices(self.ledger, self.ledger),
            tls=tls,
        )
        self.listener.start()
        self.port = self.listener.port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.stop()
        self.ledger.close()

    def associate(self, *contexts, ae_title="BONETUMOR", calling="TESTER"):
        entity = AE(ae_title=calling)
        entity.requested_contexts = list(contexts) or [build_context(Verification)]
        return entity.associate("127.0.0.1", self.port, ae_title=ae_title)

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def temporary_files(self):
        return list((self.folder / "spool" / "arriving").iterdir())

    def stored(self):
        return list((self.folder / "spool").glob("*/*.dcm"))


def associate_request() -> bytes:
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
    context = dx_context()
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def store_bytes(image) -> bytes:
    """A C-STORE request as P-DATA, command and data set in PDUs of 16 KB."""
    from pynetdicom.dsutils import encode

    command = pydicom.Dataset()
    command.AffectedSOPClassUID = image.SOPClassUID
    command.CommandField, command.MessageID, command.Priority = 0x0001, 1, 2
    command.CommandDataSetType = 1
    command.AffectedSOPInstanceUID = image.SOPInstanceUID
    body = encode(command, True, True)
    command.CommandGroupLength = len(body)
    parts = [p_data(encode(command, True, True), 0x03)]
    data = encode(image, False, True)
    for start in range(0, len(data), 16000):
        last = 0x02 if start + 16000 >= len(data) else 0
        parts.append(p_data(data[start : start + 16000], last))
    return b"".join(parts)


def command_of(request: bytes) -> bytes:
    """The first PDU of a C-STORE request: its command set."""
    return request[: 6 + struct.unpack(">L", request[2:6])[0]]


def p_data(data: bytes, control: int) -> bytes:
    value = struct.pack(">LBB", len(data) + 2, 1, control) + data
    return struct.pack(">BBL", 4, 0, len(value)) + value


def read_pdu(sock) -> bytes:
    sock.settimeout(30)
    header = sock.recv(6, socket.MSG_WAITALL)
    return header + sock.recv(struct.unpack(">L", header[2:])[0], socket.MSG_WAITALL)


def is_closed(sock, seconds: float) -> bool:
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


def settle(site) -> None:
    deadline = time.monotonic() + 30
    while site.temporary_files() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)


def dx_context(syntax=ExplicitVRLittleEndian):
    return build_context(DigitalXRayImageStorageForPresentation, syntax)


def store_as(association, image, command_uid: str) -> int:
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


def send(site, dataset, syntax=ExplicitVRLittleEndian) -> int:
    dataset.file_meta.TransferSyntaxUID = syntax
    association = site.associate(dx_context(syntax))
    assert association.is_established
    status = association.send_c_store(dataset).Status
    association.release()
    return status


def send_as(site, dataset, syntax=ExplicitVRLittleEndian) -> int:
    """C-STORE in the data set's own class."""
    dataset.file_meta.TransferSyntaxUID = syntax
    association = site.associate(build_context(dataset.SOPClassUID, syntax))
    status = association.send_c_store(dataset).Status
    association.release()
    return status
