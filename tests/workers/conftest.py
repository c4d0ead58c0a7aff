"""What the tests of research share."""

import pytest

from kit.cohorts import SMALL, run


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A small cohort. Change a copy of it, never the cohort."""
    folder = tmp_path_factory.mktemp("cohort")
    assert run("cohort", "make", folder, *SMALL).exit_code == 0
    return folder
