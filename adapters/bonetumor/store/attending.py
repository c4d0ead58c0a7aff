"""Who works, as the ledger records it."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, insert, select, update

from bonetumor.domain.progress import WorkerSeen
from bonetumor.store.database import LedgerTables
from bonetumor.store.rows import utc
from bonetumor.store.schema import workers

_FORGOTTEN_AFTER = timedelta(days=1)


class Attending(LedgerTables):
    """The Attendance port."""

    def note_alive(self, owner: str, queues: str) -> None:
        """Remembers that a worker has been heard of now; forgets those that were not for a day."""
        now = self._clock()
        with self._transaction() as connection:
            connection.execute(delete(workers).where(workers.c.heard_at < now - _FORGOTTEN_AFTER))
            known = connection.execute(
                update(workers).where(workers.c.owner == owner).values(heard_at=now, queues=queues)
            ).rowcount
            if not known:
                connection.execute(
                    insert(workers).values(owner=owner, queues=queues, started_at=now, heard_at=now)
                )

    def workers(self) -> Sequence[WorkerSeen]:
        """Workers that have been heard of, the last heard first."""
        query = select(workers).order_by(workers.c.heard_at.desc())
        with self._transaction(write=False) as connection:
            return [
                WorkerSeen(
                    owner=row["owner"],
                    queues=row["queues"],
                    started_at=utc(row["started_at"]),
                    heard_at=utc(row["heard_at"]),
                )
                for row in connection.execute(query).mappings()
            ]
