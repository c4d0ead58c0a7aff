import pytest

from bonetumor.fhir.client import FhirClient
from bonetumor.simulator.ehr import SimulatedEhr


@pytest.fixture
def ehr():
    server = SimulatedEhr()
    server.client = FhirClient(server.start())
    yield server
    server.client.close()
    server.stop()
