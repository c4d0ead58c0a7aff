"""Looking at the ledger: what is due, where every study is, and its story."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, func, select

from bonetumor.domain.progress import (
    NEXT_STEP,
    UNDER_WAY,
    Errand,
    Refusal,
    StudyEvent,
    StudyProgress,
    StudyState,
)
from bonetumor.domain.uid import UID
from bonetumor.store.database import LedgerTables
from bonetumor.store.delivering import may_be_delivered
from bonetumor.store.rows import errand_of, is_due, progress_of, utc
from bonetumor.store.schema import deliveries, events, instances, refusals, studies

_PROGRESS = select(
    studies,
    select(func.count())
    .where(instances.c.study_instance_uid == studies.c.study_instance_uid)
    .scalar_subquery()
    .label("count"),
)


class Looking(LedgerTables):
    """The Overview port."""

    def due(self) -> Sequence[Errand]:
        """Every step that waits to be done and that nobody holds: urgent ones, then the oldest."""
        now = self._clock()
        # Each query has an index of its own, and says no more than it needs to: given both state
        # and time, SQLite takes the index of states and reads every finished study there is.
        to_walk = (
            select(studies)
            .where(studies.c.state.in_(NEXT_STEP))
            .order_by(studies.c.urgent.desc(), studies.c.updated_at)
        )
        to_look_at_again = (
            select(studies)
            .where(studies.c.next_attempt_at <= now)
            .order_by(studies.c.next_attempt_at)
        )
        to_deliver = (
            select(deliveries, studies.c.urgent)
            .join(studies, studies.c.study_instance_uid == deliveries.c.study_instance_uid)
            .where(deliveries.c.state.in_(UNDER_WAY), may_be_delivered())
            .order_by(studies.c.urgent.desc(), deliveries.c.updated_at)
        )
        with self._transaction(write=False) as connection:
            rows = [
                *connection.execute(to_walk).mappings(),
                *(
                    row
                    for row in connection.execute(to_look_at_again).mappings()
                    if row["state"] == StudyState.DONE
                ),
                *connection.execute(to_deliver).mappings(),
            ]
        errands = [(row, errand_of(row)) for row in rows]
        return [errand for row, errand in errands if is_due(row, now, errand.step)]

    def progress(
        self, *, states: Collection[StudyState] = (), limit: int | None = None
    ) -> Sequence[StudyProgress]:
        """Studies, those of some states where any are named, the newest first."""
        query = _PROGRESS.order_by(studies.c.updated_at.desc()).limit(limit)
        if states:
            query = query.where(studies.c.state.in_(states))
        return self._progress(query)

    def one(self, study_instance_uid: UID) -> StudyProgress | None:
        """One study."""
        query = _PROGRESS.where(studies.c.study_instance_uid == study_instance_uid)
        return next(iter(self._progress(query)), None)

    def _progress(self, query: Select[Any]) -> Sequence[StudyProgress]:
        with self._transaction(write=False) as connection:
            return [progress_of(row) for row in connection.execute(query).mappings()]

    def counts(self) -> Mapping[StudyState, int]:
        """How many studies there are of each state."""
        query = select(studies.c.state, func.count()).group_by(studies.c.state)
        with self._transaction(write=False) as connection:
            return {StudyState(state): count for state, count in connection.execute(query)}

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
