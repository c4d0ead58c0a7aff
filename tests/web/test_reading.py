"""The read API: who may read, and what they find."""

import json
import time
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.testclient import TestClient

from bonetumor.domain.errors import Misconfigured
from bonetumor.fhir.shelf import shelve
from bonetumor.picture.illustration import Illustration
from bonetumor.service.ledger import Predecessor
from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger
from bonetumor.web.access import SiteToken, SmartTokens
from bonetumor.web.reading import build_read_api
from bonetumor.worker import wiring_ehr
from bonetumor.worker.settings import Settings
from kit.results import result

PICTURE = Illustration(png=b"png", pdf=b"pdf")
EHR = "https://ehr.test/fhir"
SYSTEMS = {"": "urn:ours", "OTHER": "urn:other"}
KEY = rsa.generate_private_key(65537, 2048)
PAST = 1_700_000_000
READ = {"Authorization": "Bearer site"}


@pytest.fixture
def ledger(tmp_path):
    made = SqlLedger(
        open_engine(f"sqlite:///{tmp_path / 'l.sqlite'}"),
        clock=lambda: datetime.now(UTC),
        lease=timedelta(minutes=1),
        max_attempts=3,
    )
    made.prepare()
    yield made
    made.close()


def put(ledger, seed, **change):
    from dataclasses import replace

    one = replace(result(seed), **change)
    ledger.keep(shelve(one, PICTURE, "Test hospital", EHR, SYSTEMS))
    return one


@pytest.fixture
def api(ledger):
    put(ledger, 3)
    app = build_read_api(ledger, SiteToken("site"), version="1", key_set={"keys": []})
    with TestClient(app) as client:
        client.headers.update(READ)
        yield client


def found(answer, kind="DiagnosticReport"):
    assert answer.status_code == 200, answer.text
    return [e["resource"] for e in answer.json()["entry"] if e["resource"]["resourceType"] == kind]


def test_everything_a_report_refers_to_can_be_read_and_the_rest_is_the_ehrs(api):
    [report] = found(api.get("/fhir/DiagnosticReport?patient=Patient/1"))
    assert api.get(f"/fhir/DiagnosticReport/{report['id']}").json() == report
    references = {
        m["reference"]
        for kind in ("DiagnosticReport", "Observation", "Provenance")
        for r in found(api.get(f"/fhir/{kind}"), kind)
        for m in _references(r)
    }
    assert references
    for reference in references:
        if not reference.startswith(EHR):
            assert api.get(f"/fhir/{reference}").status_code == 200, reference
    assert f"{EHR}/Patient/1" in references


def _references(value):
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_reports_are_found_by_patient_identifier_accession_date_category_and_code(ledger, api):
    one = next(
        r for r in map(result, range(50)) if r.header.accession_number and r.header.acquired_at
    )
    ledger.keep(shelve(one, PICTURE, "Test hospital", EHR, SYSTEMS))
    run = one.assessment.run_key
    day = f"{one.header.acquired_at:%Y-%m-%d}"
    for criteria in (
        f"identifier={one.header.accession_number}",
        f"identifier=https://bonetumor.example/fhir/run|{run}",
        "patient=1",
        "subject=Patient/1",
        "patient.identifier=urn:ours|P",
        "patient.identifier=P",
        f"date={day}",
        f"date=ge{day}",
        f"date={day[:7]}",
        f"date=ge{day}&date=le{day}",
        f"date=ge{day}T00:00:00%2B14:00",
        "code=1-1,18748-4",
        "category=RAD&category=LP29684-5",
        "category=RAD",
        "category=http://loinc.org|LP29684-5",
        "code=18748-4",
    ):
        values = [
            i["value"]
            for r in found(api.get(f"/fhir/DiagnosticReport?{criteria}"))
            for i in r["identifier"]
        ]
        assert run in values, criteria
    for criteria in (
        "identifier=none",
        "patient=2",
        "date=lt1990",
        "date=lt1990&date=ge1980",
        "date=ge1980&date=lt1990",
        "category=LAB",
        "category=RAD&category=LAB",
        "code=1-1",
    ):
        assert found(api.get(f"/fhir/DiagnosticReport?{criteria}")) == [], criteria


def test_a_search_by_post_is_answered_alike(api):
    answer = api.post("/fhir/DiagnosticReport/_search", data={"patient": "1"})
    assert len(found(answer)) == 1
    assert api.post("/fhir/DiagnosticReport/_search", content=b"x" * 70_000).status_code == 413


def test_pages_are_linked(ledger, api):
    for seed in range(10, 15):
        put(ledger, seed)
    seen, url = [], "/fhir/DiagnosticReport?_count=2"
    while url:
        page = api.get(url).json()
        seen += [e["resource"]["id"] for e in page["entry"]]
        links = page.get("link", [])
        url = f"/fhir/{links[0]['url']}" if links else None
    assert len(seen) == len(set(seen)) == 6


def test_a_later_report_takes_the_place_of_the_earlier_and_names_it(ledger, api):
    first = result(3)
    before = Predecessor(
        sop_instance_uid="1", series_instance_uid="1", run_key=first.assessment.run_key
    )
    from dataclasses import replace

    put(ledger, 3, predecessor=before, assessment=replace(first.assessment, run_key="b" * 64))
    [report] = found(api.get("/fhir/DiagnosticReport"))
    assert report["status"] == "amended"
    [extension] = report["extension"]
    old = api.get(f"/fhir/{extension['valueReference']['reference']}")
    assert old.status_code == 200
    assert old.json()["id"] != report["id"]


def test_keeping_a_report_again_changes_nothing(ledger, api):
    before = api.get("/fhir/DiagnosticReport").json()
    put(ledger, 3)
    assert api.get("/fhir/DiagnosticReport").json() == before


def test_a_study_without_an_ehr_names_its_patient_by_identifier(ledger, api):
    from dataclasses import replace

    one = result(4)
    put(ledger, 4, evidence=replace(one.evidence, patient=None, labs=None))
    reports = found(api.get("/fhir/DiagnosticReport?patient.identifier=P"))
    assert {"identifier": {"system": "urn:ours", "value": "P"}} in [r["subject"] for r in reports]


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/fhir/Patient", 400),
        ("/fhir/DiagnosticReport?colour=red", 400),
        ("/fhir/DiagnosticReport?date=yesterday", 400),
        ("/fhir/DiagnosticReport?date=zz2026", 400),
        ("/fhir/DiagnosticReport?_count=many", 400),
        ("/fhir/DiagnosticReport?_count=%C2%B2", 400),
        ("/fhir/DiagnosticReport?date=9999-12", 400),
        ("/fhir/DiagnosticReport?date=9999-12-31", 400),
        ("/fhir/DiagnosticReport?date=0001-01-01T00:00:00%2B14:00", 400),
        ("/fhir/DiagnosticReport?patient=", 400),
        ("/fhir/DiagnosticReport?patient=1&patient=2", 400),
        ("/fhir/DiagnosticReport?patient=1,2", 400),
        ("/fhir/DiagnosticReport?_count=0", 200),
        ("/fhir/DiagnosticReport/none", 404),
        ("/fhir/Observation/..%2f..%2fetc", 404),
    ],
)
def test_wrong_questions_get_a_reason(api, url, status):
    answer = api.get(url)
    assert answer.status_code == status
    if "fhir/Observation/.." not in url and status != 200:
        assert answer.json()["resourceType"] == "OperationOutcome"


def test_nobody_reads_without_a_token_but_capabilities_are_public(api):
    for headers in (
        {"Authorization": ""},
        {"Authorization": "Bearer other"},
        {"Authorization": "Basic x"},
    ):
        denied = api.get("/fhir/DiagnosticReport", headers=headers)
        assert denied.status_code == 401
        assert denied.headers["WWW-Authenticate"] == "Bearer"
    public = api.get("/fhir/metadata", headers={"Authorization": ""})
    assert public.json()["fhirVersion"] == "4.0.1"
    assert api.get("/.well-known/jwks.json", headers={"Authorization": ""}).json() == {"keys": []}
    assert api.get("/health").text == "well"


def token(**change):
    claims = {
        "iss": "https://auth.test",
        "aud": "https://us.test/fhir",
        "exp": time.time() + 60,
        "scope": "system/DiagnosticReport.rs system/Observation.read",
    } | change
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, KEY, "RS384")


@pytest.mark.parametrize(
    ("said", "kind", "status"),
    [
        ({}, "DiagnosticReport", 200),
        ({}, "Observation", 200),
        ({}, "Provenance", 403),
        ({"scope": "user/*.read"}, "Provenance", 200),
        ({"scope": "patient/*.rs"}, "DiagnosticReport", 403),
        ({"scope": "system/DiagnosticReport.cud"}, "DiagnosticReport", 403),
        ({"exp": PAST}, "DiagnosticReport", 401),
        ({"exp": None}, "DiagnosticReport", 401),
        ({"aud": "https://elsewhere.test"}, "DiagnosticReport", 401),
        ({"iss": "https://elsewhere.test"}, "DiagnosticReport", 401),
        (lambda: jwt.encode({"scope": "system/*.rs"}, "", "none"), "DiagnosticReport", 401),
        (lambda: jwt.encode({"scope": "system/*.rs"}, "k" * 64, "HS384"), "DiagnosticReport", 401),
        (lambda: token()[:-4] + "AAAA", "DiagnosticReport", 401),
        (lambda: "garbage", "DiagnosticReport", 401),
    ],
)
def test_smart_tokens_are_checked(ledger, said, kind, status):
    put(ledger, 3)
    bearer = said() if callable(said) else token(**said)
    access = SmartTokens(
        issuer="https://auth.test",
        audience="https://us.test/fhir",
        key_of=lambda _: KEY.public_key(),
    )
    app = build_read_api(ledger, access, version="1", key_set={})
    with TestClient(app) as client:
        answer = client.get(f"/fhir/{kind}", headers={"Authorization": f"Bearer {bearer}"})
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    "web", [{}, {"token": "t", "issuer": "x"}, {"issuer": "x", "jwks_url": "https://y"}]
)
def test_an_open_door_is_refused_at_start(ledger, web):
    with pytest.raises(Misconfigured, match="web: expected either"):
        wiring_ehr.build_web(Settings(web=web), ledger)


def test_the_graph_that_we_serve_is_what_we_post_but_for_its_names(ledger, api):
    [report] = found(api.get("/fhir/DiagnosticReport"))
    assert report["conclusion"].startswith("PRELIMINARY AI OUTPUT")
    assert report["meta"]["security"][0]["code"] == "AIAST"
    assert "urn:uuid" not in json.dumps(report["result"])
