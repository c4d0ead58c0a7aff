"""The spool: objects on disk, byte for byte as they were sent.

A file is the 128-byte preamble, file meta information of ours (PS3.10 7.1) and the data set as
it came. It is written under a temporary name, synced, renamed and its folder synced, in this
order, so that a name in the spool always stands for a whole object.
"""

import hashlib
import os
import shutil
import struct
from contextlib import suppress
from io import FileIO
from pathlib import Path

from bonetumor.dicom.bucket import Bucket
from bonetumor.dicom.copies import LocalCopies
from bonetumor.dicom.identify import HEAD_BYTES, identify, identify_head
from bonetumor.dicom.parts import open_part, remove_abandoned
from bonetumor.domain.errors import ObjectMismatch, ObjectTooLarge, StorageUnavailable
from bonetumor.domain.study import Instance, InstanceKeys
from bonetumor.service.ports import Announced

IMPLEMENTATION_CLASS_UID = "2.25.190246473618352840263735142213806210577"
IMPLEMENTATION_VERSION_NAME = "BONETUMOR_0_1"
_FOLDERS_KNOWN = 4096
_META, _META_LONG = struct.Struct("<HH2sH"), struct.Struct("<HH2sxxL")


class Spool:
    """Where received objects lie, and where new ones are written.

    With a `bucket` an object is safe when it lies there too, and the folder holds copies that go
    `copies_s` seconds after their last use.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_object_bytes: int,
        min_free_bytes: int,
        bucket: Bucket | None = None,
        copies_s: float = 86400.0,
    ) -> None:
        self.folder = folder
        self.bucket = bucket
        self._arriving = folder / "arriving"
        self._max_object_bytes = max_object_bytes
        self._min_free_bytes = min_free_bytes
        self._lasting = LastingFolders(folder)
        self._copies: LocalCopies | None = None
        if bucket is not None:
            self._copies = LocalCopies(folder, self._arriving, bucket, copies_s)

    def prepare(self) -> None:
        """Makes the folders and removes what processes that are gone left half written."""
        try:
            self._arriving.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self._arriving)
        except OSError as error:
            raise StorageUnavailable(
                f"spool: expected to write into {self.folder}, got {error.strerror}"
            ) from error

    def open(self, announced: Announced) -> "SpooledObject":
        """A temporary file for an object that is about to be sent."""
        try:
            free = shutil.disk_usage(self.folder).free
            if free < self._min_free_bytes:
                raise StorageUnavailable(
                    f"spool: expected at least {self._min_free_bytes} free bytes, got {free}"
                )
            return SpooledObject(
                announced, self._arriving, self._lasting, self.bucket, self._max_object_bytes
            )
        except OSError as error:
            raise StorageUnavailable(f"spool: expected to write, got {error.strerror}") from error

    def has_room(self) -> bool:
        """Whether more is free than what is never used: as much again, for those who send now."""
        return shutil.disk_usage(self.folder).free >= 2 * self._min_free_bytes

    def path(self, instance: Instance) -> Path:
        """Where a recorded instance lies, or would."""
        name = _name(instance.keys, instance.sha256)
        return self.folder / instance.keys.study_instance_uid / name

    def fetch(self, instance: Instance) -> Path:
        """The file of a recorded instance, to be read now.

        Raises:
            StorageUnavailable: it cannot be had now.
            CorruptPixelData: the bucket has other bytes than were received.
        """
        path = self.path(instance)
        if self._copies is not None:
            self._copies.bring(path, instance)
        elif not path.is_file():
            raise StorageUnavailable(
                f"spool: expected {path.relative_to(self.folder)} in {self.folder}, got no file"
            )
        return path

    def forget_unused(self) -> None:
        """Removes copies that were not used for long, where there is a bucket that has them.

        Raises:
            StorageUnavailable: the bucket does not answer, or the disk does not let it.
        """
        while self._copies is not None and self._copies.forget_unused():
            pass


class LastingFolders:
    """Folders of studies whose own entry in the spool is known to be on disk.

    Two associations may bring the first instances of one study: whoever did not make the folder
    must not answer before whoever made it has synced the spool.
    """

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        # With their paths: making one takes a good part of the time of an instance.
        self._known: dict[str, Path] = {}

    def move_into(self, part: Path, study_instance_uid: str, name: str) -> Path:
        """Renames `part` to `name` in the folder of a study, for good; answers its path."""
        folder = self._known.get(study_instance_uid)
        final = None if folder is None else _renamed(part, folder / name)
        if folder is None or final is None:  # new, or removed with what it held
            folder = self._make(study_instance_uid)
            final = part.rename(folder / name)
        sync_folder(folder)
        return final

    def _make(self, study_instance_uid: str) -> Path:
        folder = self._spool / study_instance_uid
        folder.mkdir(exist_ok=True)
        sync_folder(self._spool)
        if len(self._known) >= _FOLDERS_KNOWN:
            self._known.clear()
        self._known[study_instance_uid] = folder
        return folder


class SpooledObject:
    """One object on its way in. Use from one thread."""

    def __init__(
        self,
        announced: Announced,
        arriving: Path,
        lasting: LastingFolders,
        bucket: Bucket | None,
        max_bytes: int,
    ) -> None:
        self.announced = announced
        self._lasting = lasting
        self._bucket = bucket
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._size = 0
        self._head = bytearray()
        self._published: Path | None = None
        self._unwritten = _header(announced)
        self._header_bytes = len(self._unwritten)
        self._part, self._file = open_part(arriving)

    def write(self, fragment: memoryview) -> None:
        """Adds a fragment of the data set.

        Raises:
            ObjectTooLarge: the object is above the configured size.
            StorageUnavailable: the disk does not take it.
        """
        self._size += len(fragment)
        if self._size > self._max_bytes:
            raise ObjectTooLarge(f"object: expected at most {self._max_bytes} bytes, got more")
        self._hash.update(fragment)
        if len(self._head) < HEAD_BYTES:
            self._head += fragment[: HEAD_BYTES - len(self._head)]
        try:
            _write(self._file, self._unwritten)
            self._unwritten = b""
            _write(self._file, fragment)
        except OSError as error:
            raise StorageUnavailable(f"spool: expected to write, got {error.strerror}") from error

    def seal(self) -> tuple[InstanceKeys, int, str]:
        """Ends writing; answers the keys found inside, the size and the SHA-256 of the data set.

        Raises:
            NotDicom: the data set cannot be read.
            ObjectMismatch: it is not the object that was announced.
        """
        keys = identify_head(bytes(self._head), self.announced.transfer_syntax_uid)
        if keys is None:
            with self._part.open("rb") as stored:
                stored.seek(self._header_bytes)
                keys = identify(stored, self.announced.transfer_syntax_uid)
        _compare(keys, self.announced)
        return keys, self._size, self._hash.hexdigest()

    def publish(self, keys: InstanceKeys) -> None:
        """fsync, rename, fsync of the folder, bucket: after this the object survives a power cut.

        Raises:
            OSError, StorageUnavailable: it is not safe.
        """
        os.fsync(self._file.fileno())
        self._file.close()
        study, name = keys.study_instance_uid, _name(keys, self._hash.hexdigest())
        self._published = self._lasting.move_into(self._part, study, name)
        if self._bucket is not None:
            self._bucket.put(_key(self._published), self._published)

    def withdraw(self) -> None:
        """Removes what was published: the ledger does not want it."""
        if self._published is None:
            return
        self._published.unlink(missing_ok=True)
        if self._bucket is not None:
            self._bucket.remove(_key(self._published), settled=False)

    def discard(self) -> None:
        """Removes what was not published."""
        with suppress(OSError):  # a full disk does not take what is still to be written
            self._file.close()
        if self._published is None:
            self._part.unlink(missing_ok=True)


def _name(keys: InstanceKeys, sha256: str) -> str:
    # The hash in the name keeps two objects under one UID from overwriting each other.
    return f"{keys.sop_instance_uid}-{sha256[:16]}.dcm"


def _key(published: Path) -> str:
    """What a file is called in the bucket: as in the spool."""
    return f"{published.parent.name}/{published.name}"


def _renamed(part: Path, final: Path) -> Path | None:
    """The new path; None where its folder is gone."""
    try:
        return part.rename(final)
    except FileNotFoundError:
        return None


def _compare(keys: InstanceKeys, announced: Announced) -> None:
    for name, found, said in (
        ("SOP Class UID", keys.sop_class_uid, announced.sop_class_uid),
        ("SOP Instance UID", keys.sop_instance_uid, announced.sop_instance_uid),
    ):
        if found != said:
            raise ObjectMismatch(
                f"{name}: expected the announced {said}, got {found} in the data set"
            )


def _header(announced: Announced) -> bytes:
    """Preamble and file meta information (PS3.10 7.1), in Explicit VR Little Endian.

    Written directly: going through data set objects costs as much as the disk does.
    """
    body = b"".join(
        _META.pack(2, element, vr, len(value)) + value
        for element, vr, value in (
            (0x0002, b"UI", _even(announced.sop_class_uid)),
            (0x0003, b"UI", _even(announced.sop_instance_uid)),
            (0x0010, b"UI", _even(announced.transfer_syntax_uid)),
            (0x0012, b"UI", _even(IMPLEMENTATION_CLASS_UID)),
            (0x0013, b"SH", _even(IMPLEMENTATION_VERSION_NAME, b" ")),
            (0x0016, b"AE", _even(announced.calling_ae_title, b" ")),
        )
    )
    version = _META_LONG.pack(2, 0x0001, b"OB", 2) + b"\0\1"
    length = _META.pack(2, 0x0000, b"UL", 4) + struct.pack("<L", len(version) + len(body))
    return b"\0" * 128 + b"DICM" + length + version + body


def _write(file: FileIO, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _even(text: str, pad: bytes = b"\0") -> bytes:
    value = text.encode("ascii", "replace")
    return value + pad * (len(value) % 2)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
