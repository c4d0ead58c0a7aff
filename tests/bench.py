"""Measures, side by side in one run on one machine. Prints figures; asserts nothing.

1. Receiving: instances per second of our listener (durable: fsync of file and folder and a ledger
   commit before each Success), of Orthanc with its default settings, and of DCMTK's storescp
   (which does not fsync), for the same files from the same sender (DCMTK's storescu). All three
   DCMTK-based programs run with TCP_NODELAY=1; without it each waits 40 ms an instance.
2. The listener's memory while many instances come in.
3. The whole line: seconds from the last instance to delivered, split by step, and the model's
   own share of it.

usage: python tests/bench.py [--files N] [--instances N] [--studies N]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pydicom

from bonetumor.dicom.presentation import present
from bonetumor.domain.image import BoundingBox
from bonetumor.domain.progress import StudyState
from bonetumor.domain.uid import derived_uid
from bonetumor.service.ports import FusionInput
from bonetumor.weights.installed import synthetic_bundle
from bonetumor.worker.settings import Settings
from bonetumor.worker.thinking import build_model

sys.path.insert(0, str(Path(__file__).parent))

from kit import studies
from kit.plugin import Plugin, storescu
from kit.servers import Orthanc, answers, free_port, need, running, wait_until


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--files", type=int, default=400)
    options.add_argument("--instances", type=int, default=50_000)
    options.add_argument("--studies", type=int, default=5)
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bonetumor-bench-"))
    try:
        receiving(folder, chosen.files)
        memory(folder, chosen.instances)
        whole_line(folder, chosen.studies)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def receiving(folder: Path, count: int) -> None:
    print(f"Receiving {count} files a sender, instances per second (median of 3 rounds)")
    print(
        f"{'file':>8} {'senders':>8} {'bonetumor':>10} {'Orthanc':>10} {'storescp':>10}"
        f" {'vs Orthanc':>11} {'vs storescp':>12}"
    )
    for side, senders in ((224, 1), (224, 8), (1000, 1), (1000, 8)):
        number = count if side < 500 else max(20, count // 8)
        rates: dict[str, list[float]] = {"bonetumor": [], "orthanc": [], "storescp": []}
        size = 0
        for round_number in range(3):
            batches = [
                _files(folder / "files", side, number, f"{side}-{senders}-{s}-{round_number}")
                for s in range(senders)
            ]
            size = next(batches[0].iterdir()).stat().st_size
            for name, receive in (
                ("bonetumor", _ours),
                ("orthanc", _orthanc),
                ("storescp", _storescp),
            ):
                place = folder / f"{name}-{side}-{senders}-{round_number}"
                # Nothing is removed between rounds: ext4 searches long for an inode to use where
                # many were freed in the last minutes, and whoever comes next would pay for it.
                seconds = receive(place, batches)
                rates[name].append(number * senders / seconds)
        ours, orthanc, plain = (sorted(r)[1] for r in rates.values())
        print(
            f"{size / 1000:>6.0f}kB {senders:>8} {ours:>10.0f} {orthanc:>10.0f} {plain:>10.0f}"
            f" {ours / orthanc:>10.2f}x {ours / plain:>11.2f}x",
            flush=True,
        )


def _files(folder: Path, side: int, count: int, key: str) -> Path:
    place = folder / key
    place.mkdir(parents=True)
    image = studies.dataset(1, 320)
    image.Rows = image.Columns = side
    image.PixelData = bytes(2 * side * side)
    image.StudyInstanceUID = derived_uid("bench", key)
    for index in range(count):
        image.SOPInstanceUID = derived_uid("bench", key, str(index))
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(place / f"{index}.dcm", enforce_file_format=True)
    return place


def _timed_senders(port: int, ae_title: str, batches: list[Path]) -> float:
    # Without it DCMTK's sender waits 40 ms an instance for a delayed ACK, whoever receives.
    environment = {**os.environ, "TCP_NODELAY": "1"}
    start = time.perf_counter()
    senders = [
        subprocess.Popen(
            [need("storescu"), "-R", "+sd", "-aec", ae_title, "127.0.0.1", str(port), str(b)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        for b in batches
    ]
    codes = [s.wait() for s in senders]
    seconds = time.perf_counter() - start
    if any(codes):
        raise SystemExit(f"a sender failed against {ae_title}: {codes}")
    return seconds


def _ours(place: Path, batches: list[Path]) -> float:
    plugin = Plugin(place, BONETUMOR_LISTENER__QUIET_S="600")
    log = place / "listen.log"
    with running([sys.executable, "-m", "bonetumor.worker", "listen"], log, env=plugin.environment):
        wait_until(lambda: answers(plugin.port), 30, "listener")
        return _timed_senders(plugin.port, "BONETUMOR", batches)


def _orthanc(place: Path, batches: list[Path]) -> float:
    with Orthanc(place).up() as server:
        return _timed_senders(server.port, server.ae_title, batches)


def _storescp(place: Path, batches: list[Path]) -> float:
    place.mkdir(parents=True)
    port = free_port()
    command = [need("storescp"), "--fork", "-pdu", "131072", "+B", "-od", str(place), str(port)]
    with running(command, place / "storescp.log", env={**os.environ, "TCP_NODELAY": "1"}):
        wait_until(lambda: answers(port), 30, "storescp")
        return _timed_senders(port, "STORESCP", batches)


def memory(folder: Path, count: int) -> None:
    senders, rounds = 4, 10
    print(f"\nMemory of the listener over {count} instances from {senders} senders at once")
    plugin = Plugin(folder / "memory", BONETUMOR_LISTENER__QUIET_S="6000")
    command = [sys.executable, "-m", "bonetumor.worker", "listen"]
    with running(command, folder / "memory.log", env=plugin.environment) as process:
        wait_until(lambda: answers(plugin.port), 30, "listener")
        for number in range(rounds + 1):
            if number:
                batches = [
                    _files(folder / "many", 64, count // rounds // senders, f"many-{number}-{s}")
                    for s in range(senders)
                ]
                _timed_senders(plugin.port, "BONETUMOR", batches)
                shutil.rmtree(folder / "many")
            print(
                f"  {number * count // rounds:>7} instances {_resident_mib(process.pid):8.1f} MiB",
                flush=True,
            )


def _resident_mib(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    [line] = [x for x in status.splitlines() if x.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def whole_line(folder: Path, count: int) -> None:
    print(f"\nThe whole line, {count} studies of one image one after another, medians in seconds")
    spans: dict[str, list[float]] = {}
    with Orthanc(folder / "archive").up() as archive:
        plugin = Plugin(folder / "plugin", archive=archive)
        with plugin.up():
            for number in range(500, 501 + count):
                [path] = studies.write(folder / "study", number, longest_px=960)
                study = str(pydicom.dcmread(path).StudyInstanceUID)
                storescu(plugin.port, path)
                if plugin.wait(study) is not StudyState.DONE:
                    raise SystemExit(plugin.problem(study))
                if number > 500:  # the first one waits for the model to load
                    _collect(plugin, study, spans)
    for name, values in spans.items():
        print(f"  {name:<34} {_median(values):8.3f}")
    model = _median(_model_seconds(range(501, 501 + count)))
    total = _median(spans["last instance to delivered"])
    print(f"  {'the model itself (in process)':<34} {model:8.3f}")
    print(
        f"  the model's share of the whole: {model / total:.1%}; "
        f"of the whole without the quiet period: {model / (total - 1.0):.1%}"
    )


def _collect(plugin: Plugin, study: str, spans: dict[str, list[float]]) -> None:
    story = plugin.ledger.story(study)
    for earlier, later in pairwise(story):
        name = f"{earlier.kind} -> {later.kind}"
        spans.setdefault(name, []).append((later.at - earlier.at).total_seconds())
    last = max(i.received_at for i in plugin.ledger.study(study).instances)
    spans.setdefault("last instance to delivered", []).append((story[-1].at - last).total_seconds())


def _model_seconds(numbers: range) -> list[float]:
    """Detector and fusion on the same images, without reading, ledger or network."""
    model = build_model(Settings(model={"bundle": synthetic_bundle()}))
    seconds = []
    for number in (numbers[0], *numbers):  # once more to warm up
        [image] = present(studies.dataset(number, 960))
        start = time.perf_counter()
        found = model.detector.detect(image).detections
        box = found[0].box if found else BoundingBox(x0=0, y0=0, x1=64, y1=64)
        model.fusion.diagnose(
            FusionInput(image=image, box=box, slides=None, labs=None, out_of_distribution=False)
        )
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    main()
