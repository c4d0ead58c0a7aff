"""A disk that is full, out of inodes or read-only: never a false Success, and back by itself.

The spool, or all of the plugin's folder, lies on a small file system of its own.
"""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from bonetumor.domain.uid import derived_uid
from kit import studies
from kit.plugin import Plugin
from kit.servers import answers, need, running, wait_until

SUDO = [] if os.geteuid() == 0 else [need("sudo")]
MOST = 60


@contextmanager
def file_system(folder, options):
    """A small one at `folder`; what is yielded mounts it again with other options."""
    folder.mkdir(parents=True)
    mount = [*SUDO, need("mount"), "-t", "tmpfs", "-o"]
    owner = f"uid={os.geteuid()},gid={os.getegid()}"
    subprocess.run([*mount, f"{options},{owner}", "tmpfs", str(folder)], check=True)

    def again(changed):
        command = [*SUDO, "mount", "-o", f"remount,{changed}", str(folder)]
        subprocess.run(command, check=True)

    try:
        yield again
    finally:
        subprocess.run([*SUDO, "umount", "--lazy", str(folder)], check=True)


@contextmanager
def listening(plugin, folder):
    command = [sys.executable, "-m", "bonetumor.worker", "listen", "--supervised"]
    with running(command, folder / "listen.log", env=plugin.environment) as process:
        wait_until(lambda: answers(plugin.port), 60, f"listener, see {folder / 'listen.log'}")
        yield process


class Sender:
    """Sends ever new images, and remembers which were answered with Success."""

    def __init__(self, port):
        self._port = port
        self._image = studies.dataset(340, 320)
        self.stored, self.sent = [], 0

    def send(self):
        """The status of one C-STORE on an association of its own; None if that was rejected."""
        entity = AE(ae_title="TESTER")
        entity.add_requested_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", self._port, ae_title="BONETUMOR")
        if not association.is_established:
            return None
        uid = derived_uid("full disk", str(self.sent))
        self.sent += 1
        self._image.SOPInstanceUID = self._image.file_meta.MediaStorageSOPInstanceUID = uid
        status = association.send_c_store(self._image).get("Status")
        association.release()
        if status == 0x0000:
            self.stored.append(uid)
        return status

    def until_refused(self):
        return next(s for s in (self.send() for _ in range(MOST)) if s != 0x0000)


def fill(folder):
    with (folder / "ballast").open("wb", buffering=0) as ballast:  # nothing left for its end
        try:
            while True:
                ballast.write(bytes(64 * 1024))
        except OSError:
            return


def use_inodes(folder):
    (folder / "ballast").mkdir(exist_ok=True)
    try:
        for number in range(100_000):
            (folder / "ballast" / str(number)).touch()
    except OSError:
        return


def lighten(folder):
    subprocess.run(["rm", "-rf", str(folder / "ballast")], check=True)


TROUBLES = {
    "spool full": ("spool", "size=8m", lambda disk, _: fill(disk), lambda d, _: lighten(d)),
    "folder full": ("", "size=8m", lambda disk, _: fill(disk), lambda d, _: lighten(d)),
    "no inodes": ("spool", "nr_inodes=40", lambda d, _: use_inodes(d), lambda d, _: lighten(d)),
    "read-only": ("spool", "size=8m", lambda _, again: again("ro"), lambda _, again: again("rw")),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_cannot_be_kept_is_a700_and_what_is_answered_success_is_kept(trouble, tmp_path):
    place, options, begin, end = TROUBLES[trouble]
    plugin = Plugin(
        tmp_path / "plugin", BONETUMOR_MIN_FREE_BYTES="0", BONETUMOR_LISTENER__QUIET_S="600"
    )
    if not place:
        plugin.folder.rmdir()
    disk = plugin.folder / place
    with file_system(disk, options) as again, listening(plugin, tmp_path) as process:
        sender = Sender(plugin.port)
        assert sender.send() == 0x0000
        begin(disk, again)
        assert sender.until_refused() == 0xA700
        assert sender.until_refused() == 0xA700
        end(disk, again)
        wait_until(lambda: sender.send() == 0x0000, 30, "room again")
        assert process.poll() is None
        files = {p.name.rsplit("-", 1)[0]: p for p in (plugin.folder / "spool").glob("*/*.dcm")}
        assert set(sender.stored) <= files.keys()
        assert all(files[uid].stat().st_size > 10_000 for uid in sender.stored)
        recorded = plugin.ledger.instance_uids(str(studies.dataset(340, 320).StudyInstanceUID))
        assert set(sender.stored) == recorded
        assert not list((plugin.folder / "spool" / "arriving").iterdir())
        plugin.stop()


def test_before_the_disk_is_full_new_senders_are_rejected_and_echoes_are_not(tmp_path):
    plugin = Plugin(tmp_path / "plugin", BONETUMOR_MIN_FREE_BYTES=str(2 * 1024**2))
    disk = plugin.folder / "spool"
    with file_system(disk, "size=8m"), listening(plugin, tmp_path):
        sender = Sender(plugin.port)
        assert sender.send() == 0x0000
        (disk / "ballast").write_bytes(bytes(4 * 1024**2))
        assert sender.send() is None
        entity = AE(ae_title="TESTER")
        entity.add_requested_context(Verification)
        echo = entity.associate("127.0.0.1", plugin.port, ae_title="BONETUMOR")
        assert echo.send_c_echo().Status == 0x0000
        echo.release()
        assert "association refused" in (tmp_path / "listen.log").read_text()
        lighten(disk)
        assert sender.send() == 0x0000
