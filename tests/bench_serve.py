"""What `bonetumor serve` costs: start-up, memory, and the first result after a cold start.

Prints figures; asserts nothing.

usage: python tests/bench_serve.py
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.plugin import Plugin, storescu
from kit.servers import Orthanc, wait_until

MIB = 1024**2


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bonetumor-bench-") as folder:
        place = Path(folder)
        with Orthanc(place / "orthanc").up() as archive:
            plugin = Plugin(place / "plugin", archive=archive)
            paths, uids = studies.write_many(place / "studies", "serve", 3)
            began = time.monotonic()
            with plugin.up():
                print(f"listener answers after {time.monotonic() - began:.1f} s")
                for number, (path, uid) in enumerate(zip(paths, uids, strict=True)):
                    sent = time.monotonic()
                    storescu(plugin.port, path)
                    assert plugin.wait(uid) is StudyState.DONE
                    since = f", {time.monotonic() - began:.1f} s after the start" * (not number)
                    took = time.monotonic() - sent
                    print(f"study {number + 1} is at the archive after {took:.1f} s{since}")
                wait_until(lambda: len(plugin.ledger.workers()) == 2, 60, "both workers")
                for name, resident in _memory(plugin.process.pid):
                    print(f"{name:<12} {resident / MIB:>6.0f} MiB")


def _memory(pid: int) -> list[tuple[str, int]]:
    """What each process of the tree holds of its own (PSS: shared pages are divided)."""
    found = [(_name(pid), _resident(pid))]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += _memory(int(child))
    return found


def _name(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    if "--multiprocessing-fork" in words:
        return "decoder"
    parts = [w for w in words if w in ("serve", "listen", "worker", "io", "gpu", "web")]
    return " ".join(parts) or "other"


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
