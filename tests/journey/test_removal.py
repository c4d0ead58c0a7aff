"""A removed study: its files go, its story stays, and no late image of it is assessed alone."""

import os
import re
import time

import pydicom
import pytest

from bonetumor.domain.progress import StudyState
from bonetumor.domain.uid import derived_uid
from kit import studies
from kit.plugin import Plugin, storescu


@pytest.fixture
def plugin(tmp_path, orthanc):
    # The archive is not asked: a timer alone says that a study is complete.
    with Plugin(
        tmp_path / "plugin", archive=orthanc, BONETUMOR_ARCHIVE__ASK="false"
    ).up() as running:
        yield running


def test_a_removed_study_leaves_a_record_and_a_late_image_of_it_is_held(plugin, tmp_path):
    first = studies.dataset(310)
    study = str(first.StudyInstanceUID)
    paths = []
    for number in range(3):
        first.SOPInstanceUID = derived_uid("removal", str(number))
        first.file_meta.MediaStorageSOPInstanceUID = first.SOPInstanceUID
        paths.append(tmp_path / f"{number}.dcm")
        first.save_as(paths[-1], enforce_file_format=True)
    storescu(plugin.port, *paths[:2])
    assert plugin.wait(study) is StudyState.DONE, plugin.problem(study)
    heard = plugin.command("status").stdout.split("Workers heard of: ")[1]
    assert sorted(re.findall(r"(\w+) \d+ s ago", heard)) == ["gpu", "io"]
    assert plugin.command("healthy", "--listener", "--workers").returncode == 0
    folder = plugin.folder / "spool" / study
    for file in folder.iterdir():
        os.utime(file, (time.time() - 7200,) * 2)
    said = plugin.command("cases", "remove", study, "--reason", "sent by mistake", "--by", "jane")
    assert said.stdout.strip() == f"{study} is removed."
    assert not folder.exists()
    assert "2 instances" in (record := plugin.command("cases", "removed").stdout)
    assert "by jane: sent by mistake; files gone at" in record
    assert "Its images were removed" in plugin.command("explain", study).stdout
    again = plugin.command("cases", "remove", study, "--reason", "again")
    assert again.returncode == 2
    assert "not removed yet" in again.stderr

    storescu(plugin.port, paths[2])
    assert plugin.wait(study, StudyState.HELD) is StudyState.HELD
    assert "expected the 2 instances that came before" in plugin.problem(study)
    storescu(plugin.port, *paths)  # the whole study; the held one stays with people
    assert plugin.command("cases", "release", study, "--reason", "it is whole now").returncode == 0
    assert plugin.wait(study, StudyState.DONE) is StudyState.DONE
    assert plugin.ledger.one(study).instances == 3
    plugin.stop()
    assert "expected it at port" in plugin.command("healthy", "--listener").stderr
    assert "expected one of this host" in plugin.command("healthy", "--workers").stderr
    assert pydicom.dcmread(next(folder.iterdir()), stop_before_pixels=True).PatientID
