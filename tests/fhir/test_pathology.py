"""Pathology: found by its codes, fetched from where it may come, and named where it fails."""

import base64
import tempfile
from io import BytesIO

import httpx
import pytest
from PIL import Image

from bonetumor.domain.errors import FhirUnavailable, StorageUnavailable, UnsupportedImage
from bonetumor.fhir.analytes import build_catalogue
from bonetumor.fhir.attachments import AttachmentLimits, Attachments, Kind, sniff
from bonetumor.fhir.auth import BearerToken
from bonetumor.fhir.client import FhirClient
from bonetumor.fhir.pathology import PathologyReader
from bonetumor.fhir.patient import PatientMatcher
from bonetumor.fhir.record import FhirHealthRecord
from bonetumor.service.ports import SlideAddress
from kit.fhir import BASE, client, collection

SUBJECT = {"reference": "Patient/1"}
PATHOLOGY = {"coding": [{"system": "http://loinc.org", "code": "11526-1"}]}


class Slides:
    """A unit's stand-in for the room that reads whole slides; the real one has its own tests."""

    def __init__(self):
        self.asked = []

    def sample_file(self, file):
        self.asked.append(file.read_bytes()[:4])
        return b"tiles of a file"

    def sample_dicomweb(self, address):
        self.asked.append(address)
        if address.series_instance_uid == "bad":
            raise UnsupportedImage("whole slide: expected tissue, got none")
        return b"tiles of " + address.series_instance_uid.encode()


def png(colour=(200, 80, 120)) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def media(key, data):
    return {
        "resourceType": "Media",
        "id": key,
        "status": "completed",
        "subject": SUBJECT,
        "content": {"contentType": "image/png", "data": text_of(data)},
    }


def report(key="d", **more):
    return {
        "resourceType": "DiagnosticReport",
        "id": key,
        "status": "final",
        "code": PATHOLOGY,
        "subject": SUBJECT,
    } | more


def document(key, url):
    attachment = {"contentType": "image/jpeg", "url": url}
    return {
        "resourceType": "DocumentReference",
        "id": key,
        "status": "current",
        "type": PATHOLOGY,
        "subject": SUBJECT,
        "content": [{"attachment": attachment}],
    }


def study(key="s", series=({"uid": "1.2.3"},), **more):
    return {
        "resourceType": "ImagingStudy",
        "id": key,
        "status": "available",
        "subject": SUBJECT,
        "modality": [{"code": "SM"}],
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2"}],
        "series": list(series),
    } | more


def reader(fhir, slides=None, **limits) -> PathologyReader:
    outside = limits.pop("outside", None)
    attachments = Attachments(fhir, AttachmentLimits(**limits), outside)
    return PathologyReader(fhir, attachments, slides or Slides(), dicomweb_url="http://pacs.test/w")


def read(ehr, *resources, slides=None, **limits):
    ehr.store.load(collection(*resources))
    return reader(ehr.client, slides, **limits).read("Patient/1")


def test_it_is_found_by_its_codes_and_what_is_broken_is_named(ehr):
    other = report("other", code={"coding": [{"code": "24627-2"}]}, media=[])
    found = read(
        ehr,
        media("m", png()),
        report(media=[{"link": {"reference": "Media/m"}}]),
        other,
        report("void", status="entered-in-error"),
        document("x", "http://evil.test/a.jpg"),
    )
    assert found.reports == ("DiagnosticReport/d", "DocumentReference/x")
    assert [(s.source, s.data) for s in found.slides] == [("Media/m", png())]
    assert "a listed one" in found.not_understood[0]
    assert reader(ehr.client).read("Patient/2") is None


def test_the_same_picture_twice_is_one_slide(ehr):
    form = {"contentType": "image/png", "data": text_of(png())}
    found = read(
        ehr,
        media("m", png()),
        report(media=[{"link": {"reference": "Media/m"}}], presentedForm=[form, form]),
    )
    assert len(found.slides) == 1


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (png(), Kind.PICTURE),
        (b"\xff\xd8\xff\xe0", Kind.PICTURE),
        (b"II*\0rest", Kind.SLIDE),
        (b"MM\0+rest", Kind.SLIDE),
        (b"\0" * 128 + b"DICM", Kind.SLIDE),
        (b"<html>", Kind.OTHER),
        (b"%PDF-1.7", Kind.OTHER),
        (b"", Kind.OTHER),
    ],
)
def test_a_file_is_what_its_first_bytes_say(data, kind):
    assert sniff(data)[0] is kind


def test_what_calls_itself_a_picture_and_is_none_is_named(ehr):
    form = {"contentType": "image/png", "data": text_of(b"<html>not found</html>")}
    text = {"contentType": "text/plain", "data": text_of(b"no tumour cells")}
    found = read(ehr, report(presentedForm=[form, text]))
    assert found.slides == ()
    [said] = found.not_understood
    assert "expected JPEG, PNG, TIFF or DICOM" in said


@pytest.mark.parametrize(
    ("attachment", "reason"),
    [
        ({"contentType": "image/png"}, "neither"),
        ({"contentType": "image/png", "data": "&&&"}, "base64"),
        ({"contentType": "image/png", "url": "file:///etc/passwd"}, "a listed one"),
        ({"contentType": "image/png", "url": "http://ehr.test.evil/x"}, "a listed one"),
    ],
)
def test_a_broken_attachment_is_named(ehr, attachment, reason):
    [said] = read(ehr, report(presentedForm=[attachment])).not_understood
    assert reason in said


def test_a_whole_slide_as_a_file_is_sampled(ehr):
    slides = Slides()
    form = {"contentType": "image/tiff", "data": text_of(b"II*\0 and so on")}
    found = read(ehr, report(presentedForm=[form]), slides=slides)
    assert [s.data for s in found.slides] == [b"tiles of a file"]
    assert slides.asked == [b"II*\0"]


def test_whole_slides_behind_an_imaging_study_are_sampled_over_dicomweb(ehr):
    slides = Slides()
    endpoint = {"resourceType": "Endpoint", "id": "e", "address": "http://wado.test/dicom-web"}
    stray = {"resourceType": "Endpoint", "id": "f", "address": "http://evil.test/dicom-web"}
    found = read(
        ehr,
        endpoint,
        stray,
        study("a", endpoint=[{"reference": "Endpoint/f"}, {"reference": "Endpoint/e"}]),
        study("b", [{"uid": "4"}, {"uid": "bad"}, {"uid": "5", "modality": {"code": "DX"}}]),
        study("c", modality=[{"code": "CT"}]),
        study("d", identifier=[]),
        slides=slides,
        origins=["http://wado.test"],
    )
    assert slides.asked == [
        SlideAddress("http://wado.test/dicom-web", "1.2", "1.2.3"),
        SlideAddress("http://pacs.test/w", "1.2", "4"),
        SlideAddress("http://pacs.test/w", "1.2", "bad"),
    ]
    assert {s.source for s in found.slides} == {"ImagingStudy/a#1.2.3", "ImagingStudy/b#4"}
    assert len(found.not_understood) == 2


def test_slides_beyond_those_that_are_taken_are_named(ehr):
    found = read(ehr, study(series=[{"uid": f"1.2.{n}"} for n in range(17)]))
    assert len(found.slides) == 16
    assert found.not_understood == ("ImagingStudy/s: expected at most 16 slides, got more",)


def test_a_listed_origin_is_asked_without_our_token_and_redirects_are_not_followed(ehr):
    seen = []

    def outside(request):
        seen.append((request.url.path, request.headers.get("Authorization")))
        if request.url.path == "/moved":
            return httpx.Response(302, headers={"Location": "http://evil.test/"})
        return httpx.Response(200, content=png())

    ehr.store.load(
        collection(
            document("a", "http://files.test/a.png"), document("b", "http://files.test/moved")
        )
    )
    http = httpx.Client(transport=httpx.MockTransport(outside))
    fhir = FhirClient(ehr.client.base_url, authorization=BearerToken("secret"))
    found = reader(fhir, origins=["http://files.test"], outside=http).read("Patient/1")
    fhir.close()
    assert seen == [("/a.png", None), ("/moved", None)]
    assert len(found.slides) == 1
    assert "expected 2xx, got 302" in found.not_understood[0]


def test_a_picture_that_is_too_large_is_named(ehr):
    form = {"contentType": "image/png", "data": text_of(png())}
    [said] = read(ehr, report(presentedForm=[form]), max_picture_bytes=10).not_understood
    assert "at most 10 bytes" in said


def test_a_disk_without_room_is_waited_for(ehr, monkeypatch):
    form = {"contentType": "image/png", "data": text_of(png())}
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(StorageUnavailable, match="write into /nowhere"):
        read(ehr, report(presentedForm=[form]))


def test_a_binary_may_come_wrapped_in_a_resource():
    def answer(request):
        if "Binary" in request.url.path:
            body = {"resourceType": "Binary", "data": text_of(png())}
            return httpx.Response(200, json=body)
        if "DocumentReference" in request.url.path:
            return httpx.Response(200, json={"entry": [{"resource": document("x", "Binary/1")}]})
        return httpx.Response(200, json={})

    assert [s.data for s in reader(client(answer)).read("Patient/1").slides] == [png()]


def test_a_report_about_someone_else_is_not_read():
    def answer(request):
        other = report(subject={"reference": "http://elsewhere.test/fhir/Patient/1"})
        return httpx.Response(200, json={"entry": [{"resource": other}]})

    assert reader(client(answer)).read("Patient/1") is None


def test_a_server_that_knows_no_pathology_is_named_and_not_fatal():
    def refuse(request):
        if request.url.path.endswith("metadata"):
            return httpx.Response(200, json={})
        return httpx.Response(404, json={"issue": [{"code": "not-supported"}]})

    fhir = client(refuse)
    found = reader(fhir).read("Patient/1")
    assert [said.partition(":")[0] for said in found.not_understood] == [
        "DiagnosticReport",
        "DocumentReference",
        "ImagingStudy",
    ]
    record = FhirHealthRecord(
        fhir,
        matcher=PatientMatcher(fhir, {}),
        pathology=reader(fhir),
        window=None,
        catalogue=build_catalogue(),
    )
    assert record.order("Patient/1", "A1") is None


def test_a_server_that_is_down_is_never_taken_for_one_that_holds_nothing():
    with pytest.raises(FhirUnavailable):
        reader(client(lambda _: httpx.Response(503))).read("Patient/1")


def test_a_server_that_does_not_offer_a_search_is_not_asked_for_it():
    asked = []

    def answer(request):
        asked.append(request.url.path)
        resource = [{"type": "DiagnosticReport"}, {"type": "ImagingStudy"}]
        return httpx.Response(200, json={"rest": [{"mode": "server", "resource": resource}]})

    [said] = reader(client(answer)).read("Patient/1").not_understood
    assert said.startswith("DocumentReference")
    assert f"{BASE}/DocumentReference/_search" not in asked
