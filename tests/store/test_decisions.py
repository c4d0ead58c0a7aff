"""Late evidence, people's decisions and reports that we serve, as the ledger keeps them."""

from dataclasses import replace
from datetime import timedelta

from bonetumor.domain.progress import Step, StudyState
from bonetumor.service.shelf import ReportQuery
from kit.ledger import (
    EVIDENCE,
    START,
    assessment,
    close,
    complete,
    deliver,
    errand,
    instance,
    shelved,
    walk_to_deliveries,
)


def finished(ledger, again_at=None):
    """A study that walked to its end."""
    complete(ledger)
    walk_to_deliveries(ledger, "pacs", "ehr")
    deliver(ledger, Step.SEND, "pacs")
    deliver(ledger, Step.CONFIRM, "pacs")
    deliver(ledger, Step.SEND, "ehr")
    deliver(ledger, Step.CONFIRM, "ehr", again_at)


def test_a_finished_study_is_looked_at_again_only_when_its_time_comes(ledger, clock):
    finished(ledger)
    assert ledger.due() == []
    assert ledger.claim(errand(Step.LOOK_AGAIN), "me") is None


def test_looking_again_leaves_no_event_and_sets_the_next_time(ledger, clock):
    finished(ledger, START + timedelta(seconds=10))
    assert ledger.due() == []
    clock.forward(10)
    assert ledger.due() == [errand(Step.LOOK_AGAIN)]
    before = ledger.story("1.2.3")
    ledger.rest(ledger.claim(errand(Step.LOOK_AGAIN), "me"), START + timedelta(seconds=30))
    assert ledger.due() == []
    clock.forward(20)
    ledger.rest(ledger.claim(errand(Step.LOOK_AGAIN), "me"), None)
    assert ledger.due() == []
    assert ledger.story("1.2.3") == before


def test_late_evidence_opens_one_revision_with_itself_gathered(ledger, clock):
    finished(ledger, START)
    claim = ledger.claim(errand(Step.LOOK_AGAIN), "me")
    later = replace(EVIDENCE, labs=None)
    ledger.supersede(claim, later, "pathology arrived")
    ledger.supersede(claim, later, "again")
    assert ledger.due() == [errand(Step.ASSESS)]
    claim = ledger.claim(errand(Step.ASSESS), "me")
    assert claim.revision == 2
    assert ledger.evidence(claim) == later
    assert ledger.predecessor(claim).run_key == assessment().run_key
    assert [e.detail for e in ledger.story("1.2.3")].count("reopened: pathology arrived") == 1


def test_what_a_look_finds_after_the_report_was_withdrawn_changes_nothing(ledger, clock):
    finished(ledger, START)
    claim = ledger.claim(errand(Step.LOOK_AGAIN), "me")
    assert ledger.note_withdrawal("1.2.3", "dr", "wrong patient") is StudyState.DONE
    told = ledger.story("1.2.3")
    ledger.rest(claim, START + timedelta(seconds=10))
    ledger.supersede(claim, EVIDENCE, "pathology arrived")
    clock.forward(3600)
    assert ledger.due() == []
    assert ledger.story("1.2.3") == told
    assert told[-1].detail == "by dr: wrong patient"


def test_a_result_on_its_way_is_held_when_the_report_before_it_is_withdrawn(ledger, clock):
    finished(ledger, START)
    ledger.supersede(ledger.claim(errand(Step.LOOK_AGAIN), "me"), EVIDENCE, "pathology arrived")
    claim = ledger.claim(errand(Step.ASSESS), "worker")
    assert ledger.note_withdrawal("1.2.3", "dr", "wrong patient") is StudyState.HELD
    ledger.finish(claim, StudyState.ASSESSED, assessment(), "too late")
    assert ledger.due() == []
    assert ledger.progress()[0].problem == "report withdrawn by dr: wrong patient"
    assert ledger.runs("1.2.3") == [assessment().run_key]
    ledger.release("1.2.3", "dr", "the new one is right")
    assert ledger.due() == [errand(Step.ASSESS)]


def test_a_person_holds_releases_and_rejects_and_each_is_told(ledger):
    complete(ledger)
    claim = ledger.claim(errand(Step.GATHER), "worker")
    assert ledger.hold("1.2.3", "dr", "wrong side?")
    ledger.finish(claim, StudyState.GATHERED, EVIDENCE, "too late")
    assert ledger.progress()[0].state is StudyState.HELD
    assert not ledger.hold("1.2.3", "dr", "again")
    assert ledger.release("1.2.3", "dr", "checked", "Patient/7")
    assert not ledger.release("1.2.3", "dr", "again")
    assert ledger.due() == [errand(Step.GATHER)]
    assert ledger.chosen_patient("1.2.3") == "Patient/7"
    assert not ledger.reject("1.2.3", "dr", "on its way")
    ledger.hold("1.2.3", "dr", "no")
    assert ledger.reject("1.2.3", "dr", "test images")
    assert not ledger.retry("1.2.3")
    told = [(e.kind, e.detail) for e in ledger.story("1.2.3")]
    assert ("held", "by dr: wrong side?") in told
    assert ("released", "by dr for Patient/7: checked") in told
    assert ("rejected", "by dr: test images") in told


def test_the_last_choice_of_a_patient_counts(ledger):
    complete(ledger)
    assert ledger.chosen_patient("1.2.3") is None
    for patient in ("Patient/1", "Patient/2"):
        ledger.hold("1.2.3", "dr", "who")
        ledger.release("1.2.3", "dr", "him", patient)
    assert ledger.chosen_patient("1.2.3") == "Patient/2"


def test_a_late_image_leaves_a_held_study_held_and_starts_it_over_once_released(ledger):
    complete(ledger)
    ledger.hold("1.2.3", "dr", "wait")
    ledger.record_instance(instance(2))
    [row] = ledger.progress()
    assert (row.state, row.revision, row.instances) == (StudyState.HELD, 2, 2)
    ledger.release("1.2.3", "dr", "go")
    assert ledger.progress()[0].state is StudyState.RECEIVING
    assert close(ledger, revision=2)


def test_a_number_of_another_system_is_another_patient(ledger):
    for key, system in (("r1", "urn:a"), ("r2", "urn:b"), ("r3", "")):
        ledger.keep(shelved(key, study=key, system=system))
    asked = ReportQuery(patient_id="P", patient_system="urn:a")
    assert {r.report_id for r in ledger.find(asked)} == {"r1", "r3"}
    assert len(ledger.find(ReportQuery(patient_id="P"))) == 3


def test_a_number_that_is_longer_than_the_standard_allows_is_kept(ledger):
    long = replace(shelved(), patient_id="P" * 100, accession_number="A" * 100)
    ledger.keep(long)
    [found] = ledger.find(ReportQuery(patient_id="P" * 100, identifier="A" * 100))
    assert found.report_id == long.report_id


def test_the_newest_report_of_a_study_is_found_and_the_earlier_is_kept(ledger):
    for report in (shelved(), shelved("r2", minutes=1), shelved("r2", minutes=1)):
        ledger.keep(report)
    ledger.keep(shelved("other", study="9", patient="Patient/2"))
    assert [r.report_id for r in ledger.find(ReportQuery(patient="Patient/1"))] == ["r2"]
    assert len(ledger.find(ReportQuery())) == 2
    ledger.keep(shelved())
    assert [r.report_id for r in ledger.find(ReportQuery(patient="Patient/1"))] == ["r1"]
    ledger.keep(shelved("r2", minutes=1))
    assert ledger.holding("r1").report_id == "r1"
    assert ledger.holding("device").report_id == "r2"
    assert ledger.holding("none") is None
    assert ledger.find(ReportQuery(acquired_until=START)) == []
    assert len(ledger.find(ReportQuery(acquired_from=START, identifier="A1", limit=1))) == 1
