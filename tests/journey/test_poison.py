"""A study that kills whatever works on it, and how long its neighbours take meanwhile.

A short form here; `make soak` has SOAK_NEIGHBOURS, and the goal.
"""

import os
import statistics
import time

import pydicom

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.crew import IO_WORKER, LISTENER, Crew
from kit.plugin import Plugin, storescu
from kit.servers import answers, rabbitmq_server, wait_until
from kit.sleeper import sleeper

NEIGHBOURS = int(os.environ.get("SOAK_NEIGHBOURS", "10"))
MOST = 1.2  # times as long, in `make soak`: no machine that does other things too is timed
EVERY_S, MODEL_S, WORKERS = 1.0, 0.5, 3
LEASE_S = 20  # after so long the next worker tries; one of three is back by then


def test_neighbours_of_a_poison_study_hardly_wait(tmp_path):
    """The same number of studies without and with it; over RabbitMQ, which delivers it again."""
    paths, uids = studies.write_many(tmp_path / "studies", "neighbour", 2 * NEIGHBOURS + 1)
    poison_at = NEIGHBOURS + NEIGHBOURS // 4
    poison = str(pydicom.dcmread(paths[poison_at], stop_before_pixels=True).SOPInstanceUID)
    with rabbitmq_server(tmp_path / "broker") as url:
        plugin = Plugin(
            tmp_path / "plugin",
            BONETUMOR_QUEUE__URL=url,
            BONETUMOR_QUEUE__LEASE_S=str(LEASE_S),
            BONETUMOR_LISTENER__QUIET_S="0.5",
        )
        workers = [sleeper(MODEL_S, poison)] * WORKERS
        with Crew(plugin, [LISTENER, IO_WORKER, *workers]):
            wait_until(lambda: answers(plugin.port), 60, "listener")
            wait_until(lambda: len(plugin.ledger.workers()) > WORKERS, 120, "every worker")
            for path in paths:
                storescu(plugin.port, path)
                time.sleep(EVERY_S)
            wanted = {StudyState.DONE: 2 * NEIGHBOURS, StudyState.FAILED: 1}
            wait_until(lambda: plugin.ledger.counts() == wanted, 240, "all but the poison done")
        assert plugin.state(uids[poison_at]) is StudyState.FAILED
        assert "got 3 attempts that died" in plugin.problem(uids[poison_at])
        took = [end - start for start, end in map(plugin.span, uids)]
        plugin.ledger.close()
    del took[poison_at]
    alone, beside = (_p95(part) for part in (took[:NEIGHBOURS], took[NEIGHBOURS:]))
    print(
        f"{NEIGHBOURS} studies each: 95 of 100 done within {alone:.2f} s without the poison study, "
        f"{beside:.2f} s beside it, {beside / alone:.2f} times"
    )
    assert beside <= (MOST * alone if NEIGHBOURS >= 100 else alone + LEASE_S), took


def _p95(values):
    return statistics.quantiles(values, n=20, method="inclusive")[-1]
