"""The client against servers that misbehave, and the matcher against patients that almost match."""

from datetime import timedelta

import httpx
import pytest

from bonetumor.domain.errors import FhirUnavailable, MalformedResource, PatientNotMatched, Rejected
from bonetumor.domain.study import PatientIdentity
from bonetumor.fhir.client import FhirClient
from bonetumor.fhir.labs import LabWindow
from bonetumor.fhir.pathology import read_pathology
from bonetumor.fhir.patient import PatientMatcher
from bonetumor.fhir.record import FhirHealthRecord
from bonetumor.simulator.ehr import SimulatedEhr

WINDOW = LabWindow(before=timedelta(days=1), after=timedelta(days=1))
BASE = "http://ehr.test/fhir"


def client(handler, **options):
    return FhirClient(BASE, transport=httpx.MockTransport(handler), **options)


def page(*resources, following=None):
    bundle = {"resourceType": "Bundle", "type": "searchset"}
    if resources:
        bundle["entry"] = [{"resource": r} for r in resources]
    if following:
        bundle["link"] = [{"relation": "next", "url": following}]
    return httpx.Response(200, json=bundle)


@pytest.mark.parametrize("status", [401, 408, 429, 500, 502, 503, 504])
def test_what_may_come_back_is_unavailable(status):
    with pytest.raises(FhirUnavailable, match=f"got {status}"):
        client(lambda _: httpx.Response(status)).metadata()


@pytest.mark.parametrize("status", [400, 403, 404, 409, 412, 422])
def test_what_was_refused_is_rejected_with_the_servers_codes(status):
    outcome = {
        "issue": [{"code": "invalid", "expression": ["Patient.name"], "diagnostics": "Jane Doe"}]
    }
    with pytest.raises(Rejected, match=r"invalid Patient\.name") as caught:
        client(lambda _: httpx.Response(status, json=outcome)).metadata()
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError]
)
def test_a_broken_connection_is_unavailable(error):
    def broken(request):
        raise error("broken", request=request)

    with pytest.raises(FhirUnavailable, match=error.__name__):
        client(broken).metadata()


def test_an_answer_that_is_no_json_is_unavailable():
    with pytest.raises(FhirUnavailable, match="expected JSON"):
        client(lambda _: httpx.Response(200, text="<html>")).metadata()


def test_pages_are_followed_and_a_bundle_without_entries_is_empty():
    def pages(request):
        if "page" not in str(request.url):
            return page({"resourceType": "Patient", "id": "1"}, following=f"{BASE}/Patient?page=2")
        return page({"resourceType": "Patient", "id": "2"}, {"resourceType": "OperationOutcome"})

    assert [p["id"] for p in client(pages).search("Patient", {})] == ["1", "2"]
    assert list(client(lambda _: page()).search("Patient", {})) == []


def test_a_link_to_another_origin_is_not_followed():
    with pytest.raises(MalformedResource, match="origin"):
        list(client(lambda _: page(following="http://evil.test/x")).search("Patient", {}))
    with pytest.raises(MalformedResource, match="origin"):
        client(lambda _: page()).download("http://evil.test/x", max_bytes=10)


def test_endless_pages_end():
    with pytest.raises(MalformedResource, match="at most 50 pages"):
        list(client(lambda _: page(following=f"{BASE}/Patient?page=2")).search("Patient", {}))


def test_a_large_attachment_is_cut_off():
    with pytest.raises(MalformedResource, match="at most 10 bytes"):
        client(lambda _: httpx.Response(200, content=b"x" * 11)).download("Binary/1", max_bytes=10)


def test_searches_by_post_keep_criteria_out_of_the_url():
    seen = []

    def note(request):
        seen.append((request.method, str(request.url), request.content))
        return page()

    list(client(note, search_by_post=True).search("Patient", {"identifier": "s|secret"}))
    [(method, url, content)] = seen
    assert method == "POST"
    assert url.endswith("/Patient/_search")
    assert b"secret" in content


def test_errors_never_quote_the_query():
    with pytest.raises(FhirUnavailable) as caught:
        list(client(lambda _: httpx.Response(503)).search("Patient", {"identifier": "s|secret"}))
    assert "secret" not in str(caught.value)


def test_an_error_inside_a_transaction_is_rejected():
    answer = {"resourceType": "Bundle", "entry": [{"response": {"status": "422"}}]}
    with pytest.raises(Rejected, match="422"):
        client(lambda _: httpx.Response(200, json=answer)).transact({})


@pytest.fixture
def ehr():
    server = SimulatedEhr()
    server.client = FhirClient(server.start())
    yield server
    server.client.close()
    server.stop()


def _patient(key="1", value="P1", **more):
    return {
        "resourceType": "Patient",
        "id": key,
        "identifier": [{"system": "urn:h", "value": value}],
        "birthDate": "2000-02-03",
        "gender": "female",
    } | more


def _bundle(resources):
    return {"resourceType": "Bundle", "entry": [{"resource": r} for r in resources]}


IDENTITY = PatientIdentity(patient_id="P1", issuer="H", birth_date="2000-02-03", sex="F")


def _match(ehr, identity=IDENTITY, *patients):
    ehr.store.load(_bundle(patients))
    return PatientMatcher(ehr.client, {"H": "urn:h"}).find(identity)


def test_the_one_patient_who_agrees_is_found(ehr):
    assert _match(ehr, IDENTITY, _patient("1"), _patient("2", "P2")) == "Patient/1"


@pytest.mark.parametrize(
    ("patients", "reason"),
    [
        ([], "got 0"),
        ([_patient("1"), _patient("2")], "got 2"),
        ([_patient(birthDate="2000-03-02")], "birth date"),
        ([_patient(gender="male")], "sex"),
        ([_patient(identifier=[{"system": "urn:other", "value": "P1"}])], "got 0"),
        ([_patient(active=False)], "got 0"),
    ],
)
def test_anyone_else_is_not(ehr, patients, reason):
    with pytest.raises(PatientNotMatched, match=reason) as caught:
        _match(ehr, IDENTITY, *patients)
    assert "P1" not in str(caught.value)


def test_images_without_id_or_with_a_foreign_issuer_match_nobody(ehr):
    for identity in (
        PatientIdentity(patient_id="", issuer="H", birth_date=None, sex=None),
        PatientIdentity(patient_id="P1", issuer="elsewhere", birth_date=None, sex=None),
    ):
        with pytest.raises(PatientNotMatched):
            _match(ehr, identity, _patient())


def test_a_server_that_ignores_the_search_cannot_give_a_wrong_patient():
    def everyone(_request):
        return page(_patient("1", "P1"), _patient("2", "P2"), _patient("3", "P3"))

    matcher = PatientMatcher(client(everyone), {"H": "urn:h"})
    assert matcher.find(IDENTITY) == "Patient/1"


def test_conditional_creates_and_transactions_make_nothing_twice(ehr):
    fhir = ehr.client
    device = {"resourceType": "Device", "identifier": [{"system": "s", "value": "v"}]}
    assert fhir.create_once(device, {"identifier": "s|v"}) == fhir.create_once(
        device, {"identifier": "s|v"}
    )
    assert len(ehr.store.search("Device", {})) == 1


def test_pathology_is_found_by_its_codes_and_broken_slides_are_named(ehr):
    subject = {"reference": "Patient/1"}
    loinc = {"coding": [{"system": "http://loinc.org", "code": "11526-1"}]}
    ehr.store.load(
        _bundle(
            [
                {
                    "resourceType": "Media",
                    "id": "m",
                    "status": "completed",
                    "subject": subject,
                    "content": {"contentType": "image/png", "data": "aGVsbG8="},
                },
                {
                    "resourceType": "DiagnosticReport",
                    "id": "d",
                    "status": "final",
                    "code": loinc,
                    "subject": subject,
                    "media": [{"link": {"reference": "Media/m"}}],
                },
                {
                    "resourceType": "DiagnosticReport",
                    "id": "other",
                    "status": "final",
                    "subject": subject,
                    "code": {"coding": [{"code": "24627-2"}]},
                },
                {
                    "resourceType": "DocumentReference",
                    "id": "x",
                    "status": "current",
                    "type": loinc,
                    "subject": subject,
                    "content": [
                        {
                            "attachment": {
                                "contentType": "image/jpeg",
                                "url": "http://evil.test/a.jpg",
                            }
                        }
                    ],
                },
            ]
        )
    )
    found = read_pathology(ehr.client, "Patient/1")
    assert found.reports == ("DiagnosticReport/d",)
    assert [(s.source, s.data) for s in found.slides] == [("Media/m", b"hello")]
    assert "origin" in found.not_understood[0]
    assert read_pathology(ehr.client, "Patient/2") is None


def test_a_transaction_bundle_can_be_loaded_into_the_simulated_ehr(ehr):
    patient = {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient"}}
    lab = {"resourceType": "Observation", "subject": {"reference": "urn:uuid:1"}}
    ehr.store.load({"entry": [patient, {"resource": lab}, {"request": {}}]})
    [found] = ehr.store.search("Observation", {"patient": "loaded-0"})
    assert found["subject"]["reference"] == "Patient/loaded-0"


def test_a_server_that_knows_no_pathology_is_named_and_not_fatal():
    def refuse(request):
        return httpx.Response(404, json={"issue": [{"code": "not-supported"}]})

    found = read_pathology(client(refuse), "Patient/1")
    assert [said.split(":")[0] for said in found.not_understood] == [
        "DiagnosticReport",
        "DocumentReference",
    ]
    record = FhirHealthRecord(client(refuse), PatientMatcher(client(refuse), {}), WINDOW)
    assert record.order("Patient/1", "A1") is None


def test_a_server_that_is_down_is_never_taken_for_one_that_holds_nothing():
    with pytest.raises(FhirUnavailable):
        read_pathology(client(lambda _: httpx.Response(503)), "Patient/1")
