"""Report graphs against HL7's R4 definitions, by a validator that is not ours."""

import json
import subprocess

import pytest

from bonetumor.fhir.client import FhirClient
from bonetumor.fhir.document import document_reference
from bonetumor.fhir.report import device, imaging_study, organization
from bonetumor.fhir.server import FhirReportServer
from bonetumor.simulator.ehr import SimulatedEhr
from kit.graphs import EARLIER, PICTURE, report_bundle
from kit.results import result
from kit.servers import PARTS, need

GRAPHS = 1000


def _validate(path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [need("node"), "--experimental-websocket", str(PARTS / "validate.mjs"), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_graph_is_valid_r4(tmp_path):
    made = []
    for seed in range(GRAPHS):
        one = result(seed)
        earlier = EARLIER if seed % 3 == 0 else None
        document = document_reference(one, "Organization/1", PICTURE.pdf, earlier)
        made += [report_bundle(one, earlier), imaging_study(one), document]
        made.append(device(one, "Organization/1"))
    made.append(organization("Test hospital"))
    path = tmp_path / "graphs.json"
    path.write_text(json.dumps(made))
    checked = _validate(path)
    assert checked.returncode == 0, checked.stdout[-3000:]
    assert ", 0 problems" in checked.stdout


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r.update(status="perhaps"),
        lambda r: r.pop("code"),
        lambda r: r.update(conclusion=7),
        lambda r: r.update(colour="red"),
    ],
)
def test_the_validator_can_say_no(tmp_path, spoil):
    bundle = report_bundle(result(3))
    [report] = [
        e["resource"]
        for e in bundle["entry"]
        if e["resource"]["resourceType"] == "DiagnosticReport"
    ]
    spoil(report)
    path = tmp_path / "spoilt.json"
    path.write_text(json.dumps(report))
    assert _validate(path).returncode == 1


def test_the_same_result_is_the_same_graph():
    assert report_bundle(result(5)) == report_bundle(result(5))


def test_a_device_is_never_a_performer():
    for entry in report_bundle(result(6))["entry"]:
        for performer in entry["resource"].get("performer", []):
            assert performer["reference"].startswith("Organization/")


def test_an_abstaining_model_claims_no_class():
    for seed in range(40):
        one = result(seed)
        report = next(
            e["resource"]
            for e in report_bundle(one)["entry"]
            if e["resource"]["resourceType"] == "DiagnosticReport"
        )
        assert ("conclusionCode" in report) == (not one.assessment.diagnosis.abstained)
        assert report["conclusion"].startswith("PRELIMINARY AI OUTPUT")


def test_sending_a_report_again_makes_nothing_twice():
    ehr = SimulatedEhr()
    client = FhirClient(ehr.start())
    try:
        server = FhirReportServer(client, "Test hospital", lambda _: PICTURE)
        one = result(8)
        assert not server.holds(one)
        server.send(one)
        count = len(ehr.store.created)
        server.send(one)
        assert server.holds(one)
        assert len(ehr.store.created) == count
        assert len(ehr.store.search("DiagnosticReport", {})) == 1
    finally:
        client.close()
        ehr.stop()
