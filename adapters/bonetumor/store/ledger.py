"""The ledger: the truth about every study. Each public method is one transaction."""

from sqlalchemy import insert, select

from bonetumor.domain.errors import Misconfigured
from bonetumor.store.arriving import Arriving
from bonetumor.store.deciding import Deciding
from bonetumor.store.looking import Looking
from bonetumor.store.receiving import Receiving
from bonetumor.store.schema import SCHEMA_VERSION, metadata, schema_version
from bonetumor.store.shelving import Shelving
from bonetumor.store.upgrade import bring_up
from bonetumor.store.working import Working


class SqlLedger(Receiving, Arriving, Working, Looking, Deciding, Shelving):
    """Studies, instances, steps and events in a relational database."""

    def close(self) -> None:
        """Gives the database's connections back."""
        self._reader.dispose()

    def prepare(self) -> None:
        """Makes the tables where they are missing, brings older versions up, refuses newer ones."""
        with self._transaction() as connection:
            metadata.create_all(connection)
            found = connection.scalar(select(schema_version.c.version))
            if found is None:
                connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))
            elif found < SCHEMA_VERSION:
                bring_up(connection)
            elif found != SCHEMA_VERSION:
                raise Misconfigured(f"ledger: expected schema {SCHEMA_VERSION}, got {found}")
