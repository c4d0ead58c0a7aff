"""Archives that are asked what they hold, and answer in no form that the standard knows."""

import httpx
import pytest
from pydicom import Dataset

from bonetumor.dicom.archive import PacsArchive, WebArchive
from bonetumor.dicom.web import Dicomweb
from bonetumor.domain.errors import ArchiveUnavailable, BoneTumorError
from kit.archives import OddArchive, peer_at

STUDY, SERIES = "1.2.3", "1.2.3.1"
JUNK = b"--b\r\nContent-Type: application/dicom\r\n\r\nno DICOM\r\n--b--"


def web(answer: httpx.Response) -> WebArchive:
    http = httpx.Client(transport=httpx.MockTransport(lambda _: answer))
    return WebArchive(Dicomweb("http://archive", http), None, name="PACS", called="BONETUMOR")


ANSWERS = {
    "a page": httpx.Response(200, html="<p>Please log in</p>"),
    "no list": httpx.Response(200, json={"0020000D": {}}),
    "a list of words": httpx.Response(200, json=["a", "b"]),
    "values that are none": httpx.Response(200, json=[{"0020000E": {"Value": 7}}]),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_dicomweb_in_no_form_is_an_archive_that_does_not_answer(answer):
    archive = web(ANSWERS[answer])
    with pytest.raises(BoneTumorError, match="expected"):
        archive.holdings(STUDY)
    with pytest.raises(BoneTumorError, match="expected"):
        archive.instances(STUDY, SERIES)


def paged(matches: list, *, knows_limit: bool, knows_offset: bool) -> WebArchive:
    """A service of so many matches that may not know of pages."""

    def answer(request):
        start = int(request.url.params["offset"]) if knows_offset else 0
        most = int(request.url.params["limit"]) if knows_limit else len(matches)
        return httpx.Response(200, json=matches[start : start + most])

    http = httpx.Client(transport=httpx.MockTransport(answer))
    return WebArchive(Dicomweb("http://archive", http), None, name="PACS", called="BONETUMOR")


MANY = [{"00080018": {"vr": "UI", "Value": [f"1.2.{number}"]}} for number in range(1, 2501)]


def test_a_long_series_is_read_page_by_page_or_at_once():
    for knows in (True, False):
        archive = paged(MANY, knows_limit=knows, knows_offset=knows)
        assert len(archive.instances(STUDY, SERIES)) == 2500


def test_a_service_that_turns_no_page_is_no_answer():
    archive = paged(MANY, knows_limit=True, knows_offset=False)
    with pytest.raises(ArchiveUnavailable, match="the same again"):
        archive.instances(STUDY, SERIES)


@pytest.mark.parametrize("kind", ["multipart/related; boundary=b", "text/html"])
def test_objects_that_are_none_are_not_taken(kind):
    archive = web(httpx.Response(200, content=JUNK, headers={"Content-Type": kind}))
    with pytest.raises(BoneTumorError, match="expected"):
        archive.fetch(STUDY, {SERIES: frozenset({"1.2.3.1.1"})})


def test_a_match_without_the_uid_that_was_asked_for_is_no_answer():
    class Forgetful(OddArchive):
        def _find(self, event):
            match = Dataset()
            match.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
            yield 0xFF00, match

    with Forgetful().up() as odd:
        archive = PacsArchive(peer_at(odd.port, odd.ae_title), None, fetching="off")
        for ask in (lambda: archive.holdings(STUDY), lambda: archive.instances(STUDY, SERIES)):
            with pytest.raises(ArchiveUnavailable, match="AttributeError"):
                ask()
