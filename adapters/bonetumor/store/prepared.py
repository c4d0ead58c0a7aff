"""Statements that are compiled once and run on the database driver itself.

For the one hot path, receiving: going through SQLAlchemy's execution takes longer there than the
disk does. The SQL, the conversions of values and the pool are still SQLAlchemy's own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Dialect, Engine
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from bonetumor.domain.errors import StorageUnavailable

Rows = Sequence[Mapping[str, object]]


class Prepared:
    """Statements that succeed together, one row touched for each set of values, or not at all."""

    def __init__(self, engine: Engine, *statements: ClauseElement) -> None:
        self._engine = engine
        self._statements = [_Statement(each, engine.dialect) for each in statements]
        self._has_server = engine.dialect.name != "sqlite"
        self._kept: PoolProxiedConnection | None = None

    def run(self, *rows: Rows) -> bool:
        """One transaction with the values of each statement; False if it was rolled back.

        The connection is kept: taking one from the pool costs as much as a statement, and another
        one would not know what SQLite has in its cache. Use from one thread at a time.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        driver = self._engine.dialect.loaded_dbapi
        may_be_stale = self._has_server and self._kept is not None
        try:
            return self._run(rows)
        except driver.IntegrityError:
            return False
        except (driver.Error, DBAPIError) as error:
            self.close()
            if may_be_stale:  # the server was started anew since; what it did is found again
                return self.run(*rows)
            raise StorageUnavailable(
                f"ledger: expected the database to answer, got {type(error).__name__}"
            ) from error

    def close(self) -> None:
        """Gives the connection back to the pool, which rolls back or drops it."""
        if self._kept is not None:
            self._kept.close()
        self._kept = None

    def _run(self, rows: Sequence[Rows]) -> bool:
        connection = self._kept = self._kept or self._engine.raw_connection()
        cursor = connection.cursor()
        done = False
        try:
            if not self._has_server:
                cursor.execute("BEGIN IMMEDIATE")  # drivers of servers begin by themselves
            done = all(
                statement.run(cursor, values) == len(values)
                for statement, values in zip(self._statements, rows, strict=True)
            )
            if done:
                connection.commit()
        finally:
            if not done:
                connection.rollback()
        return done


class _Statement:
    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        if not isinstance(compiled, SQLCompiler):
            raise TypeError(f"statement: expected one with parameters, got {type(statement)}")
        self._sql = str(compiled)
        self._order = compiled.positiontup
        self._fixed = dict(compiled.params)
        converters = {
            name: bound.type.dialect_impl(dialect).bind_processor(dialect)
            for name, bound in compiled.binds.items()
        }
        self._converters = {name: c for name, c in converters.items() if c is not None}

    def run(self, cursor: DBAPICursor, rows: Rows) -> int:
        cursor.executemany(self._sql, [self._arguments(row) for row in rows])
        return int(cursor.rowcount)

    def _arguments(self, row: Mapping[str, object]) -> Any:
        values = {**self._fixed, **row}
        for name, convert in self._converters.items():
            values[name] = convert(values[name])
        return values if self._order is None else tuple(values[name] for name in self._order)
