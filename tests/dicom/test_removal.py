"""Files leave the spool, and none that a sender has just been told is safe."""

import os
import shutil
import time

import pytest

from bonetumor.dicom.inbox import Spool
from bonetumor.dicom.removal import SpooledFiles
from bonetumor.domain.study import InstanceKeys
from bonetumor.service.ports import Announced
from kit.ledger import instance

STUDY, OLD_S = "1.2.3", 86400


@pytest.fixture
def spool(tmp_path):
    made = Spool(tmp_path, max_object_bytes=1000, min_free_bytes=0)
    made.prepare()
    return made


@pytest.fixture
def files(spool):
    return SpooledFiles(spool)


def stored(spool, number, *, old=True):
    path = spool.path(instance(number))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"image")
    if old:
        os.utime(path, (time.time() - OLD_S,) * 2)
    return path


def test_a_study_goes_with_its_folder(spool, files, tmp_path):
    for number in range(3):
        stored(spool, number)
    other = tmp_path / "1.2.4"
    other.mkdir()
    assert files.remove(STUDY, ())
    assert not (tmp_path / STUDY).exists()
    assert other.exists()
    assert files.remove(STUDY, ())


def test_what_has_just_come_stays_until_the_ledger_knows_it_or_it_is_old(spool, files):
    gone, young = stored(spool, 1), stored(spool, 2, old=False)
    assert not files.remove(STUDY, ())
    assert (gone.exists(), young.exists()) == (False, True)
    assert files.remove(STUDY, [instance(2)])
    assert young.exists()
    os.utime(young, (time.time() - OLD_S,) * 2)
    assert files.remove(STUDY, [instance(2)])
    assert young.exists()
    assert files.remove(STUDY, ())
    assert not young.parent.exists()


def test_what_a_crash_left_half_removed_is_put_back_or_removed(spool, files, tmp_path):
    old, young = stored(spool, 1), stored(spool, 2, old=False)
    (tmp_path / "removing").mkdir()
    (tmp_path / STUDY).rename(tmp_path / "removing" / STUDY)
    later = stored(spool, 3)
    assert not files.remove(STUDY, [instance(3)])
    assert (old.exists(), young.exists(), later.exists()) == (False, True, True)


def test_what_is_being_written_is_left_to_its_writer_wherever_that_is(spool, tmp_path):
    """Another process, machine or container that starts over the same folder."""
    announced = Announced(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
        sop_instance_uid="1.2.3.1.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        calling_ae_title="TESTER",
    )
    incoming = spool.open(announced)
    [part] = (tmp_path / "arriving").iterdir()
    incoming._file.flush()
    os.utime(part, (time.time() - OLD_S,) * 2)
    other = Spool(tmp_path, max_object_bytes=1000, min_free_bytes=0)
    other.prepare()
    assert part.exists()
    incoming._file.close()  # as the writer's end does
    other.prepare()
    assert not part.exists()


def test_an_object_published_while_its_study_is_removed_is_kept_or_its_sender_told(
    spool, files, monkeypatch
):
    """The folder is renamed away at each point of publishing in turn."""
    keys = InstanceKeys(
        study_instance_uid=STUDY,
        series_instance_uid="1.2.3.1",
        sop_instance_uid="1.2.3.1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
    )
    announced = Announced(
        sop_class_uid=keys.sop_class_uid,
        sop_instance_uid=keys.sop_instance_uid,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        calling_ae_title="PACS",
    )
    failed, points = 0, 0
    for point in range(20):
        incoming = spool.open(announced)
        calls = iter(range(100))

        def remove_at(name, real, *args, calls=calls, point=point, **options):
            if next(calls) == point:
                monkeypatch.undo()
                files.remove(STUDY, ())
            return real(*args, **options)

        for name in ("rename", "mkdir", "open", "fsync"):
            real = getattr(os, name)
            monkeypatch.setattr(os, name, lambda *a, n=name, r=real, **o: remove_at(n, r, *a, **o))
        try:
            incoming.publish(keys)
        except OSError:
            failed += 1
        else:
            assert len(list((spool.folder / STUDY).iterdir())) == 1
        finally:
            reached = next(calls) > point
            monkeypatch.undo()
            incoming.discard()
        points += reached
        shutil.rmtree(spool.folder / STUDY, ignore_errors=True)
    assert points == 8
    assert 0 < failed < points
