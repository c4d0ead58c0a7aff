"""Ledgers of earlier schemas, with work in flight, under this code; on SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from bonetumor.domain.errors import Misconfigured
from bonetumor.domain.progress import Step, StudyState
from bonetumor.store.engine import open_engine
from bonetumor.store.schema import SCHEMA, metadata
from kit.ledger import assessment, complete, deliver, errand, instance, shelved, walk_to_deliveries

WIDENED = ("patient_id", "accession_number")
BACK_TO_6 = ("DROP TABLE texts", "UPDATE alembic_version SET version_num = '6'")
BACK_TO_5 = (
    *BACK_TO_6,
    "DROP TABLE workitem_studies",
    "DROP TABLE workitems",
    "UPDATE alembic_version SET version_num = '5'",
)
BACK_TO_4 = (
    *BACK_TO_5,
    *(f"ALTER TABLE reports ALTER COLUMN {name} TYPE VARCHAR(64)" for name in WIDENED),
    "DROP TABLE commitments",
    "CREATE TABLE commitments (transaction_uid VARCHAR(64) PRIMARY KEY, committed INTEGER)",
    "INSERT INTO commitments VALUES ('1.9', 0)",
    "ALTER TABLE reports DROP COLUMN patient_system",
    "UPDATE alembic_version SET version_num = '4'",
)
BACK_TO_3 = (
    *BACK_TO_4,
    "ALTER TABLE instances ALTER COLUMN size TYPE INTEGER",
    "DROP TABLE removals",
    "DROP TABLE workers",
    "DROP TABLE alembic_version",
    "CREATE TABLE schema_version (version INTEGER PRIMARY KEY)",
    "INSERT INTO schema_version VALUES (3)",
)
BACK_TO_2 = (
    *BACK_TO_3,
    "UPDATE schema_version SET version = 2",
    "DROP TABLE deliveries",
    "DROP TABLE own_objects",
    "DROP TABLE commitments",
    "DROP TABLE announced",
    "DROP TABLE procedure_steps",
    "DROP INDEX studies_by_update",
    "ALTER TABLE studies DROP COLUMN urgent",
    "ALTER TABLE studies DROP COLUMN wanted_by_hand",
    "ALTER TABLE instances DROP COLUMN called_ae_title",
)
BACK_TO_1 = (
    *BACK_TO_2,
    "UPDATE schema_version SET version = 1",
    "DROP TABLE report_resources",
    "DROP TABLE reports",
    "DROP INDEX studies_by_next_attempt",
)
BACK = {1: BACK_TO_1, 2: BACK_TO_2, 3: BACK_TO_3, 4: BACK_TO_4, 5: BACK_TO_5, 6: BACK_TO_6}


def run(url, *statements):
    engine = open_engine(url)
    with engine.execution_options(writes=True).begin() as connection:
        for statement in statements:
            # SQLite takes no such statement: its numbers and texts are of any length.
            if " TYPE " not in statement or connection.dialect.name == "postgresql":
                connection.execute(text(statement))
    engine.dispose()


@pytest.mark.parametrize("version", BACK)
def test_an_upgraded_ledger_has_the_tables_of_a_new_one(ledger, url, version):
    run(url, *BACK[version])
    ledger.prepare()
    engine = open_engine(url)
    with engine.connect() as connection:
        # SQLite knows one width of integers, whatever they are called.
        options = {"compare_type": connection.dialect.name != "sqlite"}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == SCHEMA
        assert "schema_version" not in inspect(connection).get_table_names()
    engine.dispose()
    assert found == []


def test_a_ledger_of_schema_3_goes_on_with_a_delivery_under_way(ledger, url):
    complete(ledger)
    walk_to_deliveries(ledger, "pacs", "ehr")
    deliver(ledger, Step.SEND)
    run(url, *BACK_TO_3)
    ledger.prepare()
    ledger.prepare()
    deliver(ledger, Step.CONFIRM)
    deliver(ledger, Step.SEND, "ehr")
    deliver(ledger, Step.CONFIRM, "ehr")
    assert ledger.progress()[0].state is StudyState.DONE
    assert ledger.remove("1.2.3", "me", "test")


@pytest.mark.parametrize("state", ["assessed", "sr_sent", "sr_confirmed", "report_sent"])
def test_a_ledger_of_schema_2_goes_on_wherever_a_study_was(ledger, url, state):
    complete(ledger)
    walk_to_deliveries(ledger, "pacs")
    run(url, *BACK_TO_2, f"UPDATE studies SET state = '{state}', owner = 'gone:1:'")
    ledger.prepare()
    claim = ledger.claim(errand(Step.DISPATCH), "me")
    assert ledger.assessment(claim) == assessment()
    ledger.finish(claim, StudyState.DELIVERING, None, "done", deliver_to=["pacs"])
    deliver(ledger, Step.SEND)
    deliver(ledger, Step.CONFIRM)
    assert ledger.progress()[0].state is StudyState.DONE


def test_a_ledger_of_schema_1_goes_on(ledger, url):
    complete(ledger)
    run(url, *BACK_TO_1)
    ledger.prepare()
    ledger.keep(shelved())
    assert ledger.due() == [errand(Step.GATHER)]


def test_a_newer_ledger_is_refused(ledger, url):
    run(url, "UPDATE alembic_version SET version_num = '99'")
    with pytest.raises(Misconfigured, match=f"expected schema {SCHEMA} or older, got 99"):
        ledger.prepare()


def test_processes_that_start_together_make_the_tables_once(ledger, url):
    ledger.record_instance(instance())
    run(url, *BACK_TO_3)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ledger.prepare(), range(4)))
    assert len(ledger.progress()) == 1
