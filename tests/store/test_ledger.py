"""One contract, kept by the ledger on SQLite and on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from bonetumor.domain.errors import Misconfigured, StorageUnavailable
from bonetumor.domain.progress import DeliveryState, Refusal, Step, StudyState
from bonetumor.service.ledger import Arrival
from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger
from bonetumor.worker.wiring import owner
from kit.ledger import (
    EVIDENCE,
    START,
    Clock,
    assessment,
    close,
    complete,
    errand,
    instance,
    walk_to_deliveries,
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


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_server_that_was_started_anew_costs_no_instance(ledger, url):
    assert ledger.record_instance(instance(1)) is Arrival.NEW
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    engine = open_engine(url)
    with engine.begin() as connection:
        assert connection.execute(text(f"{others} AND datname IS NOT NULL")).all()
    engine.dispose()
    assert ledger.record_instance(instance(2)) is Arrival.NEW
    assert ledger.record_instance(instance(2)) is Arrival.REPEATED


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


def test_a_study_closes_once_and_only_at_its_revision(ledger, clock):
    ledger.record_instance(instance(1))
    [study] = ledger.receiving()
    assert (study.study_instance_uid, study.revision, study.last_instance_at) == ("1.2.3", 1, START)
    assert study.instances == {"1.2.3.1": 1}
    assert not close(ledger, revision=2)
    assert close(ledger)
    assert not close(ledger)
    assert ledger.receiving() == []
    assert ledger.due() == [errand(Step.GATHER)]


def test_a_late_image_reopens_the_study_and_old_claims_change_nothing(ledger):
    complete(ledger)
    claim = ledger.claim(errand(Step.GATHER), "me")
    ledger.record_instance(instance(2))
    ledger.finish(claim, StudyState.GATHERED, EVIDENCE, "late")
    [row] = ledger.progress()
    assert (row.state, row.revision) == (StudyState.RECEIVING, 2)


def test_only_one_worker_gets_a_step(ledger):
    complete(ledger)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: ledger.claim(errand(Step.GATHER), f"w{n}"), range(32)))
    assert sum(c is not None for c in claims) == 1
    assert ledger.due() == []


def test_a_step_that_is_not_next_cannot_be_claimed(ledger):
    complete(ledger)
    assert ledger.claim(errand(Step.DISPATCH), "me") is None
    assert ledger.claim(errand(Step.GATHER, "9.9"), "me") is None


def test_what_a_step_made_is_kept_to_the_bit(ledger):
    complete(ledger)
    claim = ledger.claim(errand(Step.GATHER), "me")
    ledger.finish(claim, StudyState.GATHERED, EVIDENCE, "done")
    claim = ledger.claim(errand(Step.ASSESS), "me")
    assert ledger.evidence(claim) == EVIDENCE
    ledger.finish(claim, StudyState.ASSESSED, assessment(), "done")
    claim = ledger.claim(errand(Step.DISPATCH), "me")
    assert ledger.assessment(claim) == assessment()


def test_a_lease_expires_and_a_lost_claim_changes_nothing(ledger, clock):
    complete(ledger)
    lost = ledger.claim(errand(Step.GATHER), "dead")
    clock.forward(61)
    assert ledger.due() == [errand(Step.GATHER)]
    taken = ledger.claim(errand(Step.GATHER), "alive")
    assert taken.attempt == 2
    ledger.finish(lost, StudyState.GATHERED, EVIDENCE, "too late")
    assert ledger.progress()[0].state is StudyState.COMPLETE
    ledger.finish(taken, StudyState.GATHERED, EVIDENCE, "in time")
    assert ledger.progress()[0].state is StudyState.GATHERED


def test_leases_of_the_dead_are_taken_back_at_once(ledger):
    complete(ledger)
    ledger.claim(errand(Step.GATHER), owner(77))
    assert ledger.free(owner(7)) == 0, "process 7 is not process 77"
    assert ledger.free(owner(77)) == 1
    assert ledger.claim(errand(Step.GATHER), owner(78)) is not None


def test_a_poison_study_stops_after_three_attempts(ledger):
    complete(ledger)
    for _ in range(3):
        assert ledger.claim(errand(Step.GATHER), "host:1") is not None
        ledger.free("host:")
    assert ledger.claim(errand(Step.GATHER), "host:1") is None
    [row] = ledger.progress()
    assert row.state is StudyState.FAILED
    assert "3 attempts that died (without a word)" in row.problem


def test_a_step_that_crashes_is_tried_again_and_then_fails_with_its_reason(ledger, clock):
    complete(ledger)
    for attempt in (1, 2, 3):
        claim = ledger.claim(errand(Step.GATHER), "me")
        assert claim.attempt == attempt
        ledger.drop(claim, "crashed with KeyError", clock.now + timedelta(seconds=5))
        assert ledger.due() == []
        clock.forward(6)
    assert ledger.claim(errand(Step.GATHER), "me") is None
    [row] = ledger.progress()
    assert row.state is StudyState.FAILED
    assert "crashed with KeyError" in row.problem


def test_a_step_that_is_put_off_waits_and_counts(ledger, clock):
    complete(ledger)
    claim = ledger.claim(errand(Step.GATHER), "me")
    ledger.put_off(claim, "down", START + timedelta(seconds=10))
    assert ledger.due() == []
    assert ledger.progress()[0].problem == "down"
    clock.forward(11)
    again = ledger.claim(errand(Step.GATHER), "me")
    assert (again.attempt, again.put_offs) == (1, 1)
    ledger.finish(again, StudyState.GATHERED, EVIDENCE, "up")
    assert ledger.progress()[0].problem is None


def test_a_stopped_study_goes_on_where_it_was(ledger):
    complete(ledger)
    claim = ledger.claim(errand(Step.GATHER), "me")
    ledger.stop(claim, StudyState.HELD, "who is it")
    assert ledger.progress()[0].state is StudyState.HELD
    assert ledger.due() == []
    assert ledger.retry("1.2.3")
    assert not ledger.retry("1.2.3")
    assert ledger.due() == [errand(Step.GATHER)]


def test_the_predecessor_is_the_last_sr_that_was_sent(ledger):
    complete(ledger)
    walk_to_deliveries(ledger, "pacs", "other")
    claim = ledger.claim(errand(Step.SEND, destination="pacs"), "me")
    assert ledger.predecessor(claim) is None
    ledger.finish(claim, DeliveryState.SENT, None, "done")
    ledger.record_instance(instance(2))
    close(ledger, revision=2)
    claim = ledger.claim(errand(Step.GATHER), "me")
    assert ledger.predecessor(claim).sop_instance_uid == assessment().sr_sop_instance_uid


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


def test_studies_are_counted_and_the_newest_of_some_states_shown(ledger, clock):
    for number in range(1, 6):
        clock.forward(1)
        ledger.record_instance(instance(1, study=f"1.{number}", at=clock.now))
    ledger.hold("1.5", "somebody", "why")
    assert ledger.counts() == {StudyState.RECEIVING: 4, StudyState.HELD: 1}
    newest = ledger.progress(states=[StudyState.RECEIVING], limit=2)
    assert [p.study_instance_uid for p in newest] == ["1.4", "1.3"]
    assert [p.study_instance_uid for p in ledger.progress(limit=1)] == ["1.5"]
    assert len(ledger.progress()) == 5
