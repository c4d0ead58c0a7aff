"""Whether studies have arrived, as the ledger knows it: what came, and what is said to exist."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection, and_, exists, func, insert, select, update

from bonetumor.domain.progress import StudyState
from bonetumor.domain.uid import UID
from bonetumor.service.ledger import Closing, Receiving
from bonetumor.store.database import study_row
from bonetumor.store.delivering import Delivering
from bonetumor.store.performing import asked_for
from bonetumor.store.rows import utc
from bonetumor.store.schema import (
    announced,
    instances,
    own_objects,
    procedure_steps,
    removals,
    studies,
)

_SEVERAL = 500


class Arriving(Delivering):
    """The ArrivalLedger and Announcements ports."""

    def receiving(self) -> Sequence[Receiving]:
        """Every study that is on its way in."""
        open_studies = select(studies.c.study_instance_uid).where(
            studies.c.state == StudyState.RECEIVING
        )
        with self._transaction(write=False) as connection:
            rows = connection.execute(
                select(studies).where(studies.c.state == StudyState.RECEIVING)
            ).mappings()
            found = list(rows)
            if not found:
                return []
            counts: dict[str, dict[UID, int]] = defaultdict(dict)
            for study, series, count in connection.execute(
                select(
                    instances.c.study_instance_uid, instances.c.series_instance_uid, func.count()
                )
                .where(instances.c.study_instance_uid.in_(open_studies))
                .group_by(instances.c.study_instance_uid, instances.c.series_instance_uid)
            ):
                counts[study][UID(series)] = count
            told = {
                study: (total, total - came)
                for study, total, came in connection.execute(
                    select(
                        announced.c.study_instance_uid,
                        func.count(),
                        func.count(instances.c.sop_instance_uid),
                    )
                    .outerjoin(
                        instances,
                        and_(
                            instances.c.sop_instance_uid == announced.c.sop_instance_uid,
                            instances.c.study_instance_uid == announced.c.study_instance_uid,
                        ),
                    )
                    .where(announced.c.study_instance_uid.in_(open_studies))
                    .group_by(announced.c.study_instance_uid)
                )
            }
            in_progress = set(
                connection.scalars(
                    select(procedure_steps.c.study_instance_uid).where(
                        procedure_steps.c.study_instance_uid.in_(open_studies),
                        procedure_steps.c.is_over.is_(False),
                    )
                )
            )
            removed = {
                row.study_instance_uid: row.instances
                for row in connection.execute(
                    select(removals.c.study_instance_uid, removals.c.instances)
                    .where(removals.c.study_instance_uid.in_(open_studies))
                    .order_by(removals.c.id)  # the last one counts
                )
            }
        return [
            Receiving(
                study_instance_uid=UID(row["study_instance_uid"]),
                revision=row["revision"],
                last_instance_at=utc(row["last_instance_at"]),
                instances=counts[row["study_instance_uid"]],
                announced=told.get(row["study_instance_uid"], (0, 0))[0],
                awaited=told.get(row["study_instance_uid"], (0, 0))[1],
                in_progress=row["study_instance_uid"] in in_progress,
                removed=removed.get(row["study_instance_uid"], 0),
            )
            for row in found
        ]

    def instance_uids(self, study_instance_uid: UID) -> frozenset[UID]:
        """What has come of a study."""
        query = select(instances.c.sop_instance_uid).where(
            instances.c.study_instance_uid == study_instance_uid
        )
        with self._transaction(write=False) as connection:
            return frozenset(UID(uid) for uid in connection.scalars(query))

    def own_series(self, study_instance_uid: UID) -> frozenset[UID]:
        """Series of our own making in a study."""
        query = select(own_objects.c.series_instance_uid).where(
            own_objects.c.study_instance_uid == study_instance_uid
        )
        with self._transaction(write=False) as connection:
            return frozenset(UID(uid) for uid in connection.scalars(query))

    def close_study(self, closing: Closing) -> bool:
        """Marks the study complete, not for us or held; False if another instance came since."""
        study = closing.study_instance_uid
        with self._transaction() as connection:
            row = study_row(connection, study, lock=True)
            if (
                row is None
                or row["revision"] != closing.revision
                or row["state"] != StudyState.RECEIVING
            ):
                return False
            count = connection.scalar(
                select(func.count()).where(instances.c.study_instance_uid == study)
            )
            is_asked_for, is_urgent = asked_for(connection, study)
            is_urgent |= closing.urgent
            connection.execute(
                update(studies)
                .where(studies.c.study_instance_uid == study)
                .values(
                    state=StudyState.COMPLETE,
                    completeness=closing.completeness,
                    urgent=is_urgent,
                    problem=None,
                    updated_at=self._clock(),
                )
            )
            urgent = "; urgent" if is_urgent else ""
            self._event(
                connection,
                study,
                closing.revision,
                StudyState.COMPLETE,
                f"{count} instances; {closing.completeness}{urgent}",
            )
            is_asked_for |= bool(row["wanted_by_hand"])
            if closing.unwanted is not None and not is_asked_for:
                self._set_aside(connection, study, closing.revision, closing.unwanted)
            elif closing.doubt is not None:
                at, then, why = StudyState.COMPLETE, StudyState.HELD, closing.doubt
                self._stop(connection, study, closing.revision, at, then, why)
                self._open_notices(connection, study, closing.revision, why)
            return True

    def _set_aside(self, connection: Connection, study: UID, revision: int, why: str) -> None:
        said = f"not for us: {why}"
        connection.execute(
            update(studies)
            .where(studies.c.study_instance_uid == study)
            .values(state=StudyState.UNWANTED, problem=said)
        )
        self._event(connection, study, revision, StudyState.UNWANTED, said)

    def want(self, study_instance_uid: UID, by: str) -> bool:
        """Lets a study run that no rule wants; False where it is not such a one, or is removed."""
        here = exists().where(instances.c.study_instance_uid == study_instance_uid)
        with self._transaction() as connection:
            row = study_row(connection, study_instance_uid, lock=True)
            if row is None or row["state"] != StudyState.UNWANTED:
                return False
            if not connection.scalar(select(here)):
                return False
            connection.execute(
                update(studies)
                .where(studies.c.study_instance_uid == study_instance_uid)
                .values(
                    state=StudyState.COMPLETE,
                    wanted_by_hand=True,
                    problem=None,
                    updated_at=self._clock(),
                )
            )
            self._event(connection, study_instance_uid, int(row["revision"]), "wanted", f"by {by}")
            return True

    def note_announced(
        self, study_instance_uid: UID, source: str, sop_instance_uids: Sequence[UID]
    ) -> None:
        """Remembers instances that exist."""
        with self._transaction() as connection:
            _announce(connection, study_instance_uid, source, sop_instance_uids)

    def note_step(self, step: UID, study_instance_uid: UID | None, *, is_over: bool) -> bool:
        """Remembers where a performed procedure step is; False if nobody created it.

        A step that is over stays so (PS3.4 F.7.2.2.2).
        """
        with self._transaction() as connection:
            changed = connection.execute(
                update(procedure_steps)
                .where(procedure_steps.c.sop_instance_uid == step)
                .values(is_over=True if is_over else procedure_steps.c.is_over)
            ).rowcount
            if changed or study_instance_uid is None:
                return bool(changed)
            connection.execute(
                insert(procedure_steps).values(
                    sop_instance_uid=step, study_instance_uid=study_instance_uid, is_over=is_over
                )
            )
            return True

    def note_made(self, step: UID, sop_instance_uids: Sequence[UID]) -> None:
        """Remembers what a performed procedure step made."""
        with self._transaction() as connection:
            study = connection.scalar(
                select(procedure_steps.c.study_instance_uid).where(
                    procedure_steps.c.sop_instance_uid == step
                )
            )
            if study is not None:
                _announce(connection, UID(study), "MPPS", sop_instance_uids)


def _announce(
    connection: Connection, study: UID, source: str, sop_instance_uids: Sequence[UID]
) -> None:
    wanted = list(dict.fromkeys(sop_instance_uids))
    there: set[str] = set()
    for start in range(0, len(wanted), _SEVERAL):
        part = wanted[start : start + _SEVERAL]
        there |= set(
            connection.scalars(
                select(announced.c.sop_instance_uid).where(announced.c.sop_instance_uid.in_(part))
            )
        )
    rows = [
        {"sop_instance_uid": uid, "study_instance_uid": study, "source": source}
        for uid in wanted
        if uid not in there
    ]
    if rows:
        connection.execute(insert(announced), rows)
