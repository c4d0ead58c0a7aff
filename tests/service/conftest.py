"""A ledger for each test that asks for one."""

import pytest

from kit.ledger import sqlite_ledger


@pytest.fixture
def ledger(tmp_path, clock):
    with sqlite_ledger(tmp_path, clock) as made:
        yield made
