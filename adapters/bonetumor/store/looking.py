"""Looking at the ledger: what is due, where every study is, and its story."""

from collections.abc import Sequence

from sqlalchemy import and_, func, or_, select

from bonetumor.domain.progress import (
    NEXT_STEP,
    Refusal,
    Step,
    StudyEvent,
    StudyProgress,
    StudyState,
)
from bonetumor.domain.uid import UID
from bonetumor.store.database import LedgerTables
from bonetumor.store.rows import is_due, progress_of, utc
from bonetumor.store.schema import events, instances, refusals, studies


class Looking(LedgerTables):
    """The Overview port."""

    def due(self) -> Sequence[tuple[UID, Step]]:
        """Every step that waits to be done and that nobody holds, the longest wait first."""
        now = self._clock()
        to_look_at_again = and_(
            studies.c.state == StudyState.DONE, studies.c.next_attempt_at <= now
        )
        query = (
            select(studies)
            .where(or_(studies.c.state.in_(NEXT_STEP), to_look_at_again))
            .order_by(studies.c.updated_at)
        )
        with self._transaction(write=False) as connection:
            rows = list(connection.execute(query).mappings())
        steps = [NEXT_STEP.get(StudyState(row["state"]), Step.LOOK_AGAIN) for row in rows]
        return [
            (UID(row["study_instance_uid"]), step)
            for row, step in zip(rows, steps, strict=True)
            if is_due(row, now, step)
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
