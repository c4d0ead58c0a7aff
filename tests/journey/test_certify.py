"""`certify` at a real Orthanc, over DIMSE and over DICOMweb, and at an archive that refuses."""

import json

import pytest

from kit.archives import OddArchive
from kit.plugin import Plugin
from kit.servers import Orthanc
from kit.viewer import Ohif


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with Orthanc(
        tmp_path_factory.mktemp("archive"), dicomweb=True, knows=("BONETUMOR",)
    ).up() as server:
        yield server


def certify(tmp_path, destination, *more):
    plugin = Plugin(
        tmp_path / "plugin", BONETUMOR_DESTINATIONS=json.dumps([{"name": "pacs", **destination}])
    )
    done = plugin.command("certify", "pacs", "--out", str(tmp_path / "out"), *more)
    return done, tmp_path / "out" / "certificate.html"


def test_everything_is_tried_over_dimse_and_the_viewer_is_shown(archive, tmp_path):
    where = {"host": "127.0.0.1", "port": archive.port, "ae_title": "ORTHANC", "confirm": "find"}
    with Ohif(archive) as viewer:
        link = (
            f"{viewer.url}/viewer?StudyInstanceUIDs={{study}}&initialSeriesInstanceUID={{series}}"
        )
        done, page = certify(
            tmp_path, {**where, "results": ["sr", "sc", "gsps", "pdf"]}, "--viewer", link
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    assert "ok   gives them back as they were: 7 objects; changed: nothing" in done.stdout
    assert "dciodvfy finds no error in" in done.stdout
    assert "remove study" in done.stdout
    assert "data:image/png" in page.read_text()
    assert len(archive.get("/studies")) == 1


def test_over_dicomweb_nothing_is_left_behind_where_the_archive_allows_it(archive, tmp_path):
    before = set(archive.get("/studies"))
    url = f"http://127.0.0.1:{archive.http}/dicom-web"
    done, page = certify(tmp_path, {"dicomweb_url": url})
    assert "ok   takes a result with a lesion" in done.stdout, done.stdout + done.stderr
    assert "ok   gives them back as they were: 4 objects; changed: nothing" in done.stdout
    assert page.is_file()
    left = set(archive.get("/studies")) - before
    assert bool(left) == ("FAIL taken away again" in done.stdout)


def test_what_is_refused_is_evidence_too(tmp_path):
    with OddArchive(status=0xA900).up() as archive:
        where = {"host": "127.0.0.1", "port": archive.port, "ae_title": archive.ae_title}
        done, page = certify(tmp_path, where)
    assert done.returncode == 1
    assert "FAIL takes an image: Rejected: archive: expected Success for C-STORE, got A900" in (
        done.stdout
    )
    assert "Something failed." in page.read_text()


@pytest.mark.parametrize(
    ("confirm", "said"),
    [
        (
            "auto",
            "ok   confirms a result without: storage commitment was not answered; the archive",
        ),
        ("commitment", "-    confirms a result without: archive: expected an answer to storage"),
    ],
)
def test_commitment_that_is_answered_to_the_listener_is_not_tried(confirm, said, tmp_path):
    with OddArchive(commits="never").up() as archive:
        where = {"host": "127.0.0.1", "port": archive.port, "ae_title": archive.ae_title}
        done, _ = certify(tmp_path, {**where, "confirm": confirm})
    assert said in done.stdout, done.stdout + done.stderr
    assert "FAIL confirms" not in done.stdout


def test_an_unknown_destination_is_named(tmp_path):
    plugin = Plugin(tmp_path / "plugin")
    done = plugin.command("certify", "nowhere")
    assert done.returncode == 2
    assert "expected one of the destinations (none), got nowhere" in done.stderr
