"""Transactions over the ledger's tables, and what every part of the ledger needs."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from bonetumor.domain.errors import StorageUnavailable
from bonetumor.domain.progress import UNDER_WAY, Content, DeliveryState, StudyState
from bonetumor.domain.uid import UID
from bonetumor.service.ports import Clock
from bonetumor.store.engine import WRITES
from bonetumor.store.schema import deliveries, documents, events, studies


class LedgerTables:
    """The database behind the ledger.

    `lease` is how long a worker may be silent before its step is given to another;
    `max_attempts` is how often a step may end without a word (a crash) before the study fails;
    `notify` are the destinations that get a notice when a study stops.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Clock,
        lease: timedelta,
        max_attempts: int,
        notify: Sequence[str] = (),
    ) -> None:
        self._reader = engine
        self._writer = engine.execution_options(**WRITES)
        self._clock = clock
        self._lease = lease
        self._max_attempts = max_attempts
        self._notify = tuple(notify)
        # SQLite takes one writer; waiting here is fairer than its busy timeout.
        self._writing = threading.Lock()
        # Instances that wait for a commit, and the right to commit them (see `receiving`).
        self._entries: list[Any] = []
        self._entering, self._recording = threading.Lock(), threading.Lock()

    @contextmanager
    def _transaction(self, *, write: bool = True) -> Iterator[Connection]:
        try:
            if write:
                with self._writing, self._writer.begin() as connection:
                    yield connection
            else:
                with self._reader.connect() as connection:
                    yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise StorageUnavailable(
                f"ledger: expected the database to answer, got {type(error.orig).__name__}"
            ) from error

    def _documents(self, study: UID, kind: str) -> list[bytes]:
        """The documents of a kind, that of the latest revision first."""
        query = (
            select(documents.c.body)
            .where(documents.c.study_instance_uid == study, documents.c.kind == kind)
            .order_by(documents.c.revision.desc())
        )
        with self._transaction(write=False) as connection:
            return [bytes(body) for body in connection.scalars(query)]

    def _event(
        self, connection: Connection, study: UID, revision: int, kind: str, detail: str
    ) -> None:
        connection.execute(
            insert(events).values(
                study_instance_uid=study,
                revision=revision,
                at=self._clock(),
                kind=kind,
                detail=detail,
            )
        )

    def _stop(
        self,
        connection: Connection,
        study: UID,
        revision: int,
        resume: StudyState,
        state: StudyState,
        problem: str,
    ) -> None:
        connection.execute(
            update(studies)
            .where(studies.c.study_instance_uid == study, studies.c.revision == revision)
            .values(
                state=state,
                resume_state=resume,
                problem=problem,
                owner=None,
                lease_expires_at=None,
                next_attempt_at=None,
                updated_at=self._clock(),
            )
        )
        self._event(connection, study, revision, state, problem)

    def _watch_no_more(self, connection: Connection, study: UID) -> None:
        """Evidence that comes later changes a finished study no more.

        A look that is under way loses its claim: it must neither set the next one nor supersede.
        """
        connection.execute(
            update(studies)
            .where(studies.c.study_instance_uid == study)
            .values(next_attempt_at=None, owner=None, lease_expires_at=None, attempts=0)
        )

    def _abandon(
        self, connection: Connection, study: UID, contents: Sequence[Content] = tuple(Content)
    ) -> None:
        """Gives up deliveries of the study that are under way: something newer overtakes them."""
        connection.execute(
            update(deliveries)
            .where(
                deliveries.c.study_instance_uid == study,
                deliveries.c.content.in_(contents),
                deliveries.c.state.in_(UNDER_WAY),
            )
            .values(
                state=DeliveryState.ABANDONED,
                owner=None,
                lease_expires_at=None,
                next_attempt_at=None,
                updated_at=self._clock(),
            )
        )


def study_row(connection: Connection, study: UID, *, lock: bool = False) -> RowMapping | None:
    """The row of a study; `lock` keeps other writers from it until the transaction ends."""
    query = select(studies).where(studies.c.study_instance_uid == study)
    if lock:
        query = query.with_for_update()
    return connection.execute(query).mappings().first()
