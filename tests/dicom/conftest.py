"""A listener for each test that asks for one."""

import pytest

from kit.site import Site


@pytest.fixture
def site(tmp_path):
    running = Site(tmp_path)
    yield running
    running.listener.stop()
    running.ledger.close()
