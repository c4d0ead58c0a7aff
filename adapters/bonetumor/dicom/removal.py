"""Removing files of studies from the spool while others may write there.

The ledger has forgotten the study's instances before. A sender that sends one of them again at
this moment publishes it under the very name that is to go, so that no look at the name can tell.
Hence the folder is renamed away first, in one step: whoever writes into it after that makes a new
one, or fails before Success is answered. What lies in the renamed folder and is young, or known to
the ledger again, is put back.
"""

import time
from collections.abc import Collection
from pathlib import Path

from bonetumor.dicom.inbox import Spool, sync_folder
from bonetumor.domain.errors import StorageUnavailable
from bonetumor.domain.study import Instance
from bonetumor.domain.uid import UID

_YOUNG_S = 3600.0  # far longer than an object takes from its last byte to the ledger


class SpooledFiles:
    """The StudyFiles port over the spool, and over its bucket where there is one."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def remove(self, study_instance_uid: UID, kept: Collection[Instance]) -> bool:
        """Removes the files of a study but those of `kept` and young ones; whether none is left.

        Raises:
            StorageUnavailable: the disk or the bucket does not let it.
        """
        names = {self._spool.path(instance).name for instance in kept}
        here = self._remove_here(study_instance_uid, names)
        bucket = self._spool.bucket
        if bucket is None:
            return here
        there = bucket.remove(study_instance_uid, {f"{study_instance_uid}/{n}" for n in names})
        return here and there

    def _remove_here(self, study_instance_uid: UID, names: set[str]) -> bool:
        home = self._spool.folder / study_instance_uid
        away = self._spool.folder / "removing" / study_instance_uid
        try:
            clean = self._empty(away, home, names)  # what a crash has left
            away.parent.mkdir(exist_ok=True)
            try:
                home.rename(away)
            except FileNotFoundError:
                return clean
            return self._empty(away, home, names)
        except OSError as error:
            raise StorageUnavailable(f"spool: expected to remove, got {error.strerror}") from error

    def _empty(self, away: Path, home: Path, kept: Collection[str]) -> bool:
        """Removes the renamed folder, and puts back what must stay; whether all else is gone."""
        if not away.is_dir():
            return True
        clean = True
        for file in list(away.iterdir()):
            is_young = time.time() - file.stat().st_mtime < _YOUNG_S
            if file.name in kept or is_young:
                home.mkdir(exist_ok=True)
                file.rename(home / file.name)
                clean &= file.name in kept
            else:
                file.unlink()
        if home.is_dir():
            sync_folder(home)
            sync_folder(home.parent)
        away.rmdir()
        return clean
