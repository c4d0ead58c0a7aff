"""Completeness proven against a real Orthanc, and what is missing fetched from it."""

import statistics

import httpx
import pydicom
import pytest

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.plugin import Plugin, storescu
from kit.servers import Orthanc, wait_until

PROOF = "complete, 3 of 3 instances, as the archive counts"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("archive"), dicomweb=True).up() as server:
        yield server


def sent_in_part(plugin, archive, folder, number, fewer=0):
    """Three images of a study in the archive, all but `fewer` of them with us."""
    files = studies.write(folder / str(number), number, images=3)
    storescu(archive.port, *files, ae_title="ORTHANC")
    storescu(plugin.port, *files[: 3 - fewer])
    return str(pydicom.dcmread(files[0]).StudyInstanceUID)


@pytest.mark.parametrize("how", ["get", "move", "web"])
def test_what_is_missing_is_fetched_and_the_study_is_proven_complete(how, archive, tmp_path):
    settings = {"BONETUMOR_LISTENER__QUIET_S": "2", "BONETUMOR_LISTENER__PARTIAL_S": "60"}
    if how == "web":
        settings["BONETUMOR_ARCHIVE__DICOMWEB_URL"] = f"http://127.0.0.1:{archive.http}/dicom-web"
    else:
        settings["BONETUMOR_ARCHIVE__FETCH"] = how
    plugin = Plugin(tmp_path / "plugin", archive=archive, **settings)
    modality = ["BONETUMOR", "127.0.0.1", plugin.port]
    base = f"http://127.0.0.1:{archive.http}"
    assert httpx.put(f"{base}/modalities/us", json=modality, timeout=10).is_success
    number = {"get": 700, "move": 701, "web": 702}[how]
    with plugin.up():
        study = sent_in_part(plugin, archive, tmp_path, number, fewer=2)
        assert plugin.wait(study) is StudyState.DONE, plugin.problem(study)
        story = plugin.ledger.story(study)
    assert [e.detail for e in story if e.kind == "complete"] == [f"3 instances; {PROOF}"]
    assert len(plugin.ledger.study(study).instances) == 3
    [report] = archive.structured_reports(study)
    assert PROOF.encode() in report
    httpx.delete(f"{base}/modalities/us", timeout=10)


def test_studies_start_within_a_second_of_their_last_image(archive, tmp_path):
    """The quiet time is long: only proof lets them start."""
    waits = []
    plugin = Plugin(
        tmp_path / "plugin",
        archive=archive,
        BONETUMOR_LISTENER__QUIET_S="60",
        BONETUMOR_QUEUE__SWEEP_S="0.2",
    )
    with plugin.up():
        for number in range(710, 720):
            study = sent_in_part(plugin, archive, tmp_path, number)
            plugin.wait(study, *set(StudyState) - {StudyState.RECEIVING}, seconds=30)
            last = plugin.ledger.one(study).last_instance_at
            [closed] = [e for e in plugin.ledger.story(study) if e.kind == "complete"]
            assert closed.detail == f"3 instances; {PROOF}"
            waits.append((closed.at - last).total_seconds())
    assert statistics.median(waits) <= 1.0, waits


def test_rules_leave_what_is_not_for_us_and_a_person_can_run_it(archive, tmp_path):
    plugin = Plugin(
        tmp_path / "plugin",
        archive=archive,
        BONETUMOR_RULES='[{"when": "called_ae = NIGHT", "then": "urgent"}]',
        BONETUMOR_LISTENER__OTHER_AE_TITLES='["NIGHT"]',
    )
    with plugin.up():
        study = sent_in_part(plugin, archive, tmp_path, 730)
        plugin.wait(study, StudyState.UNWANTED, seconds=30)
        assert plugin.problem(study) == "not for us: none of 1 rules wants it"
        assert plugin.command("cases", "run", study).returncode == 0
        assert plugin.wait(study) is StudyState.DONE, plugin.problem(study)
        files = studies.write(tmp_path / "731", 731)
        storescu(archive.port, *files, ae_title="ORTHANC")
        storescu(plugin.port, *files, ae_title="NIGHT")
        urgent = str(pydicom.dcmread(files[0]).StudyInstanceUID)
        assert plugin.wait(urgent) is StudyState.DONE, plugin.problem(urgent)
        assert plugin.ledger.one(urgent).urgent


def test_one_destination_that_is_down_holds_up_no_other(archive, tmp_path):
    down = Orthanc(tmp_path / "down")
    destinations = (
        f'[{{"name": "up", "host": "127.0.0.1", "port": {archive.port}, "ae_title": "ORTHANC"}},'
        f' {{"name": "down", "host": "127.0.0.1", "port": {down.port}, "ae_title": "ORTHANC"}}]'
    )
    plugin = Plugin(tmp_path / "plugin", archive=archive, BONETUMOR_DESTINATIONS=destinations)
    with plugin.up():
        study = sent_in_part(plugin, archive, tmp_path, 740)
        plugin.wait(study, StudyState.DELIVERING)
        wait_until(
            lambda: _states(plugin, study).get("up") == "confirmed", 60, "the one that is up"
        )
        assert _states(plugin, study)["down"] == "waiting"
        assert plugin.problem(study).startswith("down: ArchiveUnavailable")
        with down.up():
            assert plugin.wait(study) is StudyState.DONE
            assert len(down.structured_reports(study)) == 1


def _states(plugin, study):
    return {d.destination: str(d.state) for d in plugin.ledger.deliveries(study)}
