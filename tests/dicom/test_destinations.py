"""Results at archives of every temper: odd peers by pynetdicom, and a real Orthanc."""

import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import pydicom
import pytest
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage
from pynetdicom import evt
from pynetdicom.dsutils import encode

from bonetumor.dicom.destination import DicomDestination
from bonetumor.dicom.objects import Kind, ObjectMaker
from bonetumor.dicom.peer import FIND, find
from bonetumor.dicom.reader import SpooledStudies
from bonetumor.dicom.tls import client_context, server_context
from bonetumor.dicom.web import Dicomweb, DicomwebDestination
from bonetumor.domain.errors import ArchiveUnavailable, CommitmentPending, Misconfigured, Rejected
from bonetumor.service.ports import Notice, Result
from kit import studies
from kit.archives import OddArchive, peer_at
from kit.results import result_about
from kit.servers import Orthanc, answers, certificate, free_port, need, running, wait_until
from kit.site import Site, send, send_as


@pytest.fixture(scope="module")
def dicomweb_archive(tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("web"), dicomweb=True).up() as server:
        yield server


@pytest.fixture
def one(site) -> Result:
    """A result about an image in the site's spool."""
    image = studies.dataset(3)
    assert send(site, image) == 0x0000
    study = site.ledger.study(str(image.StudyInstanceUID))
    return result_about(study, SpooledStudies(site.spool))


def maker(site, *kinds):
    return ObjectMaker(SpooledStudies(site.spool), kinds or (Kind.SR, Kind.SC))


def destination(site, archive, *kinds, confirmation="auto", wait_s=60.0, timeout_s=5.0):
    return DicomDestination(
        "pacs",
        peer_at(archive.port, archive.ae_title, timeout_s=timeout_s),
        maker(site, *kinds),
        site.ledger,
        confirmation=confirmation,
        commitment_wait=timedelta(seconds=wait_s),
        clock=lambda: datetime.now(UTC),
    )


def confirmed(there, one, seconds=10.0) -> str:
    """Asks until the archive has answered, as the walk does."""
    said = []

    def asked() -> bool:
        try:
            said.append(there.confirm(one))
        except ArchiveUnavailable:
            return False
        return True

    wait_until(asked, seconds, "confirmation")
    return said[0]


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007])
def test_a_success_and_a_warning_are_delivered_and_read_back(status, site, one):
    with OddArchive(status=status).up() as archive:
        there = destination(site, archive)
        assert there.send(one) == "1 structured report, 1 picture"
        assert there.confirm(one) == "the archive answers that it holds 2 objects"
        assert {d.Modality for d in archive.stored.values()} == {"SR", "OT"}


def test_a_duplicate_is_what_an_earlier_attempt_left(site, one):
    with OddArchive(status=0x0111).up() as archive:
        assert destination(site, archive).send(one)


@pytest.mark.parametrize("status", [0xA700, 0xA701])
def test_an_archive_without_room_is_tried_again(status, site, one):
    with OddArchive(status=status).up() as archive, pytest.raises(ArchiveUnavailable):
        destination(site, archive).send(one)


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0x0122, 0x0124])
def test_an_archive_that_refuses_is_believed(status, site, one):
    with (
        OddArchive(status=status).up() as archive,
        pytest.raises(Rejected, match=f"got {status:04X}"),
    ):
        destination(site, archive).send(one)


def test_an_archive_that_knows_no_3d_gets_the_older_class(site, one):
    with OddArchive(takes_3d=False).up() as archive:
        there = destination(site, archive, Kind.SR)
        there.send(one)
        [report] = archive.stored.values()
        assert report.SOPClassUID == ComprehensiveSRStorage
        assert there.confirm(one)
    with OddArchive().up() as archive:
        destination(site, archive, Kind.SR).send(one)
        [report] = archive.stored.values()
        assert report.SOPClassUID == Comprehensive3DSRStorage


@pytest.mark.parametrize("odd", [{"max_pdu": 4096}, {"slow_s": 0.5}])
def test_tiny_pdus_and_slow_readers_get_everything(odd, site, one):
    with OddArchive(**odd).up() as archive:
        there = destination(site, archive, *Kind)
        there.send(one)
        assert len(archive.stored) == 4
        assert there.confirm(one)


def test_an_association_that_is_aborted_is_tried_again(site, one):
    with OddArchive(aborts=True).up() as archive, pytest.raises(ArchiveUnavailable):
        destination(site, archive).send(one)


def test_a_rejection_says_why_however_late_it_is_read(site):
    stranger = peer_at(site.port, "OTHER")
    over = threading.Event()
    late = [
        (evt.EVT_CONN_CLOSE, lambda _: over.set()),
        (evt.EVT_REQUESTED, lambda _: over.wait(30)),
    ]
    said = pytest.raises(ArchiveUnavailable, match="rejection: Called AE title not recognised")
    with said, stranger.associate([FIND], handlers=late):
        pass


def test_asking_over_an_association_that_has_ended_is_tried_again():
    with OddArchive().up() as archive:

        def ask(*, abort):
            with peer_at(archive.port, archive.ae_title).associate([FIND]) as association:
                if abort:
                    association.abort()
                    find(association, pydicom.Dataset())
                raise RuntimeError("a fault of ours")

        with pytest.raises(ArchiveUnavailable, match="got its end"):
            ask(abort=True)
        with pytest.raises(RuntimeError, match="ours"):
            ask(abort=False)


@pytest.mark.filterwarnings("ignore:Expected implicit VR:UserWarning")
def test_a_match_that_cannot_be_read_confirms_nothing(site, one, monkeypatch):
    with OddArchive().up() as archive:
        there = destination(site, archive)
        there.send(one)
        # SOP Instance UID, of a value representation that does not exist
        nonsense = b"\x08\x00\x18\x00ZZ\x04\x001.2 "
        monkeypatch.setattr("pynetdicom.service_class.encode", lambda *_: nonsense)
        with pytest.raises(ArchiveUnavailable, match="standard's form"):
            there.confirm(one)


def test_an_archive_that_forgets_what_it_took_is_not_believed(site, one):
    with OddArchive().up() as archive:
        there = destination(site, archive)
        there.send(one)
        archive.stored.popitem()
        with pytest.raises(ArchiveUnavailable, match="without 1 of them"):
            there.confirm(one)


@pytest.mark.parametrize("commits", ["here", "there"])
def test_storage_commitment_is_taken_over_either_association(commits, site, one):
    with OddArchive(commits=commits, answer_to=site.port).up() as archive:
        there = destination(site, archive)
        there.send(one)
        assert confirmed(there, one) == "storage commitment of 2 objects"
        assert len(archive.requests) == 1


@pytest.mark.parametrize(
    ("commits", "got"), [("no", "0 committed and 2 failed"), ("other", "1 committed and 0 failed")]
)
def test_commitment_that_fails_or_names_others_is_asked_for_again(commits, got, site, one):
    with OddArchive(commits=commits, answer_to=site.port).up() as archive:
        there = destination(site, archive)
        there.send(one)
        with pytest.raises(ArchiveUnavailable, match=f"of 2 objects, got {got}"):
            there.confirm(one)
        archive.commits = "there"
        assert confirmed(there, one) == "storage commitment of 2 objects"
        assert len(archive.requests) == 2


def test_every_request_for_commitment_is_a_transaction_of_its_own(site, one):
    with OddArchive(commits="never", answer_to=site.port).up() as archive:
        there = destination(site, archive, confirmation="commitment", wait_s=0.0)
        there.send(one)
        for _ in range(2):
            with pytest.raises(CommitmentPending, match="got none yet"):
                there.confirm(one)
        first, second = archive.requests
        assert first.TransactionUID != second.TransactionUID
        archive.call_back(first)
        assert there.confirm(one) == "storage commitment of 2 objects"


def test_commitment_that_never_comes_is_replaced_by_reading_back_where_that_is_allowed(site, one):
    with OddArchive(commits="never").up() as archive:
        there = destination(site, archive, wait_s=2.0)
        there.send(one)
        said = confirmed(there, one)
        assert said.startswith("storage commitment was not answered; the archive answers")
        strict = destination(site, archive, confirmation="commitment", wait_s=0.0)
        with pytest.raises(ArchiveUnavailable):
            strict.confirm(one)


def test_commitment_that_is_refused_is_replaced_by_reading_back(site, one):
    with OddArchive(commits="refuse").up() as archive:
        there = destination(site, archive)
        there.send(one)
        assert there.confirm(one).startswith("storage commitment was refused with 0110; ")


def test_a_notice_says_why_there_is_no_result(site, one):
    notice = Notice(study=one.study, reason="assess: CorruptPixelData", at=datetime.now(UTC))
    with OddArchive().up() as archive:
        there = destination(site, archive, Kind.SR)
        there.send(notice)
        assert there.confirm(notice)
        [picture] = archive.stored.values()
        assert (picture.Modality, picture.BurnedInAnnotation) == ("OT", "YES")
        assert picture.StudyInstanceUID == one.study.study_instance_uid


def test_orthanc_commits_over_an_association_of_its_own(site, one, dicomweb_archive):
    modality = ["BONETUMOR", "127.0.0.1", site.port]
    base = f"http://127.0.0.1:{dicomweb_archive.http}"
    assert httpx.put(f"{base}/modalities/us", json=modality, timeout=10).is_success
    there = destination(site, dicomweb_archive, confirmation="commitment")
    there.send(one)
    assert confirmed(there, one, 30) == "storage commitment of 2 objects"
    httpx.delete(f"{base}/modalities/us", timeout=10)


def test_orthanc_takes_results_over_dicomweb_and_answers_that_it_holds_them(
    site, one, dicomweb_archive
):
    web = Dicomweb(f"http://127.0.0.1:{dicomweb_archive.http}/dicom-web", httpx.Client(timeout=30))
    web.answers()
    there = DicomwebDestination("web", web, maker(site, *Kind), site.ledger)
    for _ in range(2):
        assert there.send(one) == ("1 structured report, 1 picture, 1 presentation state, 1 PDF")
    assert there.confirm(one) == "the archive answers that it holds 4 objects"
    study = one.study.study_instance_uid
    assert len(dicomweb_archive.structured_reports(study)) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(503), ArchiveUnavailable),
        (httpx.Response(429), ArchiveUnavailable),
        (httpx.Response(400), Rejected),
        (httpx.Response(401), ArchiveUnavailable),
        (httpx.Response(403), Rejected),
        (httpx.Response(409), Rejected),
        (httpx.Response(200, html="<p>Please log in</p>"), ArchiveUnavailable),
        (httpx.Response(202, json={"00081198": {"Value": ["none"]}}), ArchiveUnavailable),
    ],
)
def test_a_dicomweb_archive_that_does_not_store_says_what_to_do(answer, error, site, one):
    http = httpx.Client(transport=httpx.MockTransport(lambda _: answer))
    there = DicomwebDestination("web", Dicomweb("http://x", http), maker(site), site.ledger)
    with pytest.raises(error):
        there.send(one)


@pytest.mark.parametrize("matches", [["a", "b"], [{"00080018": {"Value": 7}}], {"a": "b"}])
def test_a_dicomweb_archive_that_answers_in_no_form_has_confirmed_nothing(matches, site, one):
    def handler(request):
        return httpx.Response(200, json={} if request.method == "POST" else matches)

    http = httpx.Client(transport=httpx.MockTransport(handler))
    there = DicomwebDestination("web", Dicomweb("http://x", http), maker(site), site.ledger)
    there.send(one)
    with pytest.raises(ArchiveUnavailable, match="DICOM JSON"):
        there.confirm(one)


def test_a_dicomweb_archive_that_knows_no_3d_gets_the_older_class(site, one):
    bodies = []

    def handler(request):
        bodies.append(request.content)
        if len(bodies) == 1:
            uid = one.assessment.sr_sop_instance_uid
            failed = {"00081155": {"Value": [uid]}, "00081197": {"Value": [0x0122]}}
            return httpx.Response(409, json={"00081198": {"Value": [failed]}})
        return httpx.Response(200, json={})

    http = httpx.Client(transport=httpx.MockTransport(handler))
    there = DicomwebDestination("web", Dicomweb("http://x", http), maker(site), site.ledger)
    there.send(one)
    assert ComprehensiveSRStorage.encode() in bodies[1]
    assert Comprehensive3DSRStorage.encode() not in bodies[1]


def test_what_returns_from_the_archive_is_not_a_new_image(site, one):
    with OddArchive().up() as archive:
        destination(site, archive).send(one)
        back = next(d for d in archive.stored.values() if d.Modality == "OT")
    back.file_meta = pydicom.dataset.FileMetaDataset()
    before = site.ledger.one(one.study.study_instance_uid)
    assert send_as(site, back) == 0x0000
    assert site.ledger.one(one.study.study_instance_uid) == before


def test_a_router_that_takes_c_store_alone(site, one, tmp_path):
    """DCMTK's storescp, which answers neither commitment nor C-FIND."""
    port, place = free_port(), tmp_path / "router"
    place.mkdir()
    command = [need("storescp"), "-od", str(place), "-aet", "ROUTER", str(port)]
    with running(command, tmp_path / "storescp.log"):
        wait_until(lambda: answers(port), 10, "storescp")
        router = SimpleNamespace(port=port, ae_title="ROUTER")
        there = destination(site, router, *Kind, confirmation="success")
        assert there.send(one) == "1 structured report, 1 picture, 1 presentation state, 1 PDF"
        assert there.confirm(one).startswith("Success for 4 objects; the settings say")
        with pytest.raises(Rejected, match="C-FIND"):
            destination(site, router).confirm(one)
    kept = [pydicom.dcmread(p) for p in place.iterdir()]
    assert {d.Modality for d in kept} == {"SR", "OT", "PR", "DOC"}


def test_associations_over_tls_know_the_peer_and_are_known_to_it(tmp_path):
    server, ours = certificate(tmp_path, "localhost"), certificate(tmp_path, "ours")
    with Site(tmp_path / "site", tls=server_context(*server, ours[0])) as site:

        def peer(host, *files):
            tls = client_context(*files) if files else None
            return peer_at(site.port, "BONETUMOR", host=host, tls=tls)

        peer("localhost", server[0], *ours).echo()
        for stranger in (
            peer("127.0.0.1", server[0], *ours),  # its certificate is for another name
            peer("localhost", ours[0], *ours),  # and of another authority
            peer("localhost", server[0]),  # it wants to know us
            peer("localhost"),
        ):
            with pytest.raises(ArchiveUnavailable):
                stranger.echo()
    with pytest.raises(Misconfigured, match="PEM"):
        client_context(str(tmp_path / "none.pem"))


def test_the_same_result_is_the_same_bytes_at_any_time(site, one):
    """What is sent again after a crash must not differ from what the archive may hold."""

    def made() -> list[pydicom.Dataset]:
        makes = maker(site, *Kind)
        notice = Notice(study=one.study, reason="why", at=one.assessment.assessed_at)
        return [makes.report(one, three_d=True), *makes.pictures(one), *makes.pictures(notice)]

    first = made()
    time.sleep(1.1)  # the clock of DICOM times counts seconds
    assert [encode(o, False, True) for o in made()] == [encode(o, False, True) for o in first]
    assert len(first) == 5
