"""Reports on servers that are not ours, also through faults: nothing lost, nothing twice."""

import json
import subprocess
import sys
from dataclasses import replace

import httpx
import pytest

from bonetumor.domain.errors import FhirUnavailable, Rejected
from bonetumor.fhir.client import FhirClient, Patience
from bonetumor.fhir.server import FhirReportServer
from bonetumor.picture.illustration import Illustration
from bonetumor.service.ledger import Predecessor
from kit.faults import FAULTS, FaultProxy
from kit.fhir import client
from kit.graphs import EARLIER, report_bundle
from kit.results import result
from kit.servers import FhirServer

GRAPHS = 1000
PICTURE = Illustration(png=b"\x89PNG", pdf=b"%PDF-1.4")


def serve(fhir, **more) -> FhirReportServer:
    return FhirReportServer(fhir, "Test hospital", lambda _: PICTURE, **more)


def fast(base_url) -> FhirClient:
    return FhirClient(base_url, patience=Patience(deadline_s=1.0, tries=2), sleep=lambda _: None)


@pytest.fixture
def patient(fhir_server):
    made = httpx.post(
        f"{fhir_server.base_url}/Patient", json={"resourceType": "Patient", "active": True}
    ).json()
    return f"Patient/{made['id']}"


def about(seed, patient, **change):
    """A result with nothing in it that the server would not know."""
    one = result(seed)
    key = f"{seed:04x}{patient}".encode().hex().ljust(64, "0")[:64]
    return replace(
        one,
        evidence=replace(one.evidence, patient=patient, labs=None, pathology=None, order=None),
        study=replace(one.study, study_instance_uid=f"1.2.{seed}.{abs(hash(patient)) % 10**9}"),
        assessment=replace(one.assessment, run_key=key),
        **change,
    )


def later(one, seed_of_lesions=None):
    """What late evidence makes of a result."""
    earlier = Predecessor(
        sop_instance_uid=one.assessment.sr_sop_instance_uid,
        series_instance_uid=one.assessment.sr_series_instance_uid,
        run_key=one.assessment.run_key,
    )
    lesions = one.assessment.lesions
    if seed_of_lesions is not None:
        lesions = result(seed_of_lesions).assessment.lesions
    run = one.assessment.run_key[::-1]
    return replace(
        one, predecessor=earlier, assessment=replace(one.assessment, run_key=run, lesions=lesions)
    )


def with_lesions(patient, count=2):
    return next(
        one
        for one in (about(seed, patient) for seed in range(100))
        if len(one.assessment.lesions) == count
    )


def of_patient(fhir_server, kind, patient):
    found = fhir_server.search(kind, patient=patient.split("/")[1], _count="200")
    return [r for r in found if kind != "ImagingStudy" or r["subject"]["reference"] == patient]


def test_a_report_is_posted_once_however_often_it_is_sent(fhir_server, patient):
    server = serve(FhirClient(fhir_server.base_url))
    one = with_lesions(patient)
    assert not server.holds(one)
    for _ in range(3):
        server.send(one)
    assert server.holds(one)
    [report] = of_patient(fhir_server, "DiagnosticReport", patient)
    assert len(of_patient(fhir_server, "Observation", patient)) == 3
    assert len(of_patient(fhir_server, "Media", patient)) == 1
    target = f"DiagnosticReport/{report['id']}"
    assert len(fhir_server.search("Provenance", target=target)) == 1


def test_late_evidence_amends_our_report_in_place_and_says_so(fhir_server, patient):
    server = serve(FhirClient(fhir_server.base_url))
    one = with_lesions(patient)
    server.send(one)
    [before] = of_patient(fhir_server, "DiagnosticReport", patient)
    two = later(one)
    for _ in range(2):
        server.send(two)
    [report] = of_patient(fhir_server, "DiagnosticReport", patient)
    assert report["id"] == before["id"]
    assert report["status"] == "amended"
    assert "replaces an earlier output" in report["conclusion"]
    assert server.holds(two)
    assert not server.holds(one)
    observations = of_patient(fhir_server, "Observation", patient)
    assert [o["status"] for o in observations] == ["amended"] * 3
    made = fhir_server.search("Provenance", target=f"DiagnosticReport/{report['id']}")
    revisions = [
        e["what"]["reference"] for p in made for e in p["entity"] if e["role"] == "revision"
    ]
    assert len(made) == 2
    assert revisions == [f"DiagnosticReport/{before['id']}/_history/{before['meta']['versionId']}"]


def test_boxes_that_a_later_result_does_not_have_are_cancelled(fhir_server, patient):
    server = serve(FhirClient(fhir_server.base_url))
    one = with_lesions(patient)
    server.send(one)
    none = next(s for s in range(100) if not result(s).assessment.lesions)
    server.send(later(one, seed_of_lesions=none))
    states = [o["status"] for o in of_patient(fhir_server, "Observation", patient)]
    assert sorted(states) == ["amended", "cancelled", "cancelled"]


@pytest.mark.parametrize(
    "touch", [{"status": "final"}, {"resultsInterpreter": [{"display": "A radiologist"}]}]
)
def test_a_report_that_a_person_took_over_is_never_touched(fhir_server, patient, touch):
    server = serve(FhirClient(fhir_server.base_url))
    one = with_lesions(patient)
    server.send(one)
    [report] = of_patient(fhir_server, "DiagnosticReport", patient)
    url = f"{fhir_server.base_url}/DiagnosticReport/{report['id']}"
    theirs = httpx.put(url, json={**report, **touch}).json()
    server.send(later(one))
    reports = {r["id"]: r for r in of_patient(fhir_server, "DiagnosticReport", patient)}
    assert reports.pop(report["id"]) == theirs
    [ours] = reports.values()
    assert ours["status"] == "amended"
    [extension] = ours["extension"]
    assert extension["valueReference"]["reference"] == f"DiagnosticReport/{report['id']}"
    with pytest.raises(Rejected, match="by now"):
        server.withdraw([one.assessment.run_key])


def test_an_error_is_withdrawn_and_nothing_is_deleted(fhir_server, patient):
    server = serve(FhirClient(fhir_server.base_url))
    one = with_lesions(patient)
    server.send(one)
    # A newer result that never came here changes nothing of what stands here.
    assert server.withdraw(["f" * 64, one.assessment.run_key]) == 5
    everything = [
        r
        for kind in ("DiagnosticReport", "Observation", "Media")
        for r in of_patient(fhir_server, kind, patient)
    ]
    assert {r["status"] for r in everything} == {"entered-in-error"}
    with pytest.raises(Rejected, match="none"):
        server.withdraw(["f" * 64])


def test_a_thousand_graphs_are_taken_by_a_server_that_checks_every_reference(tmp_path):
    with (
        FhirServer(tmp_path).up() as server,
        httpx.Client(base_url=server.base_url, timeout=60) as http,
    ):

        def made(kind, **content):
            answer = http.post(f"/{kind}", json={"resourceType": kind, **content})
            assert answer.status_code == 201, answer.text
            return f"{kind}/{answer.json()['id']}"

        subject = made("Patient", active=True)
        code, who = {"text": "x"}, {"reference": subject}
        there = {
            "Patient/1": subject,
            "Organization/1": made("Organization", name="x"),
            "Device/1": made("Device"),
            "ImagingStudy/1": made("ImagingStudy", status="available", subject=who),
            "Observation/7": made("Observation", status="final", code=code, subject=who),
            "DiagnosticReport/9": made("DiagnosticReport", status="final", code=code, subject=who),
            "ServiceRequest/1": made(
                "ServiceRequest", status="active", intent="order", subject=who
            ),
            "DiagnosticReport/7": made("DiagnosticReport", status="final", code=code, subject=who),
        }
        for seed in range(GRAPHS):
            bundle = json.dumps(report_bundle(result(seed), EARLIER if seed % 3 == 0 else None))
            for name, real in there.items():
                bundle = bundle.replace(f'"{name}"', f'"{real}"')
            bundle = bundle.replace("DiagnosticReport/7/_history/2", there["DiagnosticReport/7"])
            answer = http.post("", content=bundle, headers={"Content-Type": "application/json"})
            states = {e["response"]["status"] for e in answer.json()["entry"]}
            assert states == {"201"}, answer.text[:2000]
        dangling = report_bundle(result(3))
        refused = http.post("", json=dangling)
        assert refused.status_code == 400
        assert "no such resource" in refused.text


# -- the fault line ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_through_every_fault_at_every_call_nothing_is_lost_and_nothing_is_twice(
    fhir_server, patient, fault
):
    """The fault strikes the first, the second, … call in turn; each time the step is repeated."""
    with FaultProxy(fhir_server.port) as proxy:
        server = serve(fast(f"http://127.0.0.1:{proxy.port}/fhir"))
        one = with_lesions(patient)
        two = later(one)
        for outcome in (one, two):
            for strike in range(1, 16):
                proxy.arm(strike, FAULTS[fault])
                try:
                    server.send(outcome)
                except (FhirUnavailable, Rejected):
                    pass
                finally:
                    proxy.disarm()
                server = serve(fast(f"http://127.0.0.1:{proxy.port}/fhir"))
            patiently = serve(FhirClient(fhir_server.base_url))
            patiently.send(outcome)
            assert patiently.holds(outcome)
    [report] = of_patient(fhir_server, "DiagnosticReport", patient)
    assert report["status"] == "amended"
    observations = of_patient(fhir_server, "Observation", patient)
    assert len(observations) == 3
    assert len(of_patient(fhir_server, "Media", patient)) == 1
    assert len(fhir_server.search("Provenance", target=f"DiagnosticReport/{report['id']}")) == 2
    named = {r["reference"] for r in report["result"]}
    assert named == {f"Observation/{o['id']}" for o in observations}


# -- other forms -------------------------------------------------------------------------------


def _capable(*types, transaction=True):
    listed = [{"type": t} for t in types]
    interaction = [{"code": "transaction" if transaction else "batch"}]
    return {"rest": [{"mode": "server", "resource": listed, "interaction": interaction}]}


class Server:
    """A small server that offers some types only, and counts what it is sent."""

    def __init__(self, ehr, statement):
        self.ehr, self.statement = ehr, statement
        self.posted = []

    def answer(self, request):
        if request.url.path.endswith("/metadata"):
            return httpx.Response(200, json=self.statement)
        if request.method in {"POST", "PUT"} and "_search" not in request.url.path:
            self.posted.append(request.url.path.rpartition("/fhir")[2])
        with httpx.Client(base_url=self.ehr.client.base_url) as through:
            return through.request(
                request.method,
                request.url.raw_path.decode().removeprefix("/fhir/"),
                content=request.content,
                headers={
                    k: v
                    for k, v in request.headers.items()
                    if k in {"content-type", "if-none-exist"}
                },
            )


def test_an_ehr_without_reports_gets_a_document_with_a_pdf(ehr):
    there = Server(ehr, _capable("Patient", "DocumentReference", "Organization"))
    server = serve(client(there.answer))
    one = about(3, "Patient/1")
    server.send(one)
    server.send(one)
    server.send(later(one))
    documents = ehr.store.search("DocumentReference", {})
    assert [d["status"] for d in documents] == ["superseded", "current"]
    assert (
        documents[1]["relatesTo"][0]["target"]["reference"]
        == f"DocumentReference/{documents[0]['id']}"
    )
    assert documents[0]["content"][0]["attachment"]["contentType"] == "application/pdf"
    assert server.holds(later(one))


def test_an_ehr_that_takes_neither_is_told_plainly_or_gets_hl7(ehr):
    there = Server(ehr, _capable("Patient"))
    one = about(3, "Patient/1")
    with pytest.raises(Rejected, match=r"ehr\.hl7"):
        serve(client(there.answer)).send(one)
    sent = []

    class Engine:
        def send(self, result):
            sent.append(result)

        def holds(self, result):
            return result in sent

    server = serve(client(there.answer), otherwise=Engine())
    server.send(one)
    assert server.holds(one)


def test_a_server_without_transactions_gets_one_resource_after_the_other(ehr):
    types = (
        "Patient", "DiagnosticReport", "Observation", "Media", "Provenance", "Organization",
        "Device", "ImagingStudy",
    )  # fmt: skip
    there = Server(ehr, _capable(*types, transaction=False))
    server = serve(client(there.answer))
    one = with_lesions("Patient/1")
    for outcome in (one, one, later(one)):
        server.send(outcome)
    assert "/" not in there.posted
    assert len(ehr.store.search("DiagnosticReport", {})) == 1
    assert len(ehr.store.search("Observation", {})) == 3
    [report] = ehr.store.search("DiagnosticReport", {})
    assert report["status"] == "amended"
    assert "urn:uuid" not in json.dumps(report)


def test_pages_and_pictures_are_the_same_bytes_in_every_process():
    code = (
        "import hashlib, sys; sys.path.insert(0, 'tests')\n"
        "from kit.results import result\n"
        "from bonetumor.picture.illustration import illustrate\n"
        "print(hashlib.sha256(illustrate(result(3), []).pdf).hexdigest())"
    )
    said = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        for _ in range(2)
    }
    assert len(said) == 1
