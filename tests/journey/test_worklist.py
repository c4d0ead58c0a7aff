"""Studies that a worklist manager asks for: fetched from a real Orthanc, assessed, and told of."""

import httpx
import pydicom
import pytest

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.plugin import Plugin, storescu
from kit.servers import Orthanc, wait_until
from kit.worklist import DONE, Manager


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("archive"), dicomweb=True).up() as server:
        yield server


@pytest.fixture
def manager():
    with Manager().up() as running:
        yield running


def plugin_for(folder, archive, manager, partial_s, **settings):
    plugin = Plugin(
        folder,
        archive=archive,
        BONETUMOR_WORKLIST__DICOMWEB_URL=manager.url,
        BONETUMOR_WORKLIST__LABEL="AI",
        BONETUMOR_WORKLIST__EVERY_S="0.5",
        BONETUMOR_LISTENER__PARTIAL_S=partial_s,
        BONETUMOR_LISTENER__QUIET_S="2",
        **settings,
    )
    url = f"http://127.0.0.1:{archive.http}/modalities/us"  # whom Orthanc lets fetch
    assert httpx.put(url, json=["BONETUMOR", "127.0.0.1", plugin.port], timeout=10).is_success
    return plugin


def test_nobody_sends_a_study_and_its_workitem_is_completed_with_the_result(
    archive, manager, tmp_path
):
    files = studies.write(tmp_path / "760", 760, images=3)
    storescu(archive.port, *files, ae_title="ORTHANC")
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    unwanting = '[{"when": "called_ae = NOBODY", "then": "assess"}]'
    plugin = plugin_for(tmp_path / "plugin", archive, manager, "5", BONETUMOR_RULES=unwanting)
    with plugin.up():
        uid = manager.add(study, priority="HIGH")
        missing = manager.add("1.2.3.4.5")
        plugin.wait(study)
        wait_until(lambda: manager.state(uid) in DONE, 30, "the workitem's end")
        wait_until(lambda: manager.state(missing) in DONE, 30, "the other workitem's end")
        doctor = plugin.command("doctor")
        progress, story = plugin.ledger.one(study), plugin.ledger.story(study)
    assert progress.state is StudyState.DONE, plugin.problem(study)
    assert progress.urgent
    assert [e.detail for e in story if e.kind == "workitem"] == [
        f"{uid} claimed",
        f"{uid} COMPLETED",
    ]
    assert manager.state(uid) == "COMPLETED"
    [performed] = manager.workitems[uid].UnifiedProcedureStepPerformedProcedureSequence
    made = {
        str(one.ReferencedSOPInstanceUID)
        for item in performed.OutputInformationSequence
        for one in item.ReferencedSOPSequence
        if item.DICOMRetrievalSequence[0].RetrieveAETitle == "ORTHANC"
    }
    url = f"http://127.0.0.1:{archive.http}/dicom-web/studies/{study}/instances"
    held = {one["00080018"]["Value"][0] for one in httpx.get(url, timeout=10).json()}
    assert len(made) == 4  # the SR, and a picture of each image
    assert made == held - {str(pydicom.dcmread(file).SOPInstanceUID) for file in files}
    assert manager.state(missing) == "CANCELED"
    [progress] = manager.workitems[missing].ProcedureStepProgressInformationSequence
    assert "which holds 0" in progress.ReasonForCancellation
    assert "worklist  answers; 0 workitems are ours now" in doctor.stdout


def test_a_plugin_that_was_killed_goes_on_with_what_is_its_own(archive, manager, tmp_path):
    files = studies.write(tmp_path / "761", 761)
    plugin = plugin_for(tmp_path / "plugin", archive, manager, "60")
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    uid = manager.add(study)
    with plugin.up():
        wait_until(lambda: any(p.claimed_at for p in plugin.ledger.performances()), 30, "the claim")
        plugin.kill()
    storescu(archive.port, *files, ae_title="ORTHANC")
    with plugin.up():
        wait_until(lambda: manager.state(uid) in DONE, 60, "the workitem's end")
    assert manager.state(uid) == "COMPLETED"
