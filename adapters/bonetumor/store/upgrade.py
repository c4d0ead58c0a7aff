"""Bringing the ledger of an earlier version up, with work in flight.

New tables are made beforehand. Version 2 added an index; version 3 columns, and deliveries that
walk by themselves, in place of one chain of states.
"""

from sqlalchemy import Column, Connection, inspect, text, update
from sqlalchemy.schema import CreateColumn

from bonetumor.domain.progress import StudyState
from bonetumor.store.schema import SCHEMA_VERSION, instances, schema_version, studies

_CHAIN_OF_VERSION_2 = ("sr_sent", "sr_confirmed", "report_sent")


def bring_up(connection: Connection) -> None:
    """Changes the tables and the rows to the version that this code speaks."""
    for table in (studies, instances):
        there = {c["name"] for c in inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                _add(connection, table.name, column)
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    # What was sent is sent again and found to be there: identifiers are the same.
    for column in (studies.c.state, studies.c.resume_state):
        connection.execute(
            update(studies)
            .where(column.in_(_CHAIN_OF_VERSION_2))
            .values({column.name: StudyState.ASSESSED, "owner": None, "lease_expires_at": None})
        )
    connection.execute(update(schema_version).values(version=SCHEMA_VERSION))


def _add(connection: Connection, table: str, column: Column[object]) -> None:
    described = CreateColumn(column).compile(dialect=connection.dialect)
    connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {described}"))
