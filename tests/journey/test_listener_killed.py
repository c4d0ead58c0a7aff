"""The listener killed again and again while instances come: what was answered Success is there.

A short form here; `make soak` sends SOAK_INSTANCES of them.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import count
from pathlib import Path

import pydicom
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dsutils import encode

from bonetumor.domain.uid import derived_uid
from kit import studies
from kit.plugin import Plugin
from kit.servers import ENDS_WITH_US, answers, wait_until

INSTANCES = int(os.environ.get("SOAK_INSTANCES", "400"))
SENDERS, SEED, KILL_EVERY_S, KILLS = 4, 20261124, 2.0, 3
_HEADER_BYTES = 132


def test_every_success_is_on_disk_once_with_its_hash(tmp_path):
    plugin = Plugin(tmp_path / "plugin", BONETUMOR_LISTENER__QUIET_S="6000")
    listener = Mortal(plugin, tmp_path / "log")
    with listener, ThreadPoolExecutor(SENDERS) as pool:
        jobs = [pool.submit(_send, listener, number) for number in range(SENDERS)]
        promised = {uid: sha for job in jobs for uid, sha in job.result().items()}
    print(f"{len(promised)} instances, {listener.kills} kills, seed {SEED}")
    assert len(promised) >= INSTANCES
    recorded = {}
    for progress in plugin.ledger.progress():
        for instance in plugin.ledger.study(progress.study_instance_uid).instances:
            recorded[instance.keys.sop_instance_uid] = instance.sha256
    assert recorded == promised
    files = list((plugin.folder / "spool").glob("*/*.dcm"))
    assert len(files) == len(promised)
    assert {_sha256(file) for file in files} == set(promised.values())


class Mortal:
    """The listener, started again when it is dead, and killed KILL_EVERY_S after it answers."""

    def __init__(self, plugin: Plugin, log: Path) -> None:
        self.plugin, self.log = plugin, log
        self.kills = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live_and_die)
        self._random = random.Random(SEED)

    def __enter__(self) -> "Mortal":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _live_and_die(self) -> None:
        command = [*ENDS_WITH_US, sys.executable, "-m", "bonetumor.worker", "listen"]
        while not self._stop.is_set():
            with self.log.open("ab") as out:
                process = subprocess.Popen(
                    command, env=self.plugin.environment, stdout=out, stderr=out
                )
            wait_until(lambda: answers(self.plugin.port), 60, "listener")
            if not self._stop.wait(KILL_EVERY_S * self._random.uniform(0.75, 1.25)):
                self.kills += 1
            process.send_signal(signal.SIGKILL)
            process.wait()


def _send(listener: Mortal, sender: int) -> dict[str, str]:
    """Sends each instance until it hears Success; what was promised, by SOP Instance UID.

    It goes on until there were enough of both, instances and kills.
    """
    entity = AE(ae_title=f"SENDER{sender}")
    entity.add_requested_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
    entity.dimse_timeout = entity.acse_timeout = 10
    file = BytesIO()
    studies.dataset(80, 320).save_as(file, enforce_file_format=True)
    image = pydicom.dcmread(BytesIO(file.getvalue()))
    promised: dict[str, str] = {}
    association = None
    port = listener.plugin.port
    for number in count():
        if number >= INSTANCES / SENDERS and listener.kills >= KILLS:
            break
        image.StudyInstanceUID = derived_uid("killed", str(sender), str(number // 50))
        image.SeriesInstanceUID = derived_uid("killed", str(sender), str(number // 50), "series")
        image.SOPInstanceUID = derived_uid("killed", str(sender), str(number), "instance")
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.InstanceNumber = number
        while True:
            if association is None or not association.is_established:
                association = entity.associate("127.0.0.1", port, ae_title="BONETUMOR")
                if not association.is_established:
                    time.sleep(0.1)
                    continue
            try:
                status = association.send_c_store(image).get("Status")
            except (RuntimeError, ValueError):
                continue  # it was killed between the check and the request
            if status == 0x0000:
                break
        promised[str(image.SOPInstanceUID)] = hashlib.sha256(encode(image, False, True)).hexdigest()
    association.release()
    return promised


def _sha256(file: Path) -> str:
    data = file.read_bytes()
    meta = pydicom.filereader.read_file_meta_info(file)
    return hashlib.sha256(
        data[_HEADER_BYTES + 12 + meta.FileMetaInformationGroupLength :]
    ).hexdigest()
