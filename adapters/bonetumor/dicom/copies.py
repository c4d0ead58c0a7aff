"""Copies of what lies in the bucket, on the disk of the machine that needs them."""

import hashlib
import os
import struct
import time
from contextlib import suppress
from io import BufferedRandom
from pathlib import Path

from bonetumor.dicom.bucket import Bucket
from bonetumor.dicom.parts import open_part
from bonetumor.domain.errors import CorruptPixelData, StorageUnavailable
from bonetumor.domain.study import Instance

_ROUND_S, _AT_ONCE = 600.0, 200
# Preamble, prefix, and the group length with its value: PS3.10 7.1.
_GROUP_LENGTH_AT, _AFTER_GROUP_LENGTH = 140, 144


class LocalCopies:
    """The spool's folder as a cache of the bucket. Several processes may share it."""

    def __init__(self, folder: Path, arriving: Path, bucket: Bucket, keep_s: float) -> None:
        """Copies go `keep_s` seconds after their last use, if the bucket has them."""
        self._folder = folder
        self._arriving = arriving
        self._bucket = bucket
        self._keep_s = keep_s
        self._next_round = 0.0

    def bring(self, path: Path, instance: Instance) -> None:
        """Has the file of a recorded instance lie at `path`.

        Raises:
            StorageUnavailable: it is neither here nor in the bucket, or cannot be brought now.
            CorruptPixelData: the bucket has other bytes than were received.
        """
        with suppress(StorageUnavailable):  # whoever needs a copy does not wait for tidying
            if time.time() >= self._next_round:
                self.forget_unused()
        try:
            os.utime(path)  # in use
            return
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageUnavailable(f"spool: expected to read, got {error.strerror}") from error
        try:
            self._fetch(path, instance)
        except OSError as error:
            raise StorageUnavailable(f"spool: expected to write, got {error.strerror}") from error

    def _fetch(self, path: Path, instance: Instance) -> None:
        part, raw = open_part(self._arriving)
        try:
            with BufferedRandom(raw) as file:
                name = path.relative_to(self._folder).as_posix()
                if not self._bucket.get(name, file):
                    raise StorageUnavailable(
                        f"spool: expected {name} on this disk or in the bucket, got neither"
                    )
                found = _data_set_sha256(file)
                if found != instance.sha256:
                    raise CorruptPixelData(
                        f"bucket: expected the bytes that were received (SHA-256 "
                        f"{instance.sha256[:16]}), got others ({found[:16]})"
                    )
                file.flush()
                os.fsync(file.fileno())
                path.parent.mkdir(exist_ok=True)
                part.rename(path)
        finally:
            part.unlink(missing_ok=True)

    def forget_unused(self) -> bool:
        """Removes some copies that were not used for long; whether there may be more.

        Raises:
            StorageUnavailable: the bucket, which is asked for each, does not answer, or the disk
                does not let it.
        """
        try:
            return self._one_round()
        except OSError as error:
            raise StorageUnavailable(f"spool: expected to remove, got {error.strerror}") from error

    def _one_round(self) -> bool:
        now = time.time()
        self._next_round = now + _ROUND_S
        left = _AT_ONCE
        for copy in self._folder.glob("*/*.dcm"):
            with suppress(FileNotFoundError):
                unused = now - copy.stat().st_mtime > self._keep_s
                if unused and self._bucket.has(copy.relative_to(self._folder).as_posix()):
                    copy.unlink()
                    with suppress(OSError):
                        copy.parent.rmdir()
                    left -= 1
            if not left:
                return True
        return False


def _data_set_sha256(file: BufferedRandom) -> str:
    """The SHA-256 of what follows the file meta information."""
    file.seek(_GROUP_LENGTH_AT)
    length = file.read(4)
    if len(length) < 4:
        return hashlib.sha256().hexdigest()
    file.seek(_AFTER_GROUP_LENGTH + struct.unpack("<L", length)[0])
    return hashlib.file_digest(file, "sha256").hexdigest()
