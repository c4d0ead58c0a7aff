"""Looking again: what late evidence, corrections and another patient do to a result that stands."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bonetumor.domain.case import Evidence
from bonetumor.domain.errors import FhirUnavailable, PatientNotMatched
from bonetumor.domain.progress import Claim, Step
from bonetumor.worker.steps import IoSteps, Readiness
from kit.ledger import errand
from kit.results import blood, result

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ONE = result(3)
EARLIER = Evidence(patient="Patient/1", labs=None, pathology=None)
BLOOD = blood("Observation/1")


class Ledger:
    def study(self, _uid):
        return ONE.study

    def evidence(self, _claim):
        return EARLIER

    def assessment(self, _claim):
        return replace(ONE.assessment, assessed_at=NOW)

    def chosen_patient(self, _uid):
        return None


class Studies:
    def header(self, _study):
        return ONE.header


class Record:
    """An EHR in a few answers."""

    def __init__(self):
        self.blood = None
        self.patient = "Patient/1"
        self.changed = False
        self.gathered = 0
        self.asked = []

    def find_patient(self, _identity):
        if isinstance(self.patient, Exception):
            raise self.patient
        return self.patient

    def changed_since(self, patient, moment):
        self.asked.append((patient, moment))
        return self.changed

    def labs(self, _patient, _header):
        self.gathered += 1
        return self.blood

    def pathology(self, _patient):
        return None

    def order(self, _patient, _accession):
        return None


@pytest.fixture
def there():
    class There:
        record = Record()
        now = NOW

    def steps():
        return IoSteps(
            ledger=Ledger(),
            studies=Studies(),
            record=There.record,
            destinations={},
            clock=lambda: There.now,
            readiness=Readiness(watch=timedelta(hours=1), poll=timedelta(minutes=5)),
        )

    There.record = Record()
    There.steps = steps()
    return There


CLAIM = Claim(
    errand=errand(Step.LOOK_AGAIN, ONE.study.study_instance_uid),
    revision=1,
    owner="me",
    attempt=1,
    put_offs=0,
    expires_at=NOW,
)


def test_without_news_the_study_is_looked_at_again_until_its_time_is_over(there):
    outcome = there.steps.look_again(CLAIM)
    assert (outcome.detail, outcome.superseding) == ("", None)
    assert outcome.again_at == NOW + timedelta(minutes=5)
    there.now = NOW + timedelta(minutes=56)
    assert there.steps.look_again(CLAIM).again_at is None


def test_after_the_first_look_only_changes_are_asked_for(there):
    there.steps.look_again(CLAIM)
    assert (there.record.gathered, there.record.asked) == (1, [])
    there.now += timedelta(minutes=5)
    there.steps.look_again(CLAIM)
    assert there.record.gathered == 1
    assert there.record.asked == [("Patient/1", NOW - timedelta(minutes=10))]
    there.record.changed, there.record.blood = True, BLOOD
    assert there.steps.look_again(CLAIM).superseding.labs == BLOOD


def test_an_ehr_that_is_down_changes_nothing_and_is_asked_in_full_later(there):
    there.record.patient = FhirUnavailable("down")
    assert there.steps.look_again(CLAIM).again_at == NOW + timedelta(minutes=5)
    there.record.patient, there.record.blood = "Patient/1", BLOOD
    assert there.steps.look_again(CLAIM).detail == "blood markers arrived"


def test_another_patient_makes_a_new_result_and_none_at_all_calls_a_person(there):
    there.record.patient = "Patient/2"
    outcome = there.steps.look_again(CLAIM)
    assert "another patient" in outcome.detail
    assert outcome.superseding.patient == "Patient/2"
    there.record.changed = True
    there.record.patient = PatientNotMatched("patient: expected the birth date of the images")
    with pytest.raises(PatientNotMatched):
        there.steps.look_again(CLAIM)
