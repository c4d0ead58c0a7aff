"""The Celery tasks: one per step, each a doorbell for the ledger."""

from collections.abc import Callable, Iterable

import structlog
from celery import Celery
from kombu import Connection
from kombu.exceptions import ChannelError, OperationalError

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.progress import Content, Errand, Step
from bonetumor.domain.uid import parse_uid
from bonetumor.service.walk import Walk
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


def add_tasks(
    app: Celery, walk: Walk, bell: Doorbell, steps: Iterable[Step], watchdog: Watchdog
) -> None:
    """Registers the steps' tasks with the application."""
    for step in steps:
        app.task(_task(walk, bell, step, watchdog), name=_name(step), ignore_result=True)


def _task(walk: Walk, bell: Doorbell, step: Step, watchdog: Watchdog) -> Callable[..., None]:
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
            following = walk.take(errand)
        for after in following:
            bell.ring(after)

    return run


def _name(step: Step) -> str:
    return f"bonetumor.{step}"
