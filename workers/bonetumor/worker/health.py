"""`healthy`: whether what runs on this machine is alive. Asked often, so it imports little."""

import socket
from datetime import datetime, timedelta

from bonetumor.domain.errors import Unavailable
from bonetumor.worker import wiring
from bonetumor.worker.settings import Settings


def healthy(settings: Settings, *, listener: bool, workers: bool) -> None:
    """Whether the parts of this machine that are asked about are alive; for whoever restarts them.

    Raises:
        Unavailable: one is not.
    """
    if listener and not listener_answers(settings):
        raise Unavailable(f"listener: expected it at port {settings.listener.port}, got no answer")
    if workers:
        late = late_before(settings)
        ours = [
            worker
            for worker in wiring.build_ledger(settings).workers()
            if worker.owner.startswith(f"{wiring.host_name()}:")
        ]
        if not any(worker.heard_at >= late for worker in ours):
            raise Unavailable("workers: expected one of this host to be heard of, got none")


def listener_answers(settings: Settings) -> bool:
    """Whether anything takes connections at the listener's port."""
    host = settings.listener.host.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - any of ours
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((host, settings.listener.port)) == 0


def late_before(settings: Settings) -> datetime:
    """A worker that was not heard of since then may be lost; one that is at a long step is not."""
    return wiring.now() - timedelta(seconds=4 * settings.queue.canary_s + settings.queue.lease_s)
