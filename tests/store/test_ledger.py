"""One contract, kept by the ledger on SQLite and on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import inspect, text, update

from bonetumor.domain.assessment import Algorithm, Assessment, Diagnosis, Modality, TumourClass
from bonetumor.domain.case import Evidence
from bonetumor.domain.errors import Misconfigured, StorageUnavailable
from bonetumor.domain.labs import Analyte, LabPanel, LabResult
from bonetumor.domain.pathology import Pathology, PathologySlide
from bonetumor.domain.progress import STATE_AFTER, Refusal, Step, StudyState
from bonetumor.domain.study import Instance, InstanceKeys
from bonetumor.service.ledger import Arrival, ReportQuery, ShelvedReport
from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger
from bonetumor.store.schema import schema_version
from bonetumor.worker.wiring import owner
from kit.servers import postgres_server

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now

    def forward(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory):
    with postgres_server(tmp_path_factory.mktemp("pg")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    url = request.getfixturevalue("postgres_url")
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(url, clock):
    made = SqlLedger(open_engine(url), clock=clock, lease=timedelta(seconds=60), max_attempts=3)
    made.prepare()
    yield made
    made.close()


def instance(number=1, study="1.2.3", sha256="a", at=START):
    keys = InstanceKeys(
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        sop_instance_uid=f"{study}.1.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
    )
    return Instance(
        keys=keys,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        size=7,
        sha256=sha256 * 64,
        received_at=at,
        calling_ae_title="PACS",
    )


def complete(ledger, study="1.2.3"):
    ledger.record_instance(instance(study=study))
    assert ledger.close_study(study, 1, "quiet")


EVIDENCE = Evidence(
    patient="Patient/1",
    labs=LabPanel(
        results=(
            LabResult(
                analyte=Analyte.ALP,
                value=1.5,
                unit="U/L",
                low=None,
                high=2.0,
                taken_at=START,
                source="Observation/1",
            ),
        ),
        not_understood=("Observation/2: why",),
    ),
    pathology=Pathology(
        slides=(PathologySlide(source="Media/1", content_type="image/png", data=b"\xff\0\x80"),),
        reports=("DiagnosticReport/1",),
    ),
)


def assessment(key="k"):
    return Assessment(
        run_key=key * 64,
        lesions=(),
        diagnosis=Diagnosis(
            probabilities={
                TumourClass.BENIGN: 0.1,
                TumourClass.INTERMEDIATE: 0.2,
                TumourClass.MALIGNANT: 0.7,
            },
            prediction_set=(TumourClass.MALIGNANT,),
            abstained=False,
            out_of_distribution=False,
            used=(Modality.LABS,),
        ),
        algorithm=Algorithm(
            name="a", version="1", bundle_version="1", bundle_sha256="0" * 64, training_data="x"
        ),
        completeness="quiet",
        missing=(Modality.IMAGE,),
        images_assessed=1,
        assessed_at=START,
    )


def test_an_instance_opens_its_study_once(ledger):
    assert ledger.record_instance(instance(1)) is Arrival.NEW
    assert ledger.record_instance(instance(2)) is Arrival.NEW
    [row] = ledger.progress()
    assert (row.state, row.instances, row.revision) == (StudyState.RECEIVING, 2, 1)
    assert [i.keys.sop_instance_uid for i in ledger.study("1.2.3").instances] == [
        "1.2.3.1.1",
        "1.2.3.1.2",
    ]


def test_a_repetition_changes_nothing_and_a_conflict_is_noted(ledger):
    ledger.record_instance(instance(1))
    before = ledger.story("1.2.3")
    assert ledger.record_instance(instance(1)) is Arrival.REPEATED
    assert ledger.story("1.2.3") == before
    assert ledger.record_instance(instance(1, sha256="b")) is Arrival.CONFLICTING
    assert [e.kind for e in ledger.story("1.2.3")] == ["receiving", "conflict"]
    assert ledger.study("1.2.3").instances[0].sha256 == "a" * 64


def test_refusals_are_kept_the_newest_first_and_not_for_ever(ledger, monkeypatch):
    monkeypatch.setattr("bonetumor.store.receiving._REFUSALS_KEPT", 3)
    for number in range(5):
        ledger.note_refusal(
            Refusal(at=START, calling_ae_title="X", sop_instance_uid=str(number), problem="p")
        )
    assert [r.sop_instance_uid for r in ledger.refusals()] == ["4", "3", "2"]


def test_a_study_closes_only_after_quiet_and_only_at_its_revision(ledger, clock):
    ledger.record_instance(instance(1))
    assert ledger.quiet_since(START - timedelta(seconds=1)) == []
    assert ledger.quiet_since(START) == [("1.2.3", 1)]
    assert not ledger.close_study("1.2.3", 2, "quiet")
    assert ledger.close_study("1.2.3", 1, "quiet")
    assert not ledger.close_study("1.2.3", 1, "quiet")
    assert ledger.due() == [("1.2.3", Step.GATHER)]


def test_a_late_image_reopens_the_study_and_old_claims_change_nothing(ledger):
    complete(ledger)
    claim = ledger.claim("1.2.3", Step.GATHER, "me")
    ledger.record_instance(instance(2))
    ledger.finish(claim, StudyState.GATHERED, EVIDENCE, "late")
    [row] = ledger.progress()
    assert (row.state, row.revision) == (StudyState.RECEIVING, 2)


def test_only_one_worker_gets_a_step(ledger):
    complete(ledger)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: ledger.claim("1.2.3", Step.GATHER, f"w{n}"), range(32)))
    assert sum(c is not None for c in claims) == 1
    assert ledger.due() == []


def test_a_step_that_is_not_next_cannot_be_claimed(ledger):
    complete(ledger)
    assert ledger.claim("1.2.3", Step.SEND_SR, "me") is None
    assert ledger.claim("9.9", Step.GATHER, "me") is None


def test_what_a_step_made_is_kept_to_the_bit(ledger):
    complete(ledger)
    claim = ledger.claim("1.2.3", Step.GATHER, "me")
    ledger.finish(claim, StudyState.GATHERED, EVIDENCE, "done")
    claim = ledger.claim("1.2.3", Step.ASSESS, "me")
    assert ledger.evidence(claim) == EVIDENCE
    ledger.finish(claim, StudyState.ASSESSED, assessment(), "done")
    claim = ledger.claim("1.2.3", Step.SEND_SR, "me")
    assert ledger.assessment(claim) == assessment()


def test_a_lease_expires_and_a_lost_claim_changes_nothing(ledger, clock):
    complete(ledger)
    lost = ledger.claim("1.2.3", Step.GATHER, "dead")
    clock.forward(61)
    assert ledger.due() == [("1.2.3", Step.GATHER)]
    taken = ledger.claim("1.2.3", Step.GATHER, "alive")
    assert taken.attempt == 2
    ledger.finish(lost, StudyState.GATHERED, EVIDENCE, "too late")
    assert ledger.progress()[0].state is StudyState.COMPLETE
    ledger.finish(taken, StudyState.GATHERED, EVIDENCE, "in time")
    assert ledger.progress()[0].state is StudyState.GATHERED


def test_leases_of_the_dead_are_taken_back_at_once(ledger):
    complete(ledger)
    ledger.claim("1.2.3", Step.GATHER, owner(77))
    assert ledger.free(owner(7)) == 0, "process 7 is not process 77"
    assert ledger.free(owner(77)) == 1
    assert ledger.claim("1.2.3", Step.GATHER, owner(78)) is not None


def test_a_poison_study_stops_after_three_attempts(ledger):
    complete(ledger)
    for _ in range(3):
        assert ledger.claim("1.2.3", Step.GATHER, "host:1") is not None
        ledger.free("host:")
    assert ledger.claim("1.2.3", Step.GATHER, "host:1") is None
    [row] = ledger.progress()
    assert row.state is StudyState.FAILED
    assert "3 attempts that died (without a word)" in row.problem


def test_a_step_that_crashes_is_tried_again_and_then_fails_with_its_reason(ledger, clock):
    complete(ledger)
    for attempt in (1, 2, 3):
        claim = ledger.claim("1.2.3", Step.GATHER, "me")
        assert claim.attempt == attempt
        ledger.drop(claim, "crashed with KeyError", clock.now + timedelta(seconds=5))
        assert ledger.due() == []
        clock.forward(6)
    assert ledger.claim("1.2.3", Step.GATHER, "me") is None
    [row] = ledger.progress()
    assert row.state is StudyState.FAILED
    assert "crashed with KeyError" in row.problem


def test_a_step_that_is_put_off_waits_and_counts(ledger, clock):
    complete(ledger)
    claim = ledger.claim("1.2.3", Step.GATHER, "me")
    ledger.put_off(claim, "down", START + timedelta(seconds=10))
    assert ledger.due() == []
    assert ledger.progress()[0].problem == "down"
    clock.forward(11)
    again = ledger.claim("1.2.3", Step.GATHER, "me")
    assert (again.attempt, again.put_offs) == (1, 1)
    ledger.finish(again, StudyState.GATHERED, EVIDENCE, "up")
    assert ledger.progress()[0].problem is None


def test_a_stopped_study_goes_on_where_it_was(ledger):
    complete(ledger)
    claim = ledger.claim("1.2.3", Step.GATHER, "me")
    ledger.stop(claim, StudyState.HELD, "who is it")
    assert ledger.progress()[0].state is StudyState.HELD
    assert ledger.due() == []
    assert ledger.retry("1.2.3")
    assert not ledger.retry("1.2.3")
    assert ledger.due() == [("1.2.3", Step.GATHER)]


def test_the_predecessor_is_the_last_sr_that_was_sent(ledger):
    complete(ledger)
    for step, state, saved in (
        (Step.GATHER, StudyState.GATHERED, EVIDENCE),
        (Step.ASSESS, StudyState.ASSESSED, assessment()),
        (Step.SEND_SR, StudyState.SR_SENT, None),
    ):
        claim = ledger.claim("1.2.3", step, "me")
        assert ledger.predecessor(claim) is None
        ledger.finish(claim, state, saved, "done")
    ledger.record_instance(instance(2))
    ledger.close_study("1.2.3", 2, "quiet")
    claim = ledger.claim("1.2.3", Step.GATHER, "me")
    assert ledger.predecessor(claim).sop_instance_uid == assessment().sr_sop_instance_uid


def finished(ledger, again_at=None):
    """A study that walked to its end."""
    complete(ledger)
    for step, saved in (
        (Step.GATHER, EVIDENCE),
        (Step.ASSESS, assessment()),
        (Step.SEND_SR, None),
        (Step.CONFIRM_SR, None),
        (Step.SEND_REPORT, None),
        (Step.CONFIRM_REPORT, None),
    ):
        claim = ledger.claim("1.2.3", step, "me")
        due = again_at if step is Step.CONFIRM_REPORT else None
        ledger.finish(claim, STATE_AFTER[step], saved, "done", due)


def test_a_finished_study_is_looked_at_again_only_when_its_time_comes(ledger, clock):
    finished(ledger)
    assert ledger.due() == []
    assert ledger.claim("1.2.3", Step.LOOK_AGAIN, "me") is None


def test_looking_again_leaves_no_event_and_sets_the_next_time(ledger, clock):
    finished(ledger, START + timedelta(seconds=10))
    assert ledger.due() == []
    clock.forward(10)
    assert ledger.due() == [("1.2.3", Step.LOOK_AGAIN)]
    before = ledger.story("1.2.3")
    ledger.rest(ledger.claim("1.2.3", Step.LOOK_AGAIN, "me"), START + timedelta(seconds=30))
    assert ledger.due() == []
    clock.forward(20)
    ledger.rest(ledger.claim("1.2.3", Step.LOOK_AGAIN, "me"), None)
    assert ledger.due() == []
    assert ledger.story("1.2.3") == before


def test_late_evidence_opens_one_revision_with_itself_gathered(ledger, clock):
    finished(ledger, START)
    claim = ledger.claim("1.2.3", Step.LOOK_AGAIN, "me")
    later = replace(EVIDENCE, labs=None)
    ledger.supersede(claim, later, "pathology arrived")
    ledger.supersede(claim, later, "again")
    assert ledger.due() == [("1.2.3", Step.ASSESS)]
    claim = ledger.claim("1.2.3", Step.ASSESS, "me")
    assert claim.revision == 2
    assert ledger.evidence(claim) == later
    assert ledger.predecessor(claim).run_key == assessment().run_key
    assert [e.detail for e in ledger.story("1.2.3")].count("reopened: pathology arrived") == 1


def test_a_person_holds_releases_and_rejects_and_each_is_told(ledger):
    complete(ledger)
    claim = ledger.claim("1.2.3", Step.GATHER, "worker")
    assert ledger.hold("1.2.3", "dr", "wrong side?")
    ledger.finish(claim, StudyState.GATHERED, EVIDENCE, "too late")
    assert ledger.progress()[0].state is StudyState.HELD
    assert not ledger.hold("1.2.3", "dr", "again")
    assert ledger.release("1.2.3", "dr", "checked", "Patient/7")
    assert not ledger.release("1.2.3", "dr", "again")
    assert ledger.due() == [("1.2.3", Step.GATHER)]
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
    assert ledger.close_study("1.2.3", 2, "quiet")


def shelved(key="r1", study="1.2.3", patient="Patient/1", minutes=0):
    return ShelvedReport(
        report_id=key,
        resource_ids=(key, f"{key}-class", "device"),
        study_instance_uid=study,
        run=key * 8,
        patient=patient,
        patient_id="P",
        accession_number="A1",
        acquired_at=START,
        written_at=START + timedelta(minutes=minutes),
        body="[]",
    )


def test_the_newest_report_of_a_study_is_found_and_the_earlier_is_kept(ledger):
    for report in (shelved(), shelved("r2", minutes=1), shelved("r2", minutes=1)):
        ledger.keep(report)
    ledger.keep(shelved("other", study="9", patient="Patient/2"))
    assert [r.report_id for r in ledger.find(ReportQuery(patient="Patient/1"))] == ["r2"]
    assert len(ledger.find(ReportQuery())) == 2
    assert ledger.holding("r1").report_id == "r1"
    assert ledger.holding("device").report_id == "r2"
    assert ledger.holding("none") is None
    assert ledger.find(ReportQuery(acquired_until=START)) == []
    assert len(ledger.find(ReportQuery(acquired_from=START, identifier="A1", limit=1))) == 1


def test_a_ledger_of_version_1_is_brought_up_with_work_in_flight(ledger, url):
    complete(ledger)
    engine = open_engine(url)
    with engine.execution_options(writes=True).begin() as connection:
        for statement in (
            "DROP TABLE report_resources",
            "DROP TABLE reports",
            "DROP INDEX studies_by_next_attempt",
        ):
            connection.execute(text(statement))
        connection.execute(update(schema_version).values(version=1))
    ledger.prepare()
    names = {i["name"] for i in inspect(engine).get_indexes("studies")}
    engine.dispose()
    assert "studies_by_next_attempt" in names
    ledger.keep(shelved())
    assert ledger.due() == [("1.2.3", Step.GATHER)]


def test_a_ledger_of_another_version_is_refused(ledger, url):
    engine = open_engine(url)
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(update(schema_version).values(version=99))
    engine.dispose()
    with pytest.raises(Misconfigured, match="expected schema 2, got 99"):
        ledger.prepare()


def test_many_senders_lose_nothing(ledger):
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda n: ledger.record_instance(instance(n, study=f"1.{n % 5 + 1}")), range(100)
            )
        )
    assert sum(row.instances for row in ledger.progress()) == 100


def test_sqlite_is_durable_and_other_databases_are_refused(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'x.sqlite'}")
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    engine.dispose()
    for wrong in ("mysql://x/y", "nonsense"):
        with pytest.raises(Misconfigured):
            open_engine(wrong)


def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path):
    made = SqlLedger(
        open_engine(f"sqlite:///{tmp_path / 'absent' / 'x.sqlite'}"),
        clock=Clock(),
        lease=timedelta(seconds=1),
        max_attempts=1,
    )
    with pytest.raises(StorageUnavailable):
        made.progress()
