"""An EHR whose JSON is in a wrong shape at one place, whatever the place: named or passed over."""

import copy
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from bonetumor.domain.errors import BoneTumorError
from bonetumor.domain.study import PatientIdentity, StudyHeader
from bonetumor.fhir.analytes import build_catalogue
from bonetumor.fhir.attachments import AttachmentLimits, Attachments
from bonetumor.fhir.labs import LabWindow
from bonetumor.fhir.pathology import PathologyReader
from bonetumor.fhir.patient import PatientMatcher
from bonetumor.fhir.record import FhirHealthRecord
from kit.fhir import client

SUBJECT = {"reference": "Patient/1"}
CODE = {"coding": [{"system": "http://loinc.org", "code": "11526-1"}]}
WRONG = (None, "x", 3, [], {}, ["y"], [[1]], {"a": 1}, [{"reference": 5}])
SEARCHED = ("DiagnosticReport", "DocumentReference", "ImagingStudy", "Patient", "ServiceRequest")
PNG = "iVBORw0KGgo="
WORLD = {
    "metadata": {
        "resourceType": "CapabilityStatement",
        "rest": [
            {
                "mode": "server",
                "interaction": [{"code": "transaction"}],
                "resource": [
                    {
                        "type": kind,
                        "interaction": [{"code": "search-type"}],
                        "searchParam": [{"name": "date"}],
                    }
                    for kind in (*SEARCHED, "Observation")
                ],
            }
        ],
    },
    "Patient/1": {
        "resourceType": "Patient",
        "id": "1",
        "active": True,
        "birthDate": "2001-02-03",
        "gender": "male",
        "identifier": [{"system": "urn:s", "value": "P1", "use": "usual"}],
        "link": [{"other": {"reference": "Patient/2"}, "type": "replaced-by"}],
    },
    "Patient/2": {"resourceType": "Patient", "id": "2", "birthDate": "2001-02-03"},
    "DiagnosticReport/d": {
        "resourceType": "DiagnosticReport",
        "id": "d",
        "status": "final",
        "category": [CODE],
        "code": CODE,
        "subject": SUBJECT,
        "media": [{"link": {"reference": "Media/m"}}],
        "presentedForm": [{"contentType": "image/png", "data": PNG}],
        "imagingStudy": [{"reference": "ImagingStudy/s"}],
    },
    "Media/m": {"resourceType": "Media", "id": "m", "content": {"data": PNG}},
    "DocumentReference/x": {
        "resourceType": "DocumentReference",
        "id": "x",
        "status": "current",
        "type": CODE,
        "subject": SUBJECT,
        "content": [{"attachment": {"contentType": "image/png", "url": "Binary/1"}}],
    },
    "Binary/1": {"resourceType": "Binary", "id": "1", "data": PNG},
    "ImagingStudy/s": {
        "resourceType": "ImagingStudy",
        "id": "s",
        "status": "available",
        "subject": SUBJECT,
        "modality": [{"code": "SM"}],
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2"}],
        "series": [{"uid": "1.2.3", "modality": {"code": "SM"}}],
        "endpoint": [{"reference": "Endpoint/e"}],
    },
    "Endpoint/e": {"resourceType": "Endpoint", "id": "e", "address": "http://ehr.test/wado"},
    "Observation/a": {
        "resourceType": "Observation",
        "id": "a",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "6768-6"}]},
        "subject": SUBJECT,
        "effectiveDateTime": "2026-01-01",
        "valueQuantity": {"value": 300, "unit": "U/L"},
        "referenceRange": [{"high": {"value": 129}}],
        "specimen": {"reference": "Specimen/s"},
        "hasMember": [{"reference": "Observation/b"}],
        "interpretation": [{"coding": [{"code": "H"}]}],
    },
    "Specimen/s": {"resourceType": "Specimen", "id": "s", "condition": [CODE]},
    "ServiceRequest/o": {
        "resourceType": "ServiceRequest",
        "id": "o",
        "subject": SUBJECT,
        "identifier": [{"value": "A1"}],
    },
}


class Slides:
    """Whole slides that can all be read."""

    def sample_file(self, _file):
        return b"tiles of a file"

    def sample_dicomweb(self, address):
        return f"tiles of {address}".encode()


def record(world, page=lambda bundle: bundle) -> FhirHealthRecord:
    """An EHR that holds `world`; `page` changes what it answers searches with."""

    def answer(request):
        name = request.url.path.removeprefix("/fhir/")
        if name.endswith("/_search"):
            kind = name.partition("/")[0]
            held = [r for key, r in world.items() if key.startswith(f"{kind}/")]
            bundle = {"resourceType": "Bundle", "entry": [{"resource": r} for r in held]}
            return httpx.Response(200, json=page(bundle))
        return httpx.Response(200 if name in world else 404, json=world.get(name, {}))

    fhir, nobody = client(answer), httpx.Client(transport=httpx.MockTransport(answer))
    return FhirHealthRecord(
        fhir,
        matcher=PatientMatcher(fhir, {"": "urn:s"}),
        pathology=PathologyReader(fhir, Attachments(fhir, AttachmentLimits(), nobody), Slides()),
        window=LabWindow(before=timedelta(days=9), after=timedelta(days=9)),
        catalogue=build_catalogue(),
    )


def ask_everything(ehr) -> None:
    """Asks all that gathering asks; what is wrong may be named and must not crash."""
    identity = PatientIdentity(patient_id="P1", issuer=None, birth_date="2001-02-03", sex="M")
    header = StudyHeader(
        study_instance_uid="1.2",
        patient=identity,
        accession_number="A1",
        acquired_at=datetime(2026, 1, 1, tzinfo=UTC),
        modality="DX",
        body_part=None,
        laterality=None,
    )
    for ask in (
        lambda: ehr.pathology("Patient/1"),
        lambda: ehr.find_patient(identity),
        lambda: ehr.check_patient("Patient/1"),
        lambda: ehr.order("Patient/1", "A1"),
        lambda: ehr.labs("Patient/1", header),
    ):
        with suppress(BoneTumorError):
            ask()


def places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def spoilt(value):
    """The value with each place of it in every wrong shape, and without it."""
    for path in places(value):
        for wrong in (*WRONG, ...):
            made = {"whole": copy.deepcopy(value)}
            *way, last = ("whole", *path)
            holder = made
            for key in way:
                holder = holder[key]
            if wrong is ...:
                del holder[last]
            else:
                holder[last] = wrong
            yield made.get("whole")


@pytest.mark.parametrize("name", WORLD)
def test_a_resource_in_a_wrong_shape_is_named_or_passed_over(name):
    for wrong in spoilt(WORLD[name]):
        ask_everything(record({**WORLD, name: wrong}))


def test_a_page_in_a_wrong_shape_is_named_or_passed_over():
    first = {"resourceType": "Bundle", "total": 1, "entry": [], "link": [{"relation": "self"}]}
    for wrong in spoilt(first):
        ask_everything(record(WORLD, page=lambda _bundle, wrong=wrong: wrong))


def test_a_report_in_a_wrong_shape_leaves_the_others_to_be_read():
    whole = {**WORLD, "Media/m": WORLD["Media/m"] | {"content": {"data": "iVBORw0KGgpB"}}}
    document = "DocumentReference/x#content[0]"
    assert document not in {s.source for s in record(WORLD).pathology("Patient/1").slides}
    for wrong in spoilt(WORLD["DiagnosticReport/d"]["media"]):
        report = WORLD["DiagnosticReport/d"] | {"media": wrong, "presentedForm": []}
        found = record({**whole, "DiagnosticReport/d": report}).pathology("Patient/1")
        assert document in {s.source for s in found.slides}
