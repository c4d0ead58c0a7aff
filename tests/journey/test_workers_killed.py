"""Workers killed every few seconds and the broker restarted and wiped: one result for each study.

A short form here; `make soak` has SOAK_STUDIES, kills every two seconds, and restarts the broker
SOAK_RESTARTS times.
"""

import os
import shutil
import time
from contextlib import ExitStack

import pytest

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.crew import IO_WORKER, LISTENER, Crew
from kit.plugin import Plugin, storescu
from kit.servers import answers, free_port, rabbitmq_server, redis_server, wait_until
from kit.sleeper import sleeper

STUDIES = int(os.environ.get("SOAK_STUDIES", "12"))
RESTARTS = int(os.environ.get("SOAK_RESTARTS", "2"))
RESTART_EVERY_S = 4.0
RECONCILED_S = 120
BROKERS = {"embedded": None, "redis": redis_server, "rabbitmq": rabbitmq_server}


@pytest.mark.parametrize("broker", BROKERS)
def test_every_study_has_one_result(broker, tmp_path, orthanc):
    with Broker(BROKERS[broker], tmp_path / "broker") as server:
        plugin = Plugin(
            tmp_path / "plugin",
            archive=orthanc,
            BONETUMOR_QUEUE__URL=server.url,
            BONETUMOR_QUEUE__LEASE_S="5",
            BONETUMOR_QUEUE__MAX_ATTEMPTS="50",
            BONETUMOR_ARCHIVE__ASK="false",
        )
        with Crew(plugin, [LISTENER, IO_WORKER, IO_WORKER, *[sleeper(0.05)] * 2]) as crew:
            wait_until(lambda: answers(plugin.port), 60, "listener")
            paths, uids = studies.write_many(tmp_path / "studies", broker, STUDIES)
            storescu(plugin.port, *paths)
            crew.kills_wanted.set()
            server.trouble(RESTARTS, plugin.folder / "queues" / "messages")
            wait_until(lambda: _done(plugin) >= 0.8 * STUDIES, 1500, "most studies, under kills")
            crew.kills_wanted.clear()
            began = time.monotonic()
            wait_until(lambda: _done(plugin) == STUDIES, RECONCILED_S, f"{STUDIES} studies done", 2)
            print(
                f"{broker}: {STUDIES} studies, {crew.kills} kills, {server.restarts} restarts, "
                f"reconciled {time.monotonic() - began:.0f} s after, seed {Crew.SEED}"
            )
    assert crew.kills >= 2
    assert [len(orthanc.structured_reports(uid)) for uid in uids] == [1] * STUDIES


def _done(plugin):
    return plugin.ledger.counts().get(StudyState.DONE, 0)


class Broker:
    """A broker that can be restarted and wiped, on one port; or the folder of the embedded one."""

    def __init__(self, server, folder):
        self._server, self._folder = server, folder
        self._port = free_port()
        self._up = ExitStack()
        self.url, self.restarts = "", 0

    def __enter__(self):
        self._start()
        return self

    def __exit__(self, *_):
        self._up.close()

    def _start(self):
        if self._server is not None:
            self.url = self._up.enter_context(self._server(self._folder, self._port))

    def trouble(self, restarts, messages):
        """Restarts it every few seconds, once with nothing left of what it held."""
        for number in range(restarts):
            time.sleep(RESTART_EVERY_S)
            self._up.close()
            if number == restarts // 2:
                shutil.rmtree(self._folder, ignore_errors=True)
                for message in messages.glob("*"):
                    message.unlink(missing_ok=True)
            self._start()
            self.restarts += 1
        time.sleep(RESTART_EVERY_S)
