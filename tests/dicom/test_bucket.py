"""What was received lies in an S3-compatible store too; machines have copies of what they need."""

import hashlib
import os
import shutil
import time

import pytest

from bonetumor.dicom.bucket import Bucket
from bonetumor.dicom.inbox import Spool
from bonetumor.dicom.reader import SpooledStudies
from bonetumor.dicom.removal import SpooledFiles
from bonetumor.domain.errors import CorruptPixelData, StorageUnavailable
from kit import studies
from kit.objects import ACCESS, ObjectStore
from kit.servers import free_port
from kit.site import Site, send

SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
HOUR_S = 3600.0


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with ObjectStore(tmp_path_factory.mktemp("weed")).up() as server:
        yield server


@pytest.fixture(autouse=True)
def access(monkeypatch):
    for name, value in ACCESS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(store, tmp_path):
    return store.bucket(prefix=f"{tmp_path.name}/")


@pytest.fixture
def site(tmp_path, bucket):
    made = Site(tmp_path / "listener", bucket=bucket)
    yield made
    made.listener.stop()
    made.ledger.close()


@pytest.fixture
def received(site):
    """A study that came, as the ledger knows it."""
    image = studies.dataset(90, 320)
    assert send(site, image) == SUCCESS
    return site.ledger.study(str(image.StudyInstanceUID))


def elsewhere(folder, bucket, **options):
    """The spool of a machine that received nothing itself."""
    spool = Spool(folder, max_object_bytes=10**8, min_free_bytes=0, bucket=bucket, **options)
    spool.prepare()
    return spool


def test_another_machine_reads_what_the_listener_took(site, received, bucket, tmp_path):
    spool = elsewhere(tmp_path / "worker", bucket)
    [there] = SpooledStudies(spool).images(received)
    [here] = SpooledStudies(site.spool).images(received)
    assert (there.pixels == here.pixels).all()
    [instance] = received.instances
    assert spool.path(instance).read_bytes() == site.spool.path(instance).read_bytes()
    assert not list((spool.folder / "arriving").iterdir())


def test_without_the_store_nothing_is_answered_with_success(tmp_path):
    store = ObjectStore(tmp_path / "weed")
    site = Site(tmp_path / "listener", bucket=store.bucket())
    image = studies.dataset(90, 320)
    try:
        assert send(site, image) == OUT_OF_RESOURCES
        with store.up():
            assert send(site, image) == SUCCESS
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "2.25.7"
        assert send(site, image) == OUT_OF_RESOURCES
        with store.up():
            assert send(site, image) == SUCCESS
        study = site.ledger.study(str(image.StudyInstanceUID))
        assert len(study.instances) == 2
    finally:
        site.listener.stop()
        site.ledger.close()


def test_bytes_that_are_not_wanted_leave_the_bucket(site, received, store, tmp_path):
    before = store.stored(tmp_path.name)
    image = studies.dataset(90, 320)
    image.PatientComments = "other bytes"
    assert send(site, image) not in (SUCCESS, OUT_OF_RESOURCES)
    assert store.stored(tmp_path.name) == before
    assert len(before) == 1
    assert len(site.ledger.study(received.study_instance_uid).instances) == 1


def test_an_object_that_was_changed_in_the_store_is_not_used(received, bucket, store, tmp_path):
    [key] = store.stored(tmp_path.name)
    stored = store.client.get_object(Bucket=store.NAME, Key=key)["Body"].read()
    spoilt = stored[:-1] + bytes([stored[-1] ^ 1])
    spool = elsewhere(tmp_path / "worker", bucket)
    for content in (spoilt, b""):
        store.client.put_object(Bucket=store.NAME, Key=key, Body=content)
        with pytest.raises(CorruptPixelData, match="got others"):
            SpooledStudies(spool).header(received)
    assert not list(spool.folder.glob("*/*"))
    store.client.put_object(Bucket=store.NAME, Key=key, Body=stored)
    assert SpooledStudies(spool).header(received).patient.patient_id


def test_what_is_nowhere_is_asked_for_again_later(site, received, bucket, tmp_path):
    assert bucket.remove(received.study_instance_uid, settled=False)
    with pytest.raises(StorageUnavailable, match="on this disk or in the bucket, got neither"):
        SpooledStudies(elsewhere(tmp_path / "worker", bucket)).header(received)
    assert SpooledStudies(site.spool).header(received)
    shutil.rmtree(tmp_path / "listener" / "spool" / received.study_instance_uid)
    alone = elsewhere(tmp_path / "listener" / "spool", None)
    with pytest.raises(StorageUnavailable, match="got no file"):
        SpooledStudies(alone).header(received)


def test_copies_go_when_they_were_not_used_for_long_if_the_bucket_has_them(
    site, received, bucket, tmp_path
):
    [instance] = received.instances
    old = time.time() - 2 * HOUR_S

    def age(spool, *paths):
        for path in paths:
            os.utime(path, (old, old))
        elsewhere(spool.folder, bucket, copies_s=HOUR_S).fetch(instance)  # one round

    spool = elsewhere(tmp_path / "worker", bucket)
    copy = spool.fetch(instance)
    only_here = copy.with_name("1.2.3-0123456789abcdef.dcm")
    only_here.write_bytes(b"from before there was a bucket")
    age(spool, copy, only_here)
    assert copy.stat().st_mtime > old + HOUR_S  # it went, and came again: this step needs it
    assert only_here.exists()
    other = spool.folder / "1.2.3" / copy.name
    other.parent.mkdir()
    shutil.copy(copy, other)
    bucket.put(f"1.2.3/{copy.name}", copy)
    age(spool, other)
    assert not other.parent.exists()
    assert site.spool.path(instance).exists()
    os.utime(site.spool.path(instance), (old, old))
    elsewhere(site.spool.folder, bucket, copies_s=HOUR_S).forget_unused()  # as a listener does
    assert not site.spool.path(instance).exists()


def test_who_has_a_copy_does_not_need_the_bucket(site, received):
    [instance] = received.instances
    path = site.spool.path(instance)
    os.utime(path, (0, 0))
    closed = Bucket("closed", endpoint_url=f"http://127.0.0.1:{free_port()}")
    spool = elsewhere(site.spool.folder, closed, copies_s=HOUR_S)
    assert spool.fetch(instance) == path
    os.utime(path, (0, 0))
    with pytest.raises(StorageUnavailable):
        spool.forget_unused()
    assert path.exists()


def test_a_study_is_removed_from_the_bucket_but_never_what_has_just_come(
    site, received, bucket, store, tmp_path
):
    study, [instance] = received.study_instance_uid, received.instances
    files = SpooledFiles(site.spool)
    assert not files.remove(study, ())  # both are young
    path = site.spool.path(instance)
    os.utime(path, (0, 0))
    assert not files.remove(study, ())
    assert not path.exists()
    assert len(store.stored(tmp_path.name)) == 1

    later = store.bucket(prefix=f"{tmp_path.name}/", clock=lambda: time.time() + 4 * HOUR_S)
    assert later.remove(study, {f"{study}/{path.name}"})
    assert len(store.stored(tmp_path.name)) == 1
    late = elsewhere(tmp_path / "late", later)
    again = tmp_path / "again"
    again.write_bytes(b"sent again, four hours later, just before the removal")
    later.put(f"{study}/{path.name}", again)
    assert not SpooledFiles(late).remove(study, ())
    with (tmp_path / "got").open("w+b") as got:
        assert later.get(f"{study}/{path.name}", got)
    assert (tmp_path / "got").read_bytes() == again.read_bytes()
    assert len(store.stored(tmp_path.name)) == 1


def test_the_store_compares_what_came_with_what_was_sent(store, bucket, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"what was received")
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda f, d: (real(f, d), hashlib.md5(b"other"))[1])
    with pytest.raises(StorageUnavailable, match=r"BadDigest|InvalidDigest"):
        bucket.put("1.2.3/file", file)
    assert not bucket.has("1.2.3/file")


def test_a_doctor_says_what_is_wrong_with_a_bucket(store, monkeypatch):
    assert store.NAME in store.bucket().answers()
    assert not [key for key in store.stored() if "doctor" in key]
    absent = Bucket("nowhere", endpoint_url=store.url)
    with pytest.raises(StorageUnavailable, match=r"nowhere.*NoSuchBucket"):
        absent.answers()
    with pytest.raises(StorageUnavailable, match="EndpointConnectionError"):
        Bucket("closed", endpoint_url=f"http://127.0.0.1:{free_port()}").answers()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageUnavailable, match="SignatureDoesNotMatch"):
        store.bucket().answers()
    for name in ACCESS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageUnavailable, match="NoCredentialsError"):
        store.bucket().answers()
