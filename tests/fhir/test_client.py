"""The client against servers that misbehave."""

from io import BytesIO
from urllib.parse import parse_qs

import httpx
import pytest

from bonetumor.domain.errors import FhirUnavailable, MalformedResource, Rejected
from bonetumor.fhir.auth import BearerToken
from bonetumor.fhir.capabilities import Capabilities
from bonetumor.fhir.client import FhirClient, reference_id
from bonetumor.fhir.transport import Breaker, Refused
from kit.fhir import BASE, client, page


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


def test_a_server_that_shows_less_than_it_counts_is_asked_for_all_or_refused():
    asked = []

    def short(most):
        def answer(request):
            count = int(parse_qs(request.content.decode())["_count"][0])
            asked.append(count)
            found = [{"resource": {"resourceType": "Patient", "id": "1"}}] * min(count, most)
            return httpx.Response(200, json={"total": 700, "entry": found})

        return answer

    assert len(list(client(short(10_000)).search("Patient", {}))) == 700
    assert asked == [200, 700]
    with pytest.raises(MalformedResource, match="expected 700 entries or a next page, got 300"):
        list(client(short(300)).search("Patient", {}))


def test_a_link_to_another_origin_is_not_followed():
    with pytest.raises(MalformedResource, match="origin"):
        list(client(lambda _: page(following="http://evil.test/x")).search("Patient", {}))
    with pytest.raises(MalformedResource, match="origin"):
        client(lambda _: page()).download("http://evil.test/x", BytesIO(), max_bytes=10)


def test_endless_pages_end():
    with pytest.raises(MalformedResource, match="the same again"):
        list(client(lambda _: page(following=f"{BASE}/Patient?page=2")).search("Patient", {}))
    numbers = iter(range(1000))

    def onwards(_request):
        return page(following=f"{BASE}/Patient?page={next(numbers)}")

    with pytest.raises(MalformedResource, match="at most 200 pages"):
        list(client(onwards).search("Patient", {}))


def test_a_large_attachment_is_cut_off():
    with pytest.raises(MalformedResource, match="at most 10 bytes"):
        client(lambda _: httpx.Response(200, content=b"x" * 11)).download(
            "Binary/1", BytesIO(), max_bytes=10
        )


def test_searches_by_post_keep_criteria_out_of_the_url():
    seen = []

    def note(request):
        seen.append((request.method, str(request.url), request.content))
        return page()

    list(client(note).search("Patient", {"identifier": "s|secret"}))
    [(method, url, content)] = seen
    assert method == "POST"
    assert url.endswith("/Patient/_search")
    assert b"secret" in content


def test_a_server_without_search_by_post_is_asked_by_get_from_then_on():
    seen = []

    def only_get(request):
        seen.append(request.method)
        return page() if request.method == "GET" else httpx.Response(405)

    asked = client(only_get)
    list(asked.search("Patient", {}))
    list(asked.search("Patient", {}))
    assert seen == ["POST", "GET", "GET"]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_idempotent_call_is_tried_again_at_once_and_no_other(status):
    seen = []

    def busy_twice(request):
        seen.append(request.method)
        return page() if len(seen) == 3 else httpx.Response(status)

    list(client(busy_twice).search("Patient", {}))
    assert len(seen) == 3
    seen.clear()
    with pytest.raises(FhirUnavailable):
        client(busy_twice).transact({})
    assert seen == ["POST"]


def test_an_error_of_the_server_itself_is_not_repeated_at_once():
    seen = []

    def fails(request):
        seen.append(1)
        return httpx.Response(500)

    with pytest.raises(FhirUnavailable):
        client(fails).metadata()
    assert len(seen) == 1


@pytest.mark.parametrize("asked", ["2", "Fri, 01 Jan 2100 00:00:00 GMT", None, "soon"])
def test_retry_after_is_honoured(asked):
    waited = []
    headers = {} if asked is None else {"Retry-After": asked}
    http = httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(503, headers=headers))
    )
    busy = FhirClient(BASE, http=http, sleep=waited.append)
    with pytest.raises(FhirUnavailable) as caught:
        busy.metadata()
    if asked == "2":
        assert waited == [2.0, 2.0]
        assert caught.value.retry_after_s == 2.0
    elif asked and "2100" in asked:
        assert waited == []  # too long to wait here: the ledger puts the study off
        assert caught.value.retry_after_s == 3600
    else:
        assert all(0 < w < 1 for w in waited)


def test_half_a_body_and_a_dripping_one_are_unavailable():
    with pytest.raises(FhirUnavailable, match="expected JSON"):
        client(lambda _: httpx.Response(200, content=b'{"resourceType": "Bun')).metadata()


def test_a_server_that_keeps_failing_is_left_alone_and_asked_again_later():
    now = [0.0]
    breaker = Breaker(failures=3, rest_s=10, clock=lambda: now[0])
    for _ in range(3):
        breaker.check()
        breaker.note(well=False)
    with pytest.raises(FhirUnavailable, match="left alone") as caught:
        breaker.check()
    assert caught.value.retry_after_s == 10
    now[0] = 10.0
    breaker.check()  # one call goes through
    with pytest.raises(FhirUnavailable):
        breaker.check()
    breaker.note(well=True)
    breaker.check()


def test_the_token_goes_to_the_fhir_origin_alone():
    seen = []

    def note(request):
        seen.append((str(request.url), request.headers.get("Authorization")))
        return page(following="http://evil.test/next")

    with pytest.raises(MalformedResource):
        list(client(note, authorization=BearerToken("t")).search("Patient", {}))
    assert seen == [(f"{BASE}/Patient/_search", "Bearer t")]


def test_refused_credentials_make_the_server_unavailable_and_fail_no_study():
    with pytest.raises(FhirUnavailable, match="credentials"):
        client(lambda _: httpx.Response(401), authorization=BearerToken("t")).metadata()


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("Patient/1", "Patient/1"),
        (f"{BASE}/Patient/1", "Patient/1"),
        ("http://elsewhere.test/fhir/Patient/1", None),
        ("urn:uuid:1", None),
        ("/Patient/1", None),
    ],
)
def test_a_reference_to_another_server_is_never_taken_for_one_of_ours(reference, expected):
    assert reference_id(reference, f"{BASE}/") == expected


def test_the_capability_statement_is_read_once_and_obeyed():
    statement = {
        "fhirVersion": "4.0.1",
        "rest": [
            {
                "mode": "server",
                "resource": [
                    {"type": "Patient", "interaction": [{"code": "read"}]},
                    {"type": "Observation", "searchParam": [{"name": "patient"}]},
                ],
                "interaction": [{"code": "batch"}],
            }
        ],
    }
    seen = []

    def note(_request):
        seen.append(1)
        return httpx.Response(200, json=statement)

    asked = client(note)
    offered = asked.capabilities()
    assert asked.capabilities() is offered
    assert len(seen) == 1
    assert offered.offers("Patient", "read")
    assert not offered.offers("Patient", "create")
    assert not offered.offers("Media", "read")
    assert offered.offers("Observation", "create")
    assert not offered.searches_by("Observation", "date")
    assert not offered.transacts
    assert Capabilities({"rest": [{"mode": "server"}]}).offers("Anything", "create")


def test_errors_never_quote_the_query():
    with pytest.raises(FhirUnavailable) as caught:
        list(client(lambda _: httpx.Response(503)).search("Patient", {"identifier": "s|secret"}))
    assert "secret" not in str(caught.value)


def test_an_error_inside_a_transaction_is_rejected():
    answer = {"resourceType": "Bundle", "entry": [{"response": {"status": "422"}}]}
    with pytest.raises(Refused, match="422"):
        client(lambda _: httpx.Response(200, json=answer)).transact({})


def test_conditional_creates_and_transactions_make_nothing_twice(ehr):
    fhir = ehr.client
    device = {"resourceType": "Device", "identifier": [{"system": "s", "value": "v"}]}
    assert fhir.create_once(device, {"identifier": "s|v"}) == fhir.create_once(
        device, {"identifier": "s|v"}
    )
    assert len(ehr.store.search("Device", {})) == 1


def test_a_server_that_ignores_the_criteria_gives_us_no_one_elses_resource():
    posted = []

    def answer(request):
        if "_search" in request.url.path:
            other = {"identifier": [{"system": "s", "value": "other"}], "id": "9"}
            return page({"resourceType": "Device", **other})
        posted.append(request.url.path)
        return httpx.Response(201, json={"resourceType": "Device", "id": "10"})

    device = {"resourceType": "Device", "identifier": [{"system": "s", "value": "v"}]}
    assert client(answer).create_once(device, {"identifier": "s|v"}) == "Device/10"
    assert len(posted) == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx.Response(201, json={"resourceType": "Device", "id": "10"}), "Device/10"),
        (httpx.Response(201, headers={"Location": f"{BASE}/Device/11/_history/1"}), "Device/11"),
        (httpx.Response(201, headers={"Location": "Device/12"}), "Device/12"),
        (httpx.Response(201), None),
        (httpx.Response(201, headers={"Location": "/elsewhere"}), None),
    ],
)
def test_a_server_may_answer_a_create_with_or_without_a_body(answer, expected):
    device = {"resourceType": "Device", "identifier": [{"system": "s", "value": "v"}]}
    asked = client(lambda r: page() if "_search" in r.url.path else answer)
    if expected is None:
        with pytest.raises(MalformedResource, match="neither body nor Location"):
            asked.create_once(device, {"identifier": "s|v"})
    else:
        assert asked.create_once(device, {"identifier": "s|v"}) == expected


def test_a_transaction_bundle_can_be_loaded_into_the_simulated_ehr(ehr):
    patient = {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient"}}
    lab = {"resourceType": "Observation", "subject": {"reference": "urn:uuid:1"}}
    ehr.store.load({"entry": [patient, {"resource": lab}, {"request": {}}]})
    [found] = ehr.store.search("Observation", {"patient": "loaded-0"})
    assert found["subject"]["reference"] == "Patient/loaded-0"
