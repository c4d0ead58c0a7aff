"""Workitems of a worklist, as the ledger knows them: which are ours, and how they ended."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from bonetumor.domain.uid import UID
from bonetumor.domain.workitem import Performance, Workitem
from bonetumor.store.database import LedgerTables, study_row
from bonetumor.store.rows import utc
from bonetumor.store.schema import workitem_studies, workitems


class Performing(LedgerTables):
    """The WorkitemLedger port."""

    def begin_workitem(self, workitem: Workitem, transaction: UID) -> bool:
        """Remembers that we are about to claim it; False where we have done so before."""
        known = select(workitems.c.workitem_uid).where(workitems.c.workitem_uid == workitem.uid)
        with suppress(IntegrityError), self._transaction() as connection:  # another listener
            if connection.scalar(known) is not None:
                return False
            connection.execute(
                insert(workitems).values(
                    workitem_uid=workitem.uid,
                    transaction_uid=transaction,
                    urgent=workitem.urgent,
                    begun_at=self._clock(),
                )
            )
            connection.execute(
                insert(workitem_studies),
                [
                    {"workitem_uid": workitem.uid, "study_instance_uid": study}
                    for study in workitem.studies
                ],
            )
            return True
        return False

    def note_claimed(self, workitem: UID) -> None:
        """Remembers that it is ours."""
        with self._transaction() as connection:
            connection.execute(
                update(workitems)
                .where(workitems.c.workitem_uid == workitem)
                .values(claimed_at=self._clock())
            )
            self._tell_studies(connection, workitem, "claimed")

    def forget_workitem(self, workitem: UID) -> None:
        """Forgets one that is not ours after all."""
        with self._transaction() as connection:
            for table in (workitem_studies, workitems):
                connection.execute(delete(table).where(table.c.workitem_uid == workitem))

    def performances(self) -> Sequence[Performance]:
        """Every workitem that was begun and has not ended, the oldest first."""
        query = (
            select(workitems, workitem_studies.c.study_instance_uid)
            .join(workitem_studies, workitem_studies.c.workitem_uid == workitems.c.workitem_uid)
            .where(workitems.c.ended_at.is_(None))
            .order_by(workitems.c.begun_at, workitems.c.workitem_uid)
        )
        with self._transaction(write=False) as connection:
            rows = list(connection.execute(query).mappings())
        studies: dict[str, list[UID]] = defaultdict(list)
        for row in rows:
            studies[row["workitem_uid"]].append(UID(row["study_instance_uid"]))
        return [
            Performance(
                workitem=Workitem(
                    uid=UID(uid), studies=tuple(studies[uid]), urgent=bool(row["urgent"])
                ),
                transaction_uid=UID(row["transaction_uid"]),
                begun_at=utc(row["begun_at"]),
                claimed_at=utc(row["claimed_at"]) if row["claimed_at"] else None,
            )
            for uid, row in {row["workitem_uid"]: row for row in rows}.items()
        ]

    def end_workitem(self, workitem: UID, said: str) -> None:
        """Remembers how it ended, in words."""
        with self._transaction() as connection:
            changed = connection.execute(
                update(workitems)
                .where(workitems.c.workitem_uid == workitem, workitems.c.ended_at.is_(None))
                .values(ended_at=self._clock(), said=said)
            ).rowcount
            if changed:
                self._tell_studies(connection, workitem, said)

    def _tell_studies(self, connection: Connection, workitem: UID, said: str) -> None:
        """In the story of each of its studies; one that has not come has no revision yet."""
        query = select(workitem_studies.c.study_instance_uid).where(
            workitem_studies.c.workitem_uid == workitem
        )
        for study in connection.scalars(query).all():
            row = study_row(connection, UID(study))
            revision = 0 if row is None else int(row["revision"])
            self._event(connection, UID(study), revision, "workitem", f"{workitem} {said}")


def asked_for(connection: Connection, study: UID) -> tuple[bool, bool]:
    """Whether a workitem that is ours wants the study, and whether one of them is urgent."""
    query = (
        select(workitems.c.urgent)
        .join(workitem_studies, workitem_studies.c.workitem_uid == workitems.c.workitem_uid)
        .where(
            workitem_studies.c.study_instance_uid == study,
            workitems.c.claimed_at.is_not(None),
            workitems.c.ended_at.is_(None),
        )
    )
    urgent = connection.scalars(query).all()
    return bool(urgent), any(urgent)
