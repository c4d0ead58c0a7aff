"""Gathering over a real server, through faults: all of the evidence, or none and a reason."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from bonetumor.domain.errors import BoneTumorError
from bonetumor.domain.study import PatientIdentity, StudyHeader
from bonetumor.fhir.client import FhirClient, Patience
from bonetumor.phantom.dicom import acquired_at, birth_date, patient_id
from bonetumor.phantom.fhir import SYSTEM
from bonetumor.service.gather import gather
from bonetumor.worker import wiring_ehr
from bonetumor.worker.settings import Settings
from kit import studies
from kit.faults import FAULTS, FaultProxy
from kit.fhir import client as stub

NUMBER = 31


@pytest.fixture(scope="module")
def loaded(fhir_server):
    fhir_server.load(studies.record(NUMBER))
    return fhir_server


def header() -> StudyHeader:
    drawn = studies.patient(NUMBER)
    identity = PatientIdentity(
        patient_id=patient_id(drawn), issuer=None, birth_date=birth_date(drawn), sex=drawn.sex
    )
    return StudyHeader(
        study_instance_uid="1.2",
        patient=identity,
        accession_number="A1",
        acquired_at=acquired_at(drawn),
        modality="DX",
        body_part=None,
        laterality=None,
    )


def gathered(base_url, deadline_s=30.0):
    settings = Settings(ehr={"base_url": base_url, "identifier_systems": {"": SYSTEM}})
    client = FhirClient(
        base_url, patience=Patience(deadline_s=deadline_s, tries=2), sleep=lambda _: None
    )
    try:
        return gather(header(), wiring_ehr.build_record(settings, client))
    finally:
        client.close()


def test_everything_the_phantom_has_is_gathered(loaded):
    evidence = gathered(loaded.base_url)
    drawn = studies.patient(NUMBER)
    assert {r.analyte for r in evidence.labs.results} == {m.analyte for m in drawn.blood}
    assert len(evidence.pathology.slides) == len(drawn.slides)
    assert evidence.labs.not_understood == ()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_call_never_makes_evidence_vanish_in_silence(loaded, fault):
    whole = gathered(loaded.base_url)
    calls = survived = 0
    with FaultProxy(loaded.port) as proxy:
        base_url = f"http://127.0.0.1:{proxy.port}/fhir"
        for strike in range(1, 30):
            struck = []

            def hit(exchange, struck=struck):
                struck.append(1)
                FAULTS[fault](exchange)

            proxy.arm(strike, hit)
            try:
                evidence = gathered(base_url, deadline_s=1.0)
            except BoneTumorError:
                continue  # put off or stopped, with its reason
            finally:
                proxy.disarm()
                calls += bool(struck)
            if not struck:
                break
            survived += 1
            disclosed = evidence.pathology is None or evidence.pathology.not_understood
            assert evidence.digest == whole.digest or disclosed
            assert evidence.labs.results == whole.labs.results
    assert calls > 5
    print(f"{fault}: {calls} calls struck, {survived} gathered all the same")


def test_a_patient_of_another_server_is_not_ours(loaded):
    [there] = loaded.search("Patient", identifier=f"{SYSTEM}|{header().patient.patient_id}")
    stray = httpx.post(
        f"{loaded.base_url}/Observation",
        json={
            "resourceType": "Observation",
            "status": "final",
            "category": [{"coding": [{"code": "laboratory"}]}],
            "code": {"coding": [{"system": "http://loinc.org", "code": "2857-1"}]},
            "subject": {"reference": f"http://elsewhere.test/fhir/Patient/{there['id']}"},
            "effectiveDateTime": "2026-01-01",
            "valueQuantity": {"value": 5, "unit": "ng/mL"},
        },
    )
    assert stray.status_code == 201, stray.text
    assert "psa" not in {r.analyte for r in gathered(loaded.base_url).labs.results}


def test_changes_are_asked_for_and_an_unknown_answer_counts_as_a_change(loaded):
    evidence = gathered(loaded.base_url)
    settings = Settings(ehr={"base_url": loaded.base_url, "identifier_systems": {"": SYSTEM}})
    client = FhirClient(loaded.base_url)
    record = wiring_ehr.build_record(settings, client)
    now = datetime.now(UTC)
    assert record.changed_since(evidence.patient, now - timedelta(hours=1))
    assert not record.changed_since(evidence.patient, now + timedelta(hours=1))
    client.close()
    refusing = stub(lambda _: httpx.Response(400))
    assert wiring_ehr.build_record(settings, refusing).changed_since("Patient/1", now)


def test_specimens_and_members_of_panels_are_fetched_and_unmarked_results_are_found(loaded):
    """A panel whose members carry no category, one of them from a haemolysed specimen."""
    with httpx.Client(base_url=loaded.base_url) as http:

        def made(kind, **content):
            answer = http.post(f"/{kind}", json={"resourceType": kind, **content})
            assert answer.status_code == 201, answer.text
            return f"{kind}/{answer.json()['id']}"

        system = "urn:members"
        who = {
            "reference": made(
                "Patient", identifier=[{"system": system, "value": "M"}], birthDate="1980-01-01"
            )
        }
        bad = made(
            "Specimen", subject=who, condition=[{"coding": [{"code": "HEM"}]}], status="available"
        )

        def lab(code, unit, **more):
            coding = {"coding": [{"system": "http://loinc.org", "code": code}]}
            return made(
                "Observation",
                status="final",
                code=coding,
                subject=who,
                effectiveDateTime=header().acquired_at.isoformat(),
                **more,
                **({"valueQuantity": {"value": 100, "unit": unit}} if unit else {}),
            )

        members = [
            lab("2532-0", "U/L", specimen={"reference": bad}),
            lab("6768-6", "U/L", specimen={"reference": bad}),
        ]
        settings = Settings(ehr={"base_url": loaded.base_url, "identifier_systems": {"": system}})
        client = FhirClient(loaded.base_url)
        record = wiring_ehr.build_record(settings, client)
        unmarked = record.labs(who["reference"], header())
        assert [r.analyte for r in unmarked.results] == ["alp"]
        assert "haemolysed" in unmarked.not_understood[0]
        laboratory = "http://terminology.hl7.org/CodeSystem/observation-category"
        lab(
            "24323-8",
            None,
            hasMember=[{"reference": m} for m in members],
            category=[{"coding": [{"system": laboratory, "code": "laboratory"}]}],
        )
        through_the_panel = record.labs(who["reference"], header())
        client.close()
    assert through_the_panel.results == unmarked.results
    assert through_the_panel.not_understood == unmarked.not_understood
