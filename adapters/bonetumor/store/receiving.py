"""Receiving, as the ledger records it."""

from sqlalchemy import Connection, RowMapping, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from bonetumor.domain.progress import Refusal, StudyState
from bonetumor.domain.study import Instance, InstanceKeys
from bonetumor.domain.uid import UID
from bonetumor.service.ledger import Arrival
from bonetumor.store.database import LedgerTables, study_row
from bonetumor.store.rows import instance_row
from bonetumor.store.schema import instances, own_objects, refusals, studies

_REFUSALS_KEPT = 1000
_DECIDED_BY_PEOPLE = {StudyState.HELD, StudyState.REJECTED}


class Receiving(LedgerTables):
    """The InstanceLedger port."""

    def known(self, keys: InstanceKeys, sha256: str) -> Arrival:
        """Whether the instance is new, a repetition, or another object under a known UID."""
        with self._transaction(write=False) as connection:
            return _known(connection, keys, sha256)

    def record_instance(self, instance: Instance) -> Arrival:
        """Adds the instance and opens, or reopens, its study."""
        try:
            with self._transaction() as connection:
                arrival = _known(connection, instance.keys, instance.sha256)
                if arrival is Arrival.CONFLICTING:
                    self._note_conflict(connection, instance)
                if arrival is not Arrival.NEW:
                    return arrival
                self._open_study(connection, instance)
                connection.execute(insert(instances).values(**instance_row(instance)))
                return Arrival.NEW
        except IntegrityError:
            # Another process recorded the same UID between our look and our insert.
            return self.known(instance.keys, instance.sha256)

    def note_refusal(self, refusal: Refusal) -> None:
        """Remembers an object that was not taken; only the newest are kept."""
        with self._transaction() as connection:
            added = connection.execute(
                insert(refusals).values(
                    at=refusal.at,
                    calling_ae_title=refusal.calling_ae_title[:16],
                    sop_instance_uid=refusal.sop_instance_uid,
                    problem=refusal.problem,
                )
            ).inserted_primary_key
            newest = 0 if added is None else int(added[0])
            connection.execute(delete(refusals).where(refusals.c.id <= newest - _REFUSALS_KEPT))

    def _open_study(self, connection: Connection, instance: Instance) -> None:
        uid, now = instance.keys.study_instance_uid, instance.received_at
        row = study_row(connection, uid, lock=True)
        if row is None:
            connection.execute(
                insert(studies).values(
                    study_instance_uid=uid,
                    state=StudyState.RECEIVING,
                    revision=1,
                    completeness="",
                    last_instance_at=now,
                    updated_at=now,
                    attempts=0,
                    put_offs=0,
                )
            )
            self._event(
                connection,
                uid,
                1,
                StudyState.RECEIVING,
                f"first instance, from {instance.calling_ae_title}",
            )
            return
        if row["state"] in _DECIDED_BY_PEOPLE:
            self._add_late(connection, row, instance)
            return
        late = row["state"] != StudyState.RECEIVING
        if late:
            self._abandon(connection, uid)
        revision = int(row["revision"]) + (1 if late else 0)
        connection.execute(
            update(studies)
            .where(studies.c.study_instance_uid == uid)
            .values(
                state=StudyState.RECEIVING,
                revision=revision,
                last_instance_at=now,
                updated_at=now,
                owner=None,
                lease_expires_at=None,
                attempts=0,
                put_offs=0,
                next_attempt_at=None,
                problem=None,
                resume_state=None,
            )
        )
        if late:
            self._event(
                connection,
                uid,
                revision,
                StudyState.RECEIVING,
                f"reopened by a late instance, from {instance.calling_ae_title}",
            )

    def _add_late(self, connection: Connection, row: RowMapping, instance: Instance) -> None:
        """A late instance of a held or rejected study: kept, but people have the word."""
        uid, revision = instance.keys.study_instance_uid, int(row["revision"]) + 1
        held = row["state"] == StudyState.HELD
        connection.execute(
            update(studies)
            .where(studies.c.study_instance_uid == uid)
            .values(
                revision=revision,
                last_instance_at=instance.received_at,
                resume_state=StudyState.RECEIVING if held else None,
            )
        )
        self._event(
            connection,
            uid,
            revision,
            str(row["state"]),
            f"a late instance came, from {instance.calling_ae_title}; the study stays as it is",
        )

    def _note_conflict(self, connection: Connection, instance: Instance) -> None:
        study = connection.scalar(
            select(instances.c.study_instance_uid).where(
                instances.c.sop_instance_uid == instance.keys.sop_instance_uid
            )
        )
        self._event(
            connection,
            UID(str(study)),
            0,
            "conflict",
            f"{instance.calling_ae_title} sent other bytes under SOP Instance UID "
            f"{instance.keys.sop_instance_uid}; the first were kept",
        )


def _known(connection: Connection, keys: InstanceKeys, sha256: str) -> Arrival:
    ours = select(own_objects.c.sop_instance_uid).where(
        own_objects.c.sop_instance_uid == keys.sop_instance_uid
    )
    if connection.execute(ours).first() is not None:
        return Arrival.OURS
    found = connection.execute(
        select(instances.c.sha256, instances.c.study_instance_uid).where(
            instances.c.sop_instance_uid == keys.sop_instance_uid
        )
    ).first()
    if found is None:
        return Arrival.NEW
    same = found[0] == sha256 and found[1] == keys.study_instance_uid
    return Arrival.REPEATED if same else Arrival.CONFLICTING
