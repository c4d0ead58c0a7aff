"""Retention, as the ledger records it: what is removed, when, by whom and why.

Rows go first, then files: a sender that sends an object again meanwhile finds it unknown, and
whoever removes the files finds it new (`dicom.removal`). Events, deliveries, what was assessed and
the UIDs of our own objects stay: they tell what was done, and to which study a late image belongs.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, exists, func, insert, select, update

from bonetumor.domain.progress import REMOVABLE
from bonetumor.domain.uid import UID
from bonetumor.service.retain import Removal
from bonetumor.store import documents as formats
from bonetumor.store.database import LedgerTables, study_row
from bonetumor.store.rows import utc
from bonetumor.store.schema import announced, documents, instances, removals, studies, texts


class Retaining(LedgerTables):
    """The RetentionLedger port."""

    def removable(self, before: datetime, limit: int) -> Sequence[UID]:
        """Studies that ended before a moment and whose images are still here, the oldest first."""
        query = (
            select(studies.c.study_instance_uid)
            .where(
                studies.c.updated_at < before,
                studies.c.state.in_(REMOVABLE),
                studies.c.next_attempt_at.is_(None),
                exists().where(instances.c.study_instance_uid == studies.c.study_instance_uid),
            )
            .order_by(studies.c.updated_at)
            .limit(limit)
        )
        with self._transaction(write=False) as connection:
            return [UID(uid) for uid in connection.scalars(query)]

    def remove(
        self, study_instance_uid: UID, by: str, reason: str, before: datetime | None = None
    ) -> bool:
        """Forgets images and evidence of an ended study and leaves a record of it.

        With `before` only if it still has been over since then.
        """
        now, here = self._clock(), instances.c.study_instance_uid == study_instance_uid
        with self._transaction() as connection:
            row = study_row(connection, study_instance_uid, lock=True)
            if row is None or row["state"] not in REMOVABLE:
                return False
            is_newer = before is not None and utc(row["updated_at"]) >= before
            if before is not None and (is_newer or row["next_attempt_at"] is not None):
                return False
            count, size = connection.execute(
                select(func.count(), func.sum(instances.c.size)).where(here)
            ).one()
            if not count:
                return False
            connection.execute(delete(instances).where(here))
            connection.execute(
                delete(announced).where(announced.c.study_instance_uid == study_instance_uid)
            )
            connection.execute(
                delete(documents).where(
                    documents.c.study_instance_uid == study_instance_uid,
                    documents.c.kind.in_((formats.EVIDENCE, formats.CHOSEN_PATIENT)),
                )
            )
            connection.execute(
                delete(texts).where(texts.c.study_instance_uid == study_instance_uid)
            )
            self._watch_no_more(connection, study_instance_uid)
            revision = int(row["revision"])
            connection.execute(
                insert(removals).values(
                    study_instance_uid=study_instance_uid,
                    revision=revision,
                    at=now,
                    by=by[:64],
                    reason=reason,
                    instances=count,
                    bytes=int(size),
                )
            )
            self._event(
                connection,
                study_instance_uid,
                revision,
                "removed",
                f"{count} instances, {int(size) / 1e6:.1f} MB, and the evidence; by {by}: {reason}",
            )
            return True

    def removals(self, *, unfinished: bool = False) -> Sequence[Removal]:
        """Deletion records, the oldest first; with `unfinished` those whose files are not gone."""
        query = select(removals).order_by(removals.c.id)
        if unfinished:
            query = query.where(removals.c.files_gone_at.is_(None))
        with self._transaction(write=False) as connection:
            return [
                Removal(
                    study_instance_uid=UID(row["study_instance_uid"]),
                    at=utc(row["at"]),
                    by=row["by"],
                    reason=row["reason"],
                    instances=row["instances"],
                    bytes=row["bytes"],
                    files_gone_at=utc(row["files_gone_at"]) if row["files_gone_at"] else None,
                )
                for row in connection.execute(query).mappings()
            ]

    def note_files_gone(self, study_instance_uid: UID) -> None:
        """Remembers that no file is left of what was removed of a study."""
        with self._transaction() as connection:
            connection.execute(
                update(removals)
                .where(
                    removals.c.study_instance_uid == study_instance_uid,
                    removals.c.files_gone_at.is_(None),
                )
                .values(files_gone_at=self._clock())
            )
