"""Receiving, as the ledger records it."""

from collections.abc import Sequence
from functools import cached_property

from sqlalchemy import (
    Connection,
    RowMapping,
    bindparam,
    delete,
    exists,
    insert,
    literal,
    select,
    union_all,
    update,
)
from sqlalchemy.exc import IntegrityError

from bonetumor.domain.errors import StorageUnavailable
from bonetumor.domain.progress import Refusal, StudyState
from bonetumor.domain.study import Instance, InstanceKeys
from bonetumor.domain.uid import UID
from bonetumor.service.ledger import Arrival
from bonetumor.store.database import LedgerTables, study_row
from bonetumor.store.prepared import Prepared
from bonetumor.store.rows import instance_row
from bonetumor.store.schema import instances, own_objects, refusals, studies

_REFUSALS_KEPT = 1000
# Receiving is the hot path: building a statement costs more than running it.
_ADD = insert(instances)
_ADD_UNLESS_OURS = insert(instances).from_select(
    [column.name for column in instances.columns],
    select(*(bindparam(column.name, type_=column.type) for column in instances.columns)).where(
        ~exists().where(own_objects.c.sop_instance_uid == bindparam("sop_instance_uid"))
    ),
)
_FIND = union_all(
    select(own_objects.c.sop_instance_uid, own_objects.c.study_instance_uid, literal(1)).where(
        own_objects.c.sop_instance_uid == bindparam("uid")
    ),
    select(instances.c.sha256, instances.c.study_instance_uid, literal(0)).where(
        instances.c.sop_instance_uid == bindparam("uid")
    ),
)
_TOUCH = (
    update(studies)
    .where(
        studies.c.study_instance_uid == bindparam("uid"), studies.c.state == StudyState.RECEIVING
    )
    .values(last_instance_at=bindparam("at"), updated_at=bindparam("at"))
)
_DECIDED_BY_PEOPLE = {StudyState.HELD, StudyState.REJECTED}


class Receiving(LedgerTables):
    """The InstanceLedger port."""

    @cached_property
    def _plainly(self) -> Prepared:
        return Prepared(self._writer, _ADD_UNLESS_OURS, _TOUCH)

    def record_instance(self, instance: Instance) -> Arrival:
        """Adds the instance and opens, or reopens, its study.

        Instances that arrive while another commit is under way are committed together: a commit
        waits for the disk, and one wait serves them all.
        """
        entry = _Entry(instance)
        with self._entering:
            self._entries.append(entry)
        with self._recording:
            if entry.outcome is None:
                with self._entering:
                    batch, self._entries = self._entries, []
                self._record(batch)
        if isinstance(entry.outcome, StorageUnavailable):
            raise StorageUnavailable(str(entry.outcome)) from entry.outcome
        assert entry.outcome is not None  # noqa: S101 - whoever recorded the batch set it
        return entry.outcome

    def _record(self, batch: Sequence["_Entry"]) -> None:
        """One transaction for all where nothing is special about any of them, else one for each."""
        try:
            if self._add_plainly([entry.instance for entry in batch]):
                for entry in batch:
                    entry.outcome = Arrival.NEW
                return
            for entry in batch:
                entry.outcome = self._add_carefully(entry.instance)
        except StorageUnavailable as error:
            for entry in batch:
                entry.outcome = entry.outcome or error

    def _add_plainly(self, batch: Sequence[Instance]) -> bool:
        """New instances of studies that are on their way in; of anything else, nothing is done."""
        rows = [instance_row(i) for i in batch]
        last = {i.keys.study_instance_uid: i.received_at for i in batch}
        touches = [{"uid": uid, "at": at} for uid, at in last.items()]
        with self._writing:
            return self._plainly.run(rows, touches)

    def _add_carefully(self, instance: Instance) -> Arrival:
        try:
            with self._transaction() as connection:
                return self._add(connection, instance)
        except IntegrityError:  # another process was faster
            with self._transaction(write=False) as connection:
                return _known(connection, instance.keys, instance.sha256)

    def _add(self, connection: Connection, instance: Instance) -> Arrival:
        arrival = _known(connection, instance.keys, instance.sha256)
        if arrival is Arrival.CONFLICTING:
            self._note_conflict(connection, instance)
        if arrival is Arrival.NEW:
            self._open_study(connection, instance)
            connection.execute(_ADD, instance_row(instance))
        return arrival

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
        if connection.execute(_TOUCH, {"uid": uid, "at": now}).rowcount:
            return  # the usual case: one more instance of a study that is on its way in
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
        self._abandon(connection, uid)
        revision = int(row["revision"]) + 1
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
    found = connection.execute(_FIND, {"uid": keys.sop_instance_uid}).first()
    if found is None:
        return Arrival.NEW
    if found[2]:
        return Arrival.OURS
    same = found[0] == sha256 and found[1] == keys.study_instance_uid
    return Arrival.REPEATED if same else Arrival.CONFLICTING


class _Entry:
    """An instance that waits to be recorded, and what came of it."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.outcome: Arrival | StorageUnavailable | None = None
