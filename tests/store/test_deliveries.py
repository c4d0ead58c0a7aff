"""Deliveries walk by themselves: one that is stuck holds up no other."""

from datetime import timedelta

import pytest

from bonetumor.domain.progress import Content, DeliveryState, Step, StudyState
from bonetumor.service.ledger import Arrival
from kit.ledger import START, complete, deliver, errand, instance, own, walk_to_deliveries

KEY = "k" * 64


def states(ledger):
    return {d.destination: d.state for d in ledger.deliveries("1.2.3")}


def test_a_study_is_done_with_its_last_delivery(ledger):
    complete(ledger)
    walk_to_deliveries(ledger, "pacs", "ehr")
    assert {(e.step, e.destination) for e in ledger.due()} == {
        (Step.SEND, "pacs"),
        (Step.SEND, "ehr"),
    }
    deliver(ledger, Step.SEND, "ehr")
    deliver(ledger, Step.CONFIRM, "ehr")
    assert ledger.one("1.2.3").state is StudyState.DELIVERING
    deliver(ledger, Step.SEND)
    deliver(ledger, Step.CONFIRM)
    assert ledger.one("1.2.3").state is StudyState.DONE
    assert ledger.due() == []


def test_a_destination_that_is_down_shows_its_problem_and_holds_up_no_other(ledger, clock):
    complete(ledger)
    walk_to_deliveries(ledger, "pacs", "ehr")
    claim = ledger.claim(errand(Step.SEND, destination="pacs"), "me")
    ledger.put_off(claim, "down", START + timedelta(seconds=60))
    assert ledger.one("1.2.3").problem == "pacs: down"
    deliver(ledger, Step.SEND, "ehr")
    deliver(ledger, Step.CONFIRM, "ehr")
    assert ledger.due() == []
    clock.forward(61)
    assert [e.destination for e in ledger.due()] == ["pacs"]
    deliver(ledger, Step.SEND)
    deliver(ledger, Step.CONFIRM)
    row = ledger.one("1.2.3")
    assert (row.state, row.problem) == (StudyState.DONE, None)


def test_a_refused_delivery_fails_the_study_once_the_others_have_ended_and_can_be_retried(ledger):
    complete(ledger)
    walk_to_deliveries(ledger, "pacs", "ehr")
    claim = ledger.claim(errand(Step.SEND, destination="pacs"), "me")
    ledger.stop(claim, StudyState.FAILED, "Rejected: no")
    assert ledger.one("1.2.3").state is StudyState.DELIVERING
    assert ledger.one("1.2.3").problem == "pacs: Rejected: no"
    deliver(ledger, Step.SEND, "ehr")
    deliver(ledger, Step.CONFIRM, "ehr")
    assert ledger.one("1.2.3").state is StudyState.FAILED
    assert ledger.retry("1.2.3")
    assert [e.destination for e in ledger.due()] == ["pacs"]
    deliver(ledger, Step.SEND)
    deliver(ledger, Step.CONFIRM)
    assert ledger.one("1.2.3").state is StudyState.DONE


def test_a_poison_delivery_stops_after_three_attempts(ledger):
    complete(ledger)
    walk_to_deliveries(ledger, "pacs")
    for _ in range(3):
        assert ledger.claim(errand(Step.SEND, destination="pacs"), "host:1") is not None
        ledger.free("host:")
    assert ledger.claim(errand(Step.SEND, destination="pacs"), "host:1") is None
    assert ledger.one("1.2.3").state is StudyState.FAILED
    assert "3 attempts that died" in ledger.one("1.2.3").problem


def test_a_late_image_abandons_what_was_not_delivered_yet(ledger):
    complete(ledger)
    walk_to_deliveries(ledger, "pacs", "ehr")
    claim = deliver(ledger, Step.SEND)
    ledger.record_instance(instance(2))
    assert set(states(ledger).values()) == {DeliveryState.ABANDONED}
    ledger.finish(claim, DeliveryState.CONFIRMED, None, "too late")
    assert set(states(ledger).values()) == {DeliveryState.ABANDONED}
    assert ledger.due() == []


def test_a_held_study_delivers_nothing_until_it_is_released(ledger):
    complete(ledger)
    walk_to_deliveries(ledger, "pacs")
    assert ledger.hold("1.2.3", "dr", "wait")
    assert ledger.due() == []
    assert ledger.claim(errand(Step.SEND, destination="pacs"), "me") is None
    ledger.release("1.2.3", "dr", "go")
    deliver(ledger, Step.SEND)
    deliver(ledger, Step.CONFIRM)
    assert ledger.one("1.2.3").state is StudyState.DONE


@pytest.mark.parametrize("state", [StudyState.HELD, StudyState.FAILED])
def test_a_study_that_stops_opens_a_notice_that_ends_when_it_runs_again(ledger, state):
    ledger._notify = ("pacs",)
    complete(ledger)
    ledger.stop(ledger.claim(errand(Step.GATHER), "me"), state, "PatientNotMatched: two")
    [notice] = ledger.due()
    assert (notice.content, notice.destination) == (Content.NOTICE, "pacs")
    claim = ledger.claim(notice, "me")
    assert ledger.reason(claim) == ("gather: PatientNotMatched: two", START)
    ledger.finish(claim, DeliveryState.SENT, None, "done")
    assert ledger.one("1.2.3").state is state
    ledger.retry("1.2.3")
    assert states(ledger) == {"pacs": DeliveryState.ABANDONED}
    assert ledger.due() == [errand(Step.GATHER)]
    ledger.stop(ledger.claim(errand(Step.GATHER), "me"), state, "again")
    assert states(ledger) == {"pacs": DeliveryState.WAITING}


def test_what_we_sent_adds_nothing_when_it_comes_back(ledger):
    complete(ledger)
    back = instance(9)
    ours = own(back.keys.sop_instance_uid)
    for _ in range(2):
        ledger.note_own("1.2.3", "pacs", KEY, [ours])
    assert ledger.record_instance(back) is Arrival.OURS
    assert ledger.one("1.2.3").instances == 1
    assert list(ledger.sent_objects("pacs", KEY)) == [ours]
    assert list(ledger.sent_objects("other", KEY)) == []


def test_storage_commitment_is_remembered_until_it_is_forgotten(ledger):
    assert ledger.commitment("pacs", KEY) is None
    assert not ledger.note_commitment_answer("1.9", committed=["1.5"], failed=[])
    ledger.note_commitment_request("1.9", "pacs", KEY)
    assert not ledger.commitment("pacs", KEY).is_answered
    assert ledger.commitment("vna", KEY) is None
    assert ledger.note_commitment_answer("1.9", committed=[], failed=[])
    assert ledger.commitment("pacs", KEY).is_answered
    ledger.forget_commitment("1.9")
    assert ledger.commitment("pacs", KEY) is None


def test_storage_commitment_counts_what_was_sent_there_and_nothing_else(ledger):
    ledger.note_own("1.2.3", "pacs", KEY, [own("1.5"), own("1.6"), own("1.7")])
    ledger.note_own("1.2.3", "vna", KEY, [own("1.8")])
    ledger.note_commitment_request("1.9", "pacs", KEY)
    named = ["1.5", "1.6", "1.8", "1.99"]
    assert ledger.note_commitment_answer("1.9", committed=named, failed=["1.6", "1.98"])
    found = ledger.commitment("pacs", KEY)
    assert (found.committed, found.failed) == (1, 1)


def test_a_late_answer_counts_beside_a_newer_request(ledger):
    ledger.note_own("1.2.3", "pacs", KEY, [own("1.5")])
    ledger.note_commitment_request("1.9", "pacs", KEY)
    ledger.note_commitment_request("1.10", "pacs", KEY)
    assert ledger.note_commitment_answer("1.9", committed=["1.5"], failed=[])
    found = ledger.commitment("pacs", KEY)
    assert (found.transaction_uid, found.is_answered) == ("1.9", True)


def test_what_is_sent_anew_is_to_be_confirmed_anew(ledger):
    for _ in range(2):
        ledger.note_own("1.2.3", "pacs", KEY, [own("1.5")])
        assert ledger.commitment("pacs", KEY) is None
        ledger.note_commitment_request("1.9", "pacs", KEY)
        ledger.note_commitment_answer("1.9", committed=["1.5"], failed=[])
