"""Looking at the ledger: what is due, where every study is, and its story."""

from collections.abc import Sequence

from sqlalchemy import RowMapping, and_, func, or_, select

from bonetumor.domain.progress import (
    NEXT_DELIVERY_STEP,
    NEXT_STEP,
    UNDER_WAY,
    Content,
    DeliveryState,
    Errand,
    Refusal,
    Step,
    StudyEvent,
    StudyProgress,
    StudyState,
)
from bonetumor.domain.uid import UID
from bonetumor.store.database import LedgerTables
from bonetumor.store.delivering import may_be_delivered
from bonetumor.store.rows import is_due, progress_of, utc
from bonetumor.store.schema import deliveries, events, instances, refusals, studies


class Looking(LedgerTables):
    """The Overview port."""

    def due(self) -> Sequence[Errand]:
        """Every step that waits to be done and that nobody holds: urgent ones, then the oldest."""
        now = self._clock()
        to_look_at_again = and_(
            studies.c.state == StudyState.DONE, studies.c.next_attempt_at <= now
        )
        query = (
            select(studies)
            .where(or_(studies.c.state.in_(NEXT_STEP), to_look_at_again))
            .order_by(studies.c.urgent.desc(), studies.c.updated_at)
        )
        to_deliver = (
            select(deliveries, studies.c.urgent)
            .join(studies, studies.c.study_instance_uid == deliveries.c.study_instance_uid)
            .where(deliveries.c.state.in_(UNDER_WAY), may_be_delivered())
            .order_by(studies.c.urgent.desc(), deliveries.c.updated_at)
        )
        with self._transaction(write=False) as connection:
            rows = [
                *connection.execute(query).mappings(),
                *connection.execute(to_deliver).mappings(),
            ]
        errands = [(row, _errand(row)) for row in rows]
        return [errand for row, errand in errands if is_due(row, now, errand.step)]

    def progress(self) -> Sequence[StudyProgress]:
        """All studies, the newest first."""
        return self._progress(None)

    def one(self, study_instance_uid: UID) -> StudyProgress | None:
        """One study."""
        return next(iter(self._progress(study_instance_uid)), None)

    def _progress(self, only: UID | None) -> Sequence[StudyProgress]:
        count = (
            select(func.count())
            .where(instances.c.study_instance_uid == studies.c.study_instance_uid)
            .scalar_subquery()
        )
        query = select(studies, count.label("count")).order_by(studies.c.updated_at.desc())
        if only is not None:
            query = query.where(studies.c.study_instance_uid == only)
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


def _errand(row: RowMapping) -> Errand:
    study, urgent = UID(row["study_instance_uid"]), bool(row["urgent"])
    if "destination" not in row:
        step = NEXT_STEP.get(StudyState(row["state"]), Step.LOOK_AGAIN)
        return Errand(study_instance_uid=study, step=step, urgent=urgent)
    return Errand(
        study_instance_uid=study,
        step=NEXT_DELIVERY_STEP[DeliveryState(row["state"])],
        destination=row["destination"],
        content=Content(row["content"]),
        urgent=urgent,
    )
