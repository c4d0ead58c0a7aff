"""Command sets: the messages in front of the data (PS3.7 9.3, Annex E).

Command sets are always Implicit VR Little Endian and hold a handful of short elements, so they
are read and written here directly; going through data set objects costs more than the rest of
receiving an image.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from bonetumor.domain.errors import InvalidInput

NO_DATA_SET = 0x0101
_ELEMENT = struct.Struct("<HHL")
_US = struct.Struct("<H")


class Command(IntEnum):
    """Command Field (0000,0100)."""

    C_STORE_RQ = 0x0001
    C_ECHO_RQ = 0x0030
    N_EVENT_REPORT_RQ = 0x0100
    N_SET_RQ = 0x0120
    N_CREATE_RQ = 0x0140
    C_CANCEL_RQ = 0x0FFF


class Status(IntEnum):
    """Status (0000,0900), PS3.7 Annex C and PS3.4 B.2.3."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    NO_SUCH_SOP_CLASS = 0x0118
    UNRECOGNIZED_OPERATION = 0x0211
    OUT_OF_RESOURCES = 0xA700
    DOES_NOT_MATCH_SOP_CLASS = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    CONFLICTING_INSTANCE = 0xC001


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSet:
    """The elements of a request that we act on; affected or requested UIDs, as the service has."""

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool


def decode_command(data: bytes) -> CommandSet:
    """A request's command set; raises InvalidInput if it is none."""
    elements: dict[int, bytes] = {}
    offset = 0
    while offset + _ELEMENT.size <= len(data):
        group, element, length = _ELEMENT.unpack_from(data, offset)
        offset += _ELEMENT.size
        if group != 0 or offset + length > len(data):
            raise InvalidInput("command set: expected elements of group 0000, got other bytes")
        elements[element] = data[offset : offset + length]
        offset += length
    return CommandSet(
        field=_number(elements, 0x0100),
        message_id=_number(elements, 0x0110),
        sop_class_uid=_text(elements, 0x0002) or _text(elements, 0x0003),
        sop_instance_uid=_text(elements, 0x1000) or _text(elements, 0x1001),
        has_data_set=_number(elements, 0x0800) != NO_DATA_SET,
    )


def encode_response(request: CommandSet, status: Status, comment: str = "") -> bytes:
    """The command set that answers `request`; `comment` is cut to 64 characters (LO)."""
    body = b""
    if request.sop_class_uid:
        body += _element(0x0002, _padded(request.sop_class_uid))
    body += _element(0x0100, _US.pack(request.field | 0x8000))
    body += _element(0x0120, _US.pack(request.message_id))
    body += _element(0x0800, _US.pack(NO_DATA_SET))
    body += _element(0x0900, _US.pack(status))
    if comment:
        body += _element(0x0902, _padded(comment[:64], b" "))
    if request.sop_instance_uid:
        body += _element(0x1000, _padded(request.sop_instance_uid))
    return _element(0x0000, struct.pack("<L", len(body))) + body


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, element, len(value)) + value


def _padded(text: str, pad: bytes = b"\0") -> bytes:
    value = text.encode("ascii", "replace")
    return value + pad if len(value) % 2 else value


def _number(elements: dict[int, bytes], element: int) -> int:
    value = elements.get(element, b"")
    if len(value) != _US.size:
        raise InvalidInput(f"command set: expected element (0000,{element:04X}), got none")
    return int(_US.unpack(value)[0])


def _text(elements: dict[int, bytes], element: int) -> str:
    return elements.get(element, b"").decode("ascii", "replace").rstrip("\0 ")
