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
from pydicom.uid import DeflatedExplicitVRLittleEndian

from bonetumor.domain.errors import InvalidInput, NotDicom
from bonetumor.domain.study import InstanceKeys
from bonetumor.domain.uid import UID, parse_uid

_LAST_KEY = 0x0020000E  # Series Instance UID: tags ascend, so nothing we need comes after it
_INFLATED_HEAD_BYTES = 1024 * 1024
_QUICK_BYTES = 8192
_SHORT, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<L")
_LONG_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN", b"UT", b"UC", b"UR", b"SQ"})
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
    """
    syntax = TransferSyntax(transfer_syntax_uid)
    source: BinaryIO = stored
    if syntax == DeflatedExplicitVRLittleEndian:
        source = BytesIO(_inflate_head(stored))
    if syntax.is_little_endian and not syntax.is_implicit_VR:
        start = source.tell()
        keys = _quickly(source.read(_QUICK_BYTES))
        if keys is not None:
            return keys
        source.seek(start)
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


def _quickly(head: bytes) -> InstanceKeys | None:
    """The keys of a plain Explicit VR Little Endian data set; None where it takes a real parser.

    Plain means ascending tags of known length, sequences included, in the first kilobytes: most of
    what modalities send, at a tenth of what parsing costs.
    """
    found: dict[int, bytes] = {}
    offset, last = 0, 0
    while len(found) < len(_KEYWORDS) and offset + 8 <= len(head):
        group, element, vr, length = _SHORT.unpack_from(head, offset)
        tag, start = group << 16 | element, offset + 8
        if vr in _LONG_VRS:
            if offset + 12 > len(head):
                return None
            length, start = _LENGTH.unpack_from(head, offset + 8)[0], offset + 12
        if tag <= last or not vr.isalpha() or start + length > len(head):
            return None
        if tag in _KEYWORDS:
            found[tag] = head[start : start + length]
        last, offset = tag, start + length
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
    """The first megabyte of a deflated data set; never more, whatever it would grow to."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return inflater.decompress(stored.read(_INFLATED_HEAD_BYTES), _INFLATED_HEAD_BYTES)
    except zlib.error as error:
        raise NotDicom("data set: expected deflated bytes, got what does not inflate") from error
