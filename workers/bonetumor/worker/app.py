"""The Celery application: queues, broker settings, and nothing that could lose work silently.

Messages carry a study UID, as JSON. The embedded broker is a folder; RabbitMQ gets quorum queues
with a delivery limit; Redis a visibility timeout above the lease.
"""

from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from bonetumor.domain.progress import Errand, Step
from bonetumor.worker.settings import Settings

IO, GPU = "io", "gpu"
KINDS = (IO, GPU)


def kind_of(step: Step) -> str:
    """Which kind of worker does the step."""
    return GPU if step is Step.ASSESS else IO


def queues_of(kind: str) -> tuple[str, str]:
    """The queues of a kind. Workers take from both in turn: urgent studies do not wait behind the
    others, and do not starve them."""
    return f"bonetumor.{kind}-urgent", f"bonetumor.{kind}"


def queue_of(errand: Errand) -> str:
    """The queue of an errand."""
    urgent, usual = queues_of(kind_of(errand.step))
    return urgent if errand.urgent else usual


# Of RabbitMQ: messages that kill whoever takes them end here, for people to see. The ledger counts
# attempts by itself and says what became of the study. Arguments of a queue that is there cannot be
# changed, so that none of these follows the settings.
DEAD = "bonetumor.dead"
_QUORUM = {
    "x-queue-type": "quorum",
    "x-delivery-limit": 3,
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": DEAD,
}
_DEAD_LETTERS = {"x-queue-type": "quorum", "x-max-length": 10_000}


def build_app(settings: Settings) -> Celery:
    """The application for the configured broker."""
    app = Celery("bonetumor", broker=settings.queue.url or "filesystem://localhost")
    if not settings.queue.url:
        app.conf.broker_transport = "bonetumor.worker.folder_broker:Transport"
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        task_create_missing_queues=False,
        task_default_queue=queues_of(IO)[1],
        task_queues=[_queue(name, settings) for kind in KINDS for name in queues_of(kind)],
        broker_transport_options=_transport_options(settings),
    )
    return app


def _queue(name: str, settings: Settings) -> Queue:
    exchange = Exchange(name, type="direct")
    if settings.queue.url.startswith("amqp"):
        return _QuorumQueue(name, exchange, routing_key=name, queue_arguments=_QUORUM)
    return Queue(name, exchange, routing_key=name)


class _QuorumQueue(Queue):
    """A quorum queue of RabbitMQ, declared together with the one that its dead letters go to."""

    def queue_declare(
        self, nowait: bool = False, passive: bool = False, channel: Any = None
    ) -> Any:
        Queue(DEAD, queue_arguments=_DEAD_LETTERS)(channel or self.channel).declare()
        return super().queue_declare(nowait=nowait, passive=passive, channel=channel)


def _transport_options(settings: Settings) -> dict[str, Any]:
    url = settings.queue.url
    if url.startswith("amqp"):
        return {"confirm_publish": True}
    if url.startswith("redis"):
        return {"visibility_timeout": int(settings.queue.lease_s * 2)}
    return _folders(settings.folder / "queues")


def _folders(folder: Path) -> dict[str, Any]:
    for name in ("messages", "control"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    messages = str(folder / "messages")
    return {
        "data_folder_in": messages,
        "data_folder_out": messages,
        "control_folder": str(folder / "control"),
        "polling_interval": 0.1,
    }
