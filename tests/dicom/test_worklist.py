"""Workitems over UPS-RS: only those that are meant for us, claimed once, ended as the standard
wants it."""

from datetime import UTC, datetime

import httpx
import pytest

from bonetumor.dicom.web import Dicomweb
from bonetumor.dicom.worklist import Meant, Retrieval, UpsWorklist
from bonetumor.domain.code import Code
from bonetumor.domain.errors import ArchiveUnavailable, Rejected
from bonetumor.domain.workitem import Performance, Workitem
from kit.ledger import own
from kit.worklist import Manager, code

STATION = Code("GPU1", "99TEST", "BONETUMOR")
MEANT = Meant(label="AI", workitem=Code("AI-BONE", "99TEST", ""), station=STATION)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
RETRIEVAL = {"pacs": Retrieval(ae_title="PACS"), "web": Retrieval(dicomweb_url="https://web/rs/")}


def worklist_at(url, http=None):
    return UpsWorklist(
        Dicomweb(url, http or httpx.Client()),
        meant=MEANT,
        ae_title="BONETUMOR",
        station=STATION,
        retrieval=RETRIEVAL,
        clock=lambda: NOW,
    )


@pytest.fixture(params=[{}, {"knows_keys": False}, {"asks_who": True}], ids=str)
def manager(request):
    with Manager(**request.param).up() as running:
        yield running


@pytest.fixture
def worklist(manager):
    return worklist_at(manager.url)


def performance(uid, transaction="1.9", *studies):
    return Performance(
        workitem=Workitem(uid=uid, studies=studies or ("1.2.3",)),
        transaction_uid=transaction,
        begun_at=NOW,
        claimed_at=NOW,
    )


def test_only_what_is_ready_and_meant_for_us_is_offered(manager, worklist):
    ours = manager.add("1.2.3", "1.2.4", "1.2.3", priority="HIGH")
    manager.add("1.2.5", label="OTHER")
    manager.add("1.2.5", ScheduledWorkitemCodeSequence=[code("AI-LUNG")])
    manager.add("1.2.5", ScheduledWorkitemCodeSequence=[code("AI-BONE", "99OTHER")])
    manager.add("1.2.5", ScheduledStationNameCodeSequence=[])
    manager.add("1.2.5", InputReadinessState="INCOMPLETE")
    manager.add("1.2.5", ProcedureStepState="IN PROGRESS")
    manager.add()  # names no study
    assert worklist.offered(9) == [Workitem(uid=ours, studies=("1.2.3", "1.2.4"), urgent=True)]
    manager.add("1.2.6")
    assert [len(worklist.offered(most)) for most in (1, 2, 3)] == [1, 2, 2]
    worklist.answers()


def test_a_workitem_is_claimed_by_one(manager, worklist):
    uid = manager.add("1.2.3")
    assert worklist.claim(uid, "1.9")
    assert not worklist.claim(uid, "1.10")
    assert worklist.is_ours(uid, "1.9")
    assert not worklist.is_ours(uid, "1.10")
    assert not worklist.claim("1.2.99", "1.9")
    assert not worklist.is_ours("1.2.99", "1.9")


def test_what_was_made_is_said_with_where_it_is(manager, worklist):
    uid = manager.add("1.2.3")
    worklist.claim(uid, "1.9")
    outputs = {"pacs": [own("1.1"), own("1.2")], "web": [own("1.1")]}
    assert worklist.complete(performance(uid), outputs) == "COMPLETED"
    assert manager.state(uid) == "COMPLETED"
    [performed] = manager.workitems[uid].UnifiedProcedureStepPerformedProcedureSequence
    assert performed.PerformedStationNameCodeSequence[0].CodeValue == "GPU1"
    assert performed.PerformedWorkitemCodeSequence[0].CodeValue == "AI-BONE"
    assert performed.PerformedProcedureStepEndDateTime == "20260101120000+0000"
    in_pacs, on_web = performed.OutputInformationSequence
    assert [i.ReferencedSOPInstanceUID for i in in_pacs.ReferencedSOPSequence] == ["1.1", "1.2"]
    assert in_pacs.DICOMRetrievalSequence[0].RetrieveAETitle == "PACS"
    url = "https://web/rs/studies/1.2.3/series/1.2.3.9"
    assert on_web.WADORSRetrievalSequence[0].RetrieveURL == url
    assert worklist.complete(performance(uid), outputs) == "is COMPLETED already"


def test_why_nothing_was_made_is_said(manager, worklist):
    uid = manager.add("1.2.3")
    worklist.claim(uid, "1.9")
    assert worklist.cancel(performance(uid), "no images") == "CANCELED"
    [progress] = manager.workitems[uid].ProcedureStepProgressInformationSequence
    assert progress.ReasonForCancellation == "no images"
    assert progress.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"


def test_a_workitem_that_is_no_longer_ours_cannot_be_ended(manager, worklist):
    uid = manager.add("1.2.3")
    worklist.claim(uid, "1.9")
    with pytest.raises(Rejected, match="expected it to take COMPLETED"):
        worklist.complete(performance(uid, "1.10"), {})
    assert manager.state(uid) == "IN PROGRESS"
    assert (
        worklist.cancel(performance("1.2.99"), "no images") == "is no longer known to the worklist"
    )


ANSWERS = {
    "a page": httpx.Response(200, html="<p>Please log in</p>"),
    "values that are none": httpx.Response(200, json=[{"00080018": 7}]),
    "no answer": httpx.Response(503),
    "no credentials": httpx.Response(401),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_manager_that_answers_in_no_form_is_asked_again(answer):
    http = httpx.Client(transport=httpx.MockTransport(lambda _: ANSWERS[answer]))
    with pytest.raises(ArchiveUnavailable, match="expected"):
        worklist_at("http://manager", http).offered(1)


ODD = {
    "nothing": lambda whole: [],
    "no list": lambda whole: {},
    "a word": lambda whole: "x",
    "no items": lambda whole: [{**whole, "00404021": {"vr": "SQ", "Value": 7}}],
    "no sequence of inputs": lambda whole: [{**whole, "00404021": {"vr": "LO", "Value": ["x"]}}],
    "no sequence of codes": lambda whole: [{**whole, "00404018": {"vr": "LO", "Value": ["x"]}}],
    "no UID": lambda whole: [
        {**whole, "00404021": {"vr": "SQ", "Value": [{"0020000D": {"vr": "UI", "Value": ["x"]}}]}}
    ],
}


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("odd", ODD)
def test_a_workitem_that_cannot_be_read_is_passed_over(odd):
    manager = Manager()
    whole = manager.workitems[manager.add("1.2.3")].to_json_dict()
    body = ODD[odd](whole)

    def answer(request):
        if request.url.path.endswith("/workitems"):
            return httpx.Response(200, json=[{"00080018": {"vr": "UI", "Value": ["1.2"]}}])
        return httpx.Response(200, json=body)

    http = httpx.Client(transport=httpx.MockTransport(answer))
    assert worklist_at("http://manager", http).offered(1) == []
