"""Retention: images and evidence of studies that ended long ago are removed, with a record."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from bonetumor.domain.errors import StorageUnavailable
from bonetumor.domain.study import Instance, Study
from bonetumor.domain.uid import UID

_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A deletion record: images and evidence of a study that are gone, or about to be."""

    study_instance_uid: UID
    at: datetime
    by: str
    reason: str
    instances: int
    bytes: int
    files_gone_at: datetime | None


class RetentionLedger(Protocol):
    """The part of the ledger that removes what is old."""

    def study(self, study_instance_uid: UID) -> Study:
        """The study with all its instances."""
        ...

    def removable(self, before: datetime, limit: int) -> Sequence[UID]:
        """Studies that ended before a moment and whose images are still here, the oldest first."""
        ...

    def remove(
        self, study_instance_uid: UID, by: str, reason: str, before: datetime | None = None
    ) -> bool:
        """Forgets images and evidence of an ended study and leaves a record of it.

        With `before` only if it still has been over since then.
        """
        ...

    def removals(self, *, unfinished: bool = False) -> Sequence[Removal]:
        """Deletion records, the oldest first; with `unfinished` those whose files are not gone."""
        ...

    def note_files_gone(self, study_instance_uid: UID) -> None:
        """Remembers that no file is left of what was removed of a study."""
        ...


class StudyFiles(Protocol):
    """The files of studies, where old ones are removed."""

    def remove(self, study_instance_uid: UID, kept: Collection[Instance]) -> bool:
        """Removes the files of a study but those of `kept`; whether no other is left.

        A file that has just come may be about to be recorded: it stays, for a later call.
        """
        ...


class Retention:
    """Removes what is older than `keep`, and the files of what was removed before.

    Without `keep` nothing is removed but what a person has told to.
    """

    def __init__(
        self,
        *,
        ledger: RetentionLedger,
        files: StudyFiles,
        clock: Callable[[], datetime],
        keep: timedelta | None,
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._clock = clock
        self._keep = keep

    def once(self) -> int:
        """One round; answers how many studies were removed.

        Raises:
            StorageUnavailable: why the last of those whose files would not go kept them.
        """
        removed = 0 if self._keep is None else self._remove_older_than(self._keep)
        problem = None
        # Rows first: files that a crash has left behind are found here again.
        for study in {r.study_instance_uid for r in self._ledger.removals(unfinished=True)}:
            try:
                if self._files.remove(study, self._ledger.study(study).instances):
                    self._ledger.note_files_gone(study)
            except StorageUnavailable as error:
                problem = error
        if problem is not None:
            raise problem
        return removed

    def _remove_older_than(self, keep: timedelta) -> int:
        before, removed = self._clock() - keep, 0
        reason = f"older than {keep.total_seconds() / 86400:g} days"
        while studies := self._ledger.removable(before, _AT_ONCE):
            gone = [self._ledger.remove(s, "retention", reason, before) for s in studies]
            removed += sum(gone)
            if not any(gone):  # another process is at it
                break
        return removed
