"""Looking at the ledger: what is due, where every study is, and its story."""

from collections.abc import Sequence

from sqlalchemy import func, select, update

from bonetumor.domain.progress import (
    NEXT_STEP,
    Refusal,
    Step,
    StudyEvent,
    StudyProgress,
    StudyState,
)
from bonetumor.domain.uid import UID
from bonetumor.store.database import LedgerTables, study_row
from bonetumor.store.rows import is_due, progress_of, utc
from bonetumor.store.schema import events, instances, refusals, studies


class Looking(LedgerTables):
    """The Overview port."""

    def due(self) -> Sequence[tuple[UID, Step]]:
        """Every step that waits to be done and that nobody holds, the longest wait first."""
        now = self._clock()
        query = select(studies).where(studies.c.state.in_(NEXT_STEP)).order_by(studies.c.updated_at)
        with self._transaction(write=False) as connection:
            return [
                (UID(row["study_instance_uid"]), NEXT_STEP[StudyState(row["state"])])
                for row in connection.execute(query).mappings()
                if is_due(row, now)
            ]

    def progress(self) -> Sequence[StudyProgress]:
        """All studies, the newest first."""
        count = (
            select(func.count())
            .where(instances.c.study_instance_uid == studies.c.study_instance_uid)
            .scalar_subquery()
        )
        query = select(studies, count.label("count")).order_by(studies.c.updated_at.desc())
        with self._transaction(write=False) as connection:
            return [progress_of(row) for row in connection.execute(query).mappings()]

    def refusals(self) -> Sequence[Refusal]:
        """The newest objects that were not taken, the newest first."""
        query = select(refusals).order_by(refusals.c.id.desc())
        with self._transaction(write=False) as connection:
            return [
                Refusal(
                    at=utc(row["at"]),
                    calling_ae_title=row["calling_ae_title"],
                    sop_instance_uid=row["sop_instance_uid"],
                    problem=row["problem"],
                )
                for row in connection.execute(query).mappings()
            ]

    def story(self, study_instance_uid: UID) -> Sequence[StudyEvent]:
        """Everything that happened to a study, the oldest first."""
        query = (
            select(events)
            .where(events.c.study_instance_uid == study_instance_uid)
            .order_by(events.c.id)
        )
        with self._transaction(write=False) as connection:
            return [
                StudyEvent(
                    at=utc(row["at"]),
                    revision=row["revision"],
                    kind=row["kind"],
                    detail=row["detail"],
                )
                for row in connection.execute(query).mappings()
            ]

    def retry(self, study_instance_uid: UID) -> bool:
        """Lets a held or failed study run again from where it stopped."""
        with self._transaction() as connection:
            row = study_row(connection, study_instance_uid, lock=True)
            if row is None or row["resume_state"] is None:
                return False
            connection.execute(
                update(studies)
                .where(studies.c.study_instance_uid == study_instance_uid)
                .values(
                    state=row["resume_state"],
                    resume_state=None,
                    problem=None,
                    attempts=0,
                    put_offs=0,
                    next_attempt_at=None,
                    updated_at=self._clock(),
                )
            )
            self._event(
                connection,
                study_instance_uid,
                int(row["revision"]),
                "retried",
                f"by a person, from {row['resume_state']}",
            )
            return True
