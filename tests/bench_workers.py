"""How the assessing workers scale, with a model that only sleeps: 1, 2 and 4 of them, and one that
takes 4 studies at once.

What is measured is everything around the model: messages, claims, reading, writing, commits.
Prints figures; asserts nothing.

usage: python tests/bench_workers.py [--studies N] [--sleep SECONDS]
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.plugin import Plugin, storescu
from kit.servers import answers, rabbitmq_server, redis_server, running, wait_until
from kit.sleeper import sleeper


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--studies", type=int, default=40)
    options.add_argument("--sleep", type=float, default=0.5)
    chosen = options.parse_args()
    print(f"{chosen.studies} studies of one image, a model that sleeps {chosen.sleep} s")
    print("    broker  workers  at once  studies/s  of linear  ms around the model")
    for broker in ("embedded", "rabbitmq", "redis"):
        for workers, at_once in ((1, 1), (2, 1), (4, 1), (1, 4)):
            with tempfile.TemporaryDirectory(prefix="bonetumor-bench-") as folder:
                rate = _rate(Path(folder), broker, workers, at_once, chosen)
            ideal = workers * at_once / chosen.sleep
            around = 1000 * (workers * at_once / rate - chosen.sleep)
            print(
                f"{broker:>10} {workers:>8} {at_once:>8} {rate:>10.2f} {rate / ideal:>10.2f} "
                f"{around:>20.0f}",
                flush=True,
            )


def _rate(
    folder: Path, broker: str, workers: int, at_once: int, chosen: argparse.Namespace
) -> float:
    """Studies a second between the first that each worker has ended and the last of all."""
    with ExitStack() as stack:
        more = {"BONETUMOR_MODEL__STUDIES": str(at_once)}
        if broker != "embedded":
            server = {"rabbitmq": rabbitmq_server, "redis": redis_server}[broker]
            more["BONETUMOR_QUEUE__URL"] = stack.enter_context(server(folder / broker))
        plugin = Plugin(folder / "plugin", **more)
        stack.enter_context(_process(plugin, "-m", "bonetumor.worker", "listen"))
        wait_until(lambda: answers(plugin.port), 60, "listener")
        paths, uids = studies.write_many(folder / "studies", "bench", chosen.studies)
        storescu(plugin.port, *paths)
        stack.enter_context(_process(plugin, "-m", "bonetumor.worker", "worker", "--queues", "io"))
        _until(plugin, uids, StudyState.GATHERED)
        for _ in range(workers):
            stack.enter_context(_process(plugin, *sleeper(chosen.sleep)))
        _until(plugin, uids, StudyState.DONE)
        ended = sorted(
            event.at.timestamp()
            for uid in uids
            for event in plugin.ledger.story(uid)
            if event.kind == StudyState.ASSESSED
        )
        plugin.ledger.close()
    first = workers * at_once
    return (len(ended) - first) / (ended[-1] - ended[first - 1])


def _process(plugin: Plugin, *arguments: str):
    return running([sys.executable, *arguments], plugin.folder / "log", env=plugin.environment)


def _until(plugin: Plugin, uids: list[str], state: StudyState) -> None:
    wait_until(
        lambda: plugin.ledger.counts().get(state, 0) == len(uids), 300, f"every study {state}"
    )


if __name__ == "__main__":
    main()
