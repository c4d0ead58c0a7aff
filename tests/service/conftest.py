"""A ledger for each test that asks for one, and a clock that the test moves."""

import pytest

from kit.ledger import Clock, sqlite_ledger


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(tmp_path, clock):
    with sqlite_ledger(tmp_path, clock) as made:
        yield made
