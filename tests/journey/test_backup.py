"""A copy made while studies are on their way, as deploy/install.md says, goes on where it was."""

import shutil
import subprocess

import pydicom

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.plugin import Plugin, storescu
from kit.servers import Orthanc, need, wait_until


def test_a_restored_copy_delivers_what_the_lost_machine_had_not(tmp_path):
    archive = Orthanc(tmp_path / "archive")  # not started: results wait
    lost = Plugin(tmp_path / "lost", archive=archive)
    files = studies.write(tmp_path / "study", 90)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    with lost.up():
        storescu(lost.port, *files)
        wait_until(lambda: lost.state(study) is StudyState.DELIVERING, 120, "a result that waits")
        copy = tmp_path / "copy"
        copy.mkdir()
        _backup(lost.folder, copy)
        lost.kill()
    shutil.rmtree(lost.folder)
    with archive.up():
        restored = Plugin(copy, archive=archive)
        with restored.up():
            assert restored.wait(study) is StudyState.DONE, restored.problem(study)
        assert len(archive.structured_reports(study)) == 1


def _backup(folder, copy):
    subprocess.run(
        [need("sqlite3"), str(folder / "ledger.sqlite"), f".backup {copy / 'ledger.sqlite'}"],
        check=True,
    )
    subprocess.run(["cp", "--archive", "--update", str(folder / "spool"), str(copy)], check=True)
