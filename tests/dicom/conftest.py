"""A listener for each test that asks for one."""

import pytest

from kit.site import Site


@pytest.fixture
def site(tmp_path):
    with Site(tmp_path) as running:
        yield running
