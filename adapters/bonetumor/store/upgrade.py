"""Making the tables of a new ledger, and bringing an older one up with work in flight.

A new ledger gets the newest tables at once; Alembic's revisions (`migrations`) bring up what is
older. Schemas 1 and 2 are older than Alembic here and had a number in a table of its own.
"""

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select, text

from bonetumor.domain.errors import Misconfigured
from bonetumor.store.schema import SCHEMA, metadata

# As Alembic makes it; not among ours, so that its comparisons find no difference.
_version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
_LOCK = 7_030_514  # any number, of this purpose alone


def bring_up(connection: Connection) -> None:
    """Leaves the ledger with the tables that this code speaks to.

    Raises:
        Misconfigured: a newer version has written the ledger.
    """
    if connection.dialect.name == "postgresql":
        # Several processes start at once; SQLite lets only one of them write anyway.
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    there = set(inspect(connection).get_table_names())
    found = connection.scalar(select(_version)) if _version.name in there else None
    if found == SCHEMA:
        return
    if found is None and "studies" not in there:
        metadata.create_all(connection)
        _version.create(connection)
        connection.execute(insert(_version).values(version_num=SCHEMA))
        return
    _migrate(connection, str(found))


def _migrate(connection: Connection, found: str) -> None:
    from alembic import command  # takes half a second to import, and is needed once
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "bonetumor.store:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise Misconfigured(f"ledger: expected schema {SCHEMA} or older, got {found}") from error
