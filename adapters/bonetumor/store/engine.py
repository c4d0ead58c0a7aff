"""Opening the ledger's database with the durability that we promise."""

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from bonetumor.domain.errors import Misconfigured

# Execution options of an engine whose transactions write.
WRITES = {"writes": True}


def open_engine(url: str) -> Engine:
    """An engine for `sqlite:///path` or `postgresql+psycopg://…`.

    SQLite runs in WAL mode with synchronous FULL: a commit is on disk before it returns.

    Raises:
        Misconfigured: the URL is none, or names another database.
    """
    try:
        kind = make_url(url).get_backend_name()
    except ArgumentError as error:
        raise Misconfigured("ledger: expected a database URL, got something else") from error
    if kind == "sqlite":
        # The connection that was used last: its cache is more often still true.
        engine = create_engine(url, connect_args={"timeout": 30}, pool_use_lifo=True)
        event.listen(engine, "connect", _make_durable)
        event.listen(engine, "begin", _begin)
        return engine
    if kind == "postgresql":
        return create_engine(url, pool_pre_ping=True)
    raise Misconfigured(f"ledger: expected sqlite or postgresql, got {kind}")


def _make_durable(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see below
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """A writer takes the write lock at once: a read that turns into a write would fail in WAL."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
