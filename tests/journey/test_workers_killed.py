"""Workers killed every two seconds and the broker restarted and wiped: one result for each study.

A short form here; `make soak` has SOAK_STUDIES, and restarts the broker SOAK_RESTARTS times.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.plugin import Plugin, storescu
from kit.servers import ENDS_WITH_US, answers, free_port, rabbitmq_server, redis_server, wait_until
from kit.sleeper import sleeper

STUDIES = int(os.environ.get("SOAK_STUDIES", "12"))
RESTARTS = int(os.environ.get("SOAK_RESTARTS", "2"))
SEED, KILL_EVERY_S, RECONCILED_S = 20261124, 2.0, 120
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
        io = ("-m", "bonetumor.worker", "worker", "--queues", "io")
        with Crew(
            plugin, [("-m", "bonetumor.worker", "listen"), io, io, *[sleeper(0.05)] * 2]
        ) as crew:
            wait_until(lambda: answers(plugin.port), 60, "listener")
            paths, uids = studies.write_many(tmp_path / "studies", broker, STUDIES)
            storescu(plugin.port, *paths)
            crew.kills_wanted.set()
            server.trouble(RESTARTS, plugin.folder / "queues" / "messages")
            wait_until(lambda: _done(plugin) >= 0.8 * STUDIES, 1500, "most studies, under kills")
            crew.kills_wanted.clear()
            began = time.monotonic()
            wait_until(lambda: _done(plugin) == STUDIES, RECONCILED_S, f"{STUDIES} studies done")
            print(
                f"{broker}: {STUDIES} studies, {crew.kills} kills, {server.restarts} restarts, "
                f"reconciled {time.monotonic() - began:.0f} s after, seed {SEED}"
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
            time.sleep(2 * KILL_EVERY_S)
            self._up.close()
            if number == restarts // 2:
                shutil.rmtree(self._folder, ignore_errors=True)
                for message in messages.glob("*"):
                    message.unlink(missing_ok=True)
            self._start()
            self.restarts += 1
        time.sleep(2 * KILL_EVERY_S)


class Crew:
    """Processes that are started again when they die; all but the first are killed, one by one."""

    def __init__(self, plugin, commands):
        self._plugin, self._commands = plugin, commands
        self.kills, self.kills_wanted = 0, threading.Event()
        self._stop = threading.Event()
        self._random = random.Random(SEED)
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _start(self, command):
        with (self._plugin.folder / "crew.log").open("ab") as log:
            return subprocess.Popen(
                [*ENDS_WITH_US, sys.executable, *command],
                env=self._plugin.environment,
                stdout=log,
                stderr=log,
            )

    def _watch(self):
        crew = [self._start(command) for command in self._commands]
        next_kill = time.monotonic()
        while not self._stop.wait(0.1):
            for place, process in enumerate(crew):
                if process.poll() is not None:
                    crew[place] = self._start(self._commands[place])
            if self.kills_wanted.is_set() and time.monotonic() >= next_kill:
                self._random.choice(crew[1:]).send_signal(signal.SIGKILL)
                self.kills += 1
                next_kill = time.monotonic() + KILL_EVERY_S
        for process in crew:
            process.kill()
            process.wait()
