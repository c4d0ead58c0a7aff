"""Statements that are compiled once and run on the database driver itself.

For the one hot path, receiving: going through SQLAlchemy's execution takes longer there than the
disk does. The SQL, the conversions of values and the pool are still SQLAlchemy's own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Dialect, Engine
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from bonetumor.domain.errors import StorageUnavailable

Rows = Sequence[Mapping[str, object]]


class Prepared:
    """Statements that succeed together, one row touched for each set of values, or not at all."""

    def __init__(self, engine: Engine, *statements: ClauseElement) -> None:
        self._engine = engine
        self._statements = [_Statement(each, engine.dialect) for each in statements]

    def run(self, *rows: Rows) -> bool:
        """One transaction with the values of each statement; False if it was rolled back.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        driver = self._engine.dialect.loaded_dbapi
        try:
            connection = self._engine.raw_connection()
            try:
                cursor = connection.cursor()
                if self._engine.dialect.name == "sqlite":
                    cursor.execute("BEGIN IMMEDIATE")  # other drivers begin by themselves
                done = all(
                    statement.run(cursor, values) == len(values)
                    for statement, values in zip(self._statements, rows, strict=True)
                )
                if done:
                    connection.commit()
                return done
            finally:
                connection.close()  # back to the pool, which rolls back what was not committed
        except driver.IntegrityError:
            return False
        except (driver.Error, DBAPIError) as error:
            raise StorageUnavailable(
                f"ledger: expected the database to answer, got {type(error).__name__}"
            ) from error


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
