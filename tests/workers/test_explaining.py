"""`explain`: what a person reads of a study, and what they are told to do."""

from datetime import timedelta

import pytest

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.progress import Step, StudyState
from bonetumor.domain.workitem import Workitem
from bonetumor.worker.explaining import explain
from kit.ledger import (
    START,
    Clock,
    close,
    complete,
    deliver,
    errand,
    instance,
    sqlite_ledger,
    walk_to_deliveries,
)


@pytest.fixture
def ledger(tmp_path):
    with sqlite_ledger(tmp_path, Clock()) as made:
        yield made


def test_where_it_came_from_and_that_more_may_come(ledger):
    ledger.record_instance(instance(1))
    ledger.record_instance(instance(2))
    told = explain(ledger, "1.2.3")
    assert "2 instances in 1 series" in told
    assert "2 from PACS to us" in told
    assert told.split("\n\n")[-1].startswith("Now: more images may come.")


def test_what_it_waits_for_and_when_the_next_try_is(ledger):
    complete(ledger)
    assert "Now: it waits for evidence to be gathered from the EHR" in explain(ledger, "1.2.3")
    claim = ledger.claim(errand(Step.GATHER), "me")
    ledger.put_off(claim, "EHR: expected an answer, got none", START + timedelta(minutes=5))
    told = explain(ledger, "1.2.3")
    assert "The last try failed: EHR: expected an answer, got none. The next is at 12:05:00" in told


def test_each_destination_by_itself(ledger):
    complete(ledger)
    walk_to_deliveries(ledger, "pacs", "ehr")
    deliver(ledger, Step.SEND)
    claim = ledger.claim(errand(Step.SEND, destination="ehr"), "me")
    ledger.put_off(claim, "EHR: expected 201, got 503", START + timedelta(minutes=2))
    told = explain(ledger, "1.2.3")
    assert "result of revision 1 to pacs: sent since" in told
    now = told.split("\n\n")[-1]
    assert now.startswith("Now: it waits for its destinations.")
    assert "ehr: waiting. The last try failed: EHR: expected 201, got 503." in now
    assert "pacs: sent." in now


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (
            StudyState.FAILED,
            "it failed (gather: a reason). Once the cause is mended, `bonetumor replay 1.2.3",
        ),
        (
            StudyState.HELD,
            "a person must decide (gather: a reason). Then `bonetumor cases release 1.2.3",
        ),
    ],
)
def test_what_a_person_must_do(state, wanted, ledger):
    complete(ledger)
    ledger.stop(ledger.claim(errand(Step.GATHER), "me"), state, "a reason")
    assert wanted in explain(ledger, "1.2.3")


def test_what_is_not_for_us_can_be_run(ledger):
    ledger.record_instance(instance(1))
    close(ledger, unwanted="no rule fits")
    told = explain(ledger, "1.2.3")
    assert "no rule wants it (not for us: no rule fits)" in told
    assert "`bonetumor cases run 1.2.3`" in told


def test_done_is_done(ledger):
    complete(ledger)
    walk_to_deliveries(ledger, "pacs")
    deliver(ledger, Step.SEND)
    deliver(ledger, Step.CONFIRM)
    assert explain(ledger, "1.2.3").endswith("Now: it is done: every destination has confirmed.")


def test_an_unknown_study_is_said_to_be_unknown(ledger):
    with pytest.raises(InvalidInput, match="expected a study that was received"):
        explain(ledger, "9.9")


def test_a_study_that_a_workitem_asks_for_and_that_has_not_come(ledger):
    ledger.begin_workitem(Workitem(uid="1.8", studies=("1.2.3",)), "1.9")
    ledger.note_claimed("1.8")
    told = explain(ledger, "1.2.3")
    assert "No image of it has come." in told
    assert "workitem: 1.8 claimed" in told
    assert told.endswith("Now: a workitem asks for it, and the archive is asked to send it.")
    ledger.end_workitem("1.8", "CANCELED: the archive holds none")
    told = explain(ledger, "1.2.3")
    assert "workitem: 1.8 CANCELED: the archive holds none" in told
    assert told.endswith("Now: nobody asks for it any more.")
