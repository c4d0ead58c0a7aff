"""Reading just enough of a data set to know what it is."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO

from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID as TransferSyntax
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from bonetumor.domain.errors import InvalidInput, NotDicom, ObjectTooLarge
from bonetumor.domain.study import InstanceKeys
from bonetumor.domain.uid import UID, parse_uid

_LAST_KEY = 0x0020000E  # Series Instance UID: tags ascend, so nothing we need comes after it
_INFLATED_HEAD_BYTES = 1024 * 1024
_MAX_INFLATED_BYTES = 512 * 1024**2
HEAD_BYTES = 8192
_SHORT, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<L")
_LONG_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
_VRS = _LONG_VRS | frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_16)
_NOT_EXPLICIT_LITTLE_ENDIAN = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
)
_KEYWORDS = {
    0x00080016: "sop_class_uid",
    0x00080018: "sop_instance_uid",
    0x0020000D: "study_instance_uid",
    0x0020000E: "series_instance_uid",
}


def identify(stored: BinaryIO, transfer_syntax_uid: UID) -> InstanceKeys:
    """The keys of the data set that starts at the current position of `stored`.

    Raises:
        NotDicom: it cannot be parsed, or a key is absent or no UID.
        ObjectTooLarge: it is deflated, and would be larger than any image that is taken.
    """
    syntax = TransferSyntax(transfer_syntax_uid)
    source: BinaryIO = stored
    if syntax == DeflatedExplicitVRLittleEndian:
        source = BytesIO(_inflate_head(stored))
    with parsing(syntax):
        head = read_dataset(
            source, syntax.is_implicit_VR, syntax.is_little_endian, stop_when=_is_past_keys
        )
        return InstanceKeys(
            study_instance_uid=_key(head, "StudyInstanceUID"),
            series_instance_uid=_key(head, "SeriesInstanceUID"),
            sop_instance_uid=_key(head, "SOPInstanceUID"),
            sop_class_uid=_key(head, "SOPClassUID"),
        )


def identify_head(head: bytes, transfer_syntax_uid: UID) -> InstanceKeys | None:
    """The keys of a plain data set that begins with `head`; None where it takes `identify`.

    Plain means Explicit VR Little Endian with ascending tags of known length, sequences included,
    in the first HEAD_BYTES: most of what modalities send, at a tenth of what parsing costs.
    """
    if transfer_syntax_uid in _NOT_EXPLICIT_LITTLE_ENDIAN:
        return None
    found = {tag: value for tag, value in _plain_elements(head) if tag in _KEYWORDS}
    if len(found) < len(_KEYWORDS):
        return None
    try:
        return InstanceKeys(
            **{
                name: parse_uid(found[tag].decode("ascii"), name=name)
                for tag, name in _KEYWORDS.items()
            }
        )
    except (InvalidInput, UnicodeDecodeError):
        return None  # the real parser says what is wrong


def _plain_elements(head: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and values up to the last key, or to the first element that is not plain."""
    offset, last = 0, 0
    while last < _LAST_KEY and offset + 12 <= len(head):
        group, element, vr, length = _SHORT.unpack_from(head, offset)
        tag, start = group << 16 | element, offset + 8
        if vr in _LONG_VRS:
            length, start = _LENGTH.unpack_from(head, offset + 8)[0], offset + 12
        if tag <= last or vr not in _VRS or start + length > len(head):
            return
        yield tag, head[start : start + length]
        last, offset = tag, start + length


@contextmanager
def parsing(syntax: TransferSyntax) -> Iterator[None]:
    """Turns whatever a parser meets in hostile bytes into NotDicom."""
    try:
        yield
    except InvalidInput as error:
        raise NotDicom(f"data set: {error}") from error
    # What a parser meets in hostile bytes is open-ended; each of these was seen from pydicom.
    except (
        InvalidDicomError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        NotImplementedError,
        OverflowError,
        RecursionError,
        MemoryError,
        struct.error,
    ) as error:
        raise NotDicom(
            f"data set: expected {syntax.name}, got what cannot be parsed ({type(error).__name__})"
        ) from error


def _is_past_keys(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int(tag) > _LAST_KEY


def _key(head: Dataset, keyword: str) -> UID:
    value = head.get(keyword)
    if value is None:
        raise NotDicom(f"expected attribute {keyword}, got none")
    return parse_uid(str(value), name=keyword)


def _inflate_head(stored: BinaryIO) -> bytes:
    """The first megabyte of a deflated data set, once it is known how large all of it is.

    Whoever reads the object later inflates it in one piece: half a megabyte may become a gigabyte.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        head = inflater.decompress(stored.read(_INFLATED_HEAD_BYTES), _INFLATED_HEAD_BYTES)
        size, rest = len(head), inflater.unconsumed_tail
        while not inflater.eof and (rest := rest or stored.read(_INFLATED_HEAD_BYTES)):
            size += len(inflater.decompress(rest, _INFLATED_HEAD_BYTES))
            rest = inflater.unconsumed_tail
            if size > _MAX_INFLATED_BYTES:
                raise ObjectTooLarge(
                    f"object: expected at most {_MAX_INFLATED_BYTES} bytes once inflated, got more"
                )
    except zlib.error as error:
        raise NotDicom("data set: expected deflated bytes, got what does not inflate") from error
    return head
