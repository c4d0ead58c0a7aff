"""The Celery tasks: one per step, each a doorbell for the ledger."""

from collections.abc import Callable, Iterable, Mapping

import structlog
from celery import Celery
from kombu import Connection
from kombu.exceptions import ChannelError, OperationalError

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.progress import Content, Errand, Step
from bonetumor.domain.uid import parse_uid
from bonetumor.worker.app import queue_of
from bonetumor.worker.watchdog import Watchdog

_log = structlog.get_logger(__name__)


class Doorbell:
    """Tells the workers that a step is due. A bell that nobody hears is rung again by the sweep."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Connection | None = None

    def waiting(self, queue: str) -> int | None:
        """How many messages of a queue nobody has taken yet; None if the broker does not answer."""
        if self._connection is None:
            self._connection = self._app.connection_for_write()
        broken = (OperationalError, OSError, *self._connection.connection_errors)
        try:
            with self._connection.channel() as channel:
                return int(channel.queue_declare(queue=queue, passive=True).message_count)
        except ChannelError:
            return 0  # nobody has rung there yet
        except broken as error:
            _log.warning("broker unavailable", error=type(error).__name__)
            self._connection.release()
            self._connection = None
            return None

    def ring(self, errand: Errand) -> None:
        """Sends the message; a broker that is down is logged and left to the sweep."""
        message: dict[str, object] = {"study_instance_uid": errand.study_instance_uid}
        if errand.urgent:
            message |= {"urgent": True}
        if errand.is_delivery:
            message |= {"destination": errand.destination, "content": errand.content}
        try:
            self._app.send_task(
                _name(errand.step), kwargs=message, queue=queue_of(errand), retry=False
            )
        except (OperationalError, OSError) as error:
            _log.warning("broker unavailable", error=type(error).__name__)


Take = Callable[[Errand], Iterable[Errand]]


def add_tasks(app: Celery, takes: Mapping[Step, Take], bell: Doorbell, watchdog: Watchdog) -> None:
    """Registers the steps' tasks. `takes` do a step and answer what is due after it."""
    for step, take in takes.items():
        app.task(_task(take, bell, step, watchdog), name=_name(step), ignore_result=True)


def _task(take: Take, bell: Doorbell, step: Step, watchdog: Watchdog) -> Callable[..., None]:
    def run(
        *,
        study_instance_uid: str,
        destination: str = "",
        content: str = "result",
        urgent: bool = False,
    ) -> None:
        try:
            errand = Errand(
                study_instance_uid=parse_uid(study_instance_uid),
                step=step,
                destination=destination,
                content=Content(content),
                urgent=urgent,
            )
        except (InvalidInput, ValueError) as error:
            _log.error("message refused", step=step, reason=str(error))
            return
        bound = structlog.contextvars.bound_contextvars(study_instance_uid=study_instance_uid)
        with bound, watchdog.watching():
            for after in take(errand):
                bell.ring(after)

    return run


def _name(step: Step) -> str:
    return f"bonetumor.{step}"
