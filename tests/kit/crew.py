"""Listener and workers as processes of their own, kept alive and, where wanted, killed."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

from kit.servers import ENDS_WITH_US

LISTENER = ("-m", "bonetumor.worker", "listen")
IO_WORKER = ("-m", "bonetumor.worker", "worker", "--queues", "io")
GPU_WORKER = ("-m", "bonetumor.worker", "worker", "--queues", "gpu")


class Crew:
    """Processes that are started again when they die, as a supervisor would.

    While `kills_wanted` is set, all but the first are killed, one by one.
    """

    SEED = 20261124
    # Most of the time between two kills is a worker's start where machines are slow.
    KILL_EVERY_S = float(os.environ.get("SOAK_KILL_EVERY_S", "4"))

    def __init__(self, plugin, commands):
        self._plugin, self._commands = plugin, commands
        self.kills, self.kills_wanted = 0, threading.Event()
        self._stop = threading.Event()
        self._random = random.Random(self.SEED)
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
                next_kill = time.monotonic() + self.KILL_EVERY_S
        for process in crew:
            process.kill()
            process.wait()
