"""The ledger: the truth about every study. Each public method is one transaction."""

from sqlalchemy import insert, select, update

from bonetumor.domain.errors import Misconfigured
from bonetumor.store.deciding import Deciding
from bonetumor.store.looking import Looking
from bonetumor.store.receiving import Receiving
from bonetumor.store.schema import SCHEMA_VERSION, metadata, schema_version, studies
from bonetumor.store.shelving import Shelving
from bonetumor.store.working import Working


class SqlLedger(Receiving, Working, Looking, Deciding, Shelving):
    """Studies, instances, steps and events in a relational database."""

    def close(self) -> None:
        """Gives the database's connections back."""
        self._reader.dispose()

    def prepare(self) -> None:
        """Makes the tables where they are missing, brings version 1 up, refuses any other."""
        with self._transaction() as connection:
            metadata.create_all(connection)
            found = connection.scalar(select(schema_version.c.version))
            if found is None:
                connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))
            elif found == 1:
                # Version 2 adds a table, made above, and an index.
                for index in studies.indexes:
                    index.create(connection, checkfirst=True)
                connection.execute(update(schema_version).values(version=SCHEMA_VERSION))
            elif found != SCHEMA_VERSION:
                raise Misconfigured(f"ledger: expected schema {SCHEMA_VERSION}, got {found}")
