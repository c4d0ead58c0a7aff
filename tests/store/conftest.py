from datetime import timedelta

import pytest
from sqlalchemy import text

from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger
from kit.servers import postgres_server


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory):
    with postgres_server(tmp_path_factory.mktemp("pg")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    url = request.getfixturevalue("postgres_url")
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url


@pytest.fixture
def ledger(url, clock):
    made = SqlLedger(open_engine(url), clock=clock, lease=timedelta(seconds=60), max_attempts=3)
    made.prepare()
    yield made
    made.close()
