"""A canary for each worker: a message that only this worker gets, again and again.

It comes back through the broker as work does. A worker that does not hear its own has lost the
broker for good, whatever its process looks like: it ends itself, and is started again.
"""

import threading
from collections.abc import Callable

import structlog
from celery import Celery
from filelock import FileLock, Timeout
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from bonetumor.worker.settings import Settings
from bonetumor.worker.watchdog import end_process

_log = structlog.get_logger(__name__)
_NAME = "bonetumor.canary"
_MISSES = 3
_EXPIRES_S = 600  # of a queue that nobody uses any more, where the broker can forget it


class Perch:
    """A place for one worker's canary: the lowest number that no other worker here has.

    Numbers, not process ids: brokers that forget nothing would keep a queue for each that died.
    """

    def __init__(self, settings: Settings, host: str, kind: str) -> None:
        folder = settings.folder / "workers"
        folder.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            self._lock = FileLock(folder / f"{host}-{kind}-{number}.lock")
            try:
                self._lock.acquire(timeout=0)
                break
            except Timeout:
                number += 1
        self.queue = f"{_NAME}.{host}-{kind}-{number}"

    def leave(self) -> None:
        """Lets another worker have the place."""
        self._lock.release()


class Canary:
    """Sends itself a message every `every_s`, and ends the process when three got lost in a row.

    `heard` is called for each that comes back. While `is_busy` none is missed: the worker does one
    thing at a time.
    """

    def __init__(
        self,
        app: Celery,
        queue: str,
        *,
        every_s: float,
        heard: Callable[[], None],
        is_busy: Callable[[], bool],
        end: Callable[[], None] = end_process,
    ) -> None:
        self._app = app
        self._queue = queue
        self._every_s = every_s
        self._heard = heard
        self._is_busy = is_busy
        self._end = end
        self._misses = 0
        self._is_awaited = False
        exchange = Exchange(queue, type="direct")
        app.amqp.queues.add(Queue(queue, exchange, routing_key=queue, expires=_EXPIRES_S))
        app.task(self._hear, name=_NAME, ignore_result=True)

    def start(self) -> None:
        """Sends the first one, and then again and again."""
        threading.Thread(target=self._send_for_ever, name="canary", daemon=True).start()

    def _hear(self) -> None:
        self._is_awaited, self._misses = False, 0
        self._heard()

    def _send_for_ever(self) -> None:
        pause = threading.Event()
        while self._misses < _MISSES:
            self._send()
            pause.wait(self._every_s)
            if self._is_busy():
                self._misses = 0
            elif self._is_awaited:
                self._misses += 1
        _log.error("worker ends itself", reason=f"expected its canary, {_MISSES} did not come back")
        self._end()

    def _send(self) -> None:
        self._is_awaited = True  # before it is sent: it may be back before sending returns
        try:
            self._app.send_task(_NAME, queue=self._queue, retry=False)
        except (OperationalError, OSError) as error:
            # Nobody can be heard through a broker that is down.
            self._is_awaited = False
            _log.warning("broker unavailable", error=type(error).__name__)
