"""The model of `bonetumor scale` beside a plugin at work, with 1, 2 and 4 workers.

Studies come at random moments, and the networks only sleep. What one study takes of an idle plugin
is measured first and given to the model, then the same arrivals to both. Prints figures; asserts
nothing.

usage: python tests/bench_scale.py [--seconds N] [--sleep SECONDS] [--busy PART]
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pydicom
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE

from bonetumor.domain.progress import StudyState
from bonetumor.worker.scaling import Crew, Load, Times, follow
from kit import studies
from kit.crew import IO_WORKER, LISTENER
from kit.plugin import Plugin
from kit.servers import answers, running, wait_until
from kit.sleeper import sleeper

ALONE, ALONE_EVERY_S = 8, 3.0


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=90)
    options.add_argument("--sleep", type=float, default=0.5)
    options.add_argument("--busy", type=float, default=0.7)
    chosen = options.parse_args()
    print(
        f"one image a study, workers {chosen.busy:.0%} busy, a model that sleeps {chosen.sleep} s"
    )
    print("workers  studies  median s: measured  model  95 of 100: measured  model")
    for workers in (1, 2, 4):
        with tempfile.TemporaryDirectory(prefix="bonetumor-bench-") as folder:
            arrivals, took, alone_s = _run(Path(folder), workers, chosen)
        # All that is not waiting for a worker is what a study takes alone.
        times = Times(instance=0.0, gpu=chosen.sleep, io=0.0, variation=0.0)
        load = Load(studies_per_day=1, instances=1)
        model = follow(arrivals, load, times, Crew(gpu=workers), random.Random(0))
        model = [each - chosen.sleep + alone_s for each in model]
        print(
            f"{workers:>7} {len(took):>8} {statistics.median(took):>19.2f} "
            f"{statistics.median(model):>6.2f} {_p95(took):>20.2f} {_p95(model):>6.2f}",
            flush=True,
        )


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def _run(
    folder: Path, workers: int, chosen: argparse.Namespace
) -> tuple[list[float], list[float], float]:
    """When studies came, what each took, and what one takes alone (the median of several)."""
    plugin = Plugin(folder / "plugin", BONETUMOR_LISTENER__QUIET_S="0.2")
    with ExitStack() as stack:
        for command in (LISTENER, IO_WORKER, *[sleeper(chosen.sleep)] * workers):
            arguments = [sys.executable, *command]
            log = plugin.folder / "log"
            stack.enter_context(running(arguments, log, env=plugin.environment))
        wait_until(lambda: answers(plugin.port), 60, "listener")
        wait_until(lambda: len(plugin.ledger.workers()) == workers + 1, 60, "every worker")
        rate = chosen.busy * workers / chosen.sleep
        count = int(chosen.seconds * rate)
        paths, uids = studies.write_many(folder / "studies", f"scale{workers}", ALONE + count)
        chance, at, moments = random.Random(workers), ALONE * ALONE_EVERY_S, []
        for _ in range(count):
            at += chance.expovariate(rate)
            moments.append(at)
        began = time.time()
        for path, moment in zip(
            paths, [n * ALONE_EVERY_S for n in range(ALONE)] + moments, strict=True
        ):
            time.sleep(max(0.0, began + moment - time.time()))
            _send(plugin.port, path)
        done = {StudyState.DONE: len(uids)}
        wait_until(lambda: plugin.ledger.counts() == done, 120, "every study done")
        spans = [plugin.span(uid) for uid in uids]
        plugin.ledger.close()
    alone, others = spans[:ALONE], spans[ALONE:]
    return (
        [start - others[0][0] for start, _ in others],
        [end - start for start, end in others],
        statistics.median(end - start for start, end in alone),
    )


def _send(port: int, path: Path) -> None:
    entity = AE(ae_title="BENCH")
    entity.add_requested_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title="BONETUMOR")
    association.send_c_store(pydicom.dcmread(path))
    association.release()


if __name__ == "__main__":
    main()
