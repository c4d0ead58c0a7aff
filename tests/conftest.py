"""Fixtures that more than one room uses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from kit.ledger import Clock
from kit.servers import FhirServer, Orthanc

# No test is timed: machines of other speeds, and busy ones, run them too.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_LONGEST = ("journey", "workers", "models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no process works on alone at the end."""
    order = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))


@pytest.fixture
def clock() -> Clock:
    """The time of a ledger, which the test moves."""
    return Clock()


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with Orthanc(tmp_path_factory.mktemp("orthanc")).up() as server:
        yield server


@pytest.fixture(scope="session")
def fhir_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirServer]:
    with FhirServer(tmp_path_factory.mktemp("fhir")).up() as server:
        yield server


@pytest.fixture(scope="session")
def shared_data() -> Path | None:
    """Real fixtures beside the checkout, where there are any; never needed."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None
