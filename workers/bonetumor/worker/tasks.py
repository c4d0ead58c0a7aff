"""The Celery tasks: one per step, each a doorbell for the ledger."""

from collections.abc import Callable, Iterable

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.progress import Step
from bonetumor.domain.uid import UID, parse_uid
from bonetumor.service.walk import Walk
from bonetumor.worker.app import QUEUE_OF

_log = structlog.get_logger(__name__)


class Doorbell:
    """Tells the workers that a step is due. A bell that nobody hears is rung again by the sweep."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def ring(self, study_instance_uid: UID, step: Step) -> None:
        """Sends the message; a broker that is down is logged and left to the sweep."""
        try:
            self._app.send_task(
                _name(step),
                kwargs={"study_instance_uid": study_instance_uid},
                queue=QUEUE_OF[step],
                retry=False,
            )
        except (OperationalError, OSError) as error:
            _log.warning("broker unavailable", error=type(error).__name__)


def add_tasks(app: Celery, walk: Walk, bell: Doorbell, steps: Iterable[Step]) -> None:
    """Registers the steps' tasks with the application."""
    for step in steps:
        app.task(_task(walk, bell, step), name=_name(step), ignore_result=True)


def _task(walk: Walk, bell: Doorbell, step: Step) -> Callable[..., None]:
    def run(*, study_instance_uid: str) -> None:
        try:
            study = parse_uid(study_instance_uid)
        except InvalidInput as error:
            _log.error("message refused", step=step, reason=str(error))
            return
        with structlog.contextvars.bound_contextvars(study_instance_uid=study):
            following = walk.take(study, step)
        if following is not None:
            bell.ring(study, following)

    return run


def _name(step: Step) -> str:
    return f"bonetumor.{step}"
