"""The sweep: whatever is due in the ledger is rung for, once too often rather than not at all."""

import time
from collections import defaultdict
from typing import Protocol

from bonetumor.domain.progress import Errand
from bonetumor.service.ledger import Overview
from bonetumor.worker.app import queue_of

RING_AGAIN_S = 15.0
MOST_WAITING = 200


class Bell(Protocol):
    """What tells the workers."""

    def ring(self, errand: Errand) -> None:
        """Sends a message."""
        ...

    def waiting(self, queue: str) -> int | None:
        """How many messages of a queue nobody has taken yet; None if the broker does not answer."""
        ...


class Sweep:
    """Rings for due steps, and again for those that nobody seems to have heard.

    Of a queue no more messages wait than steps do, and no more than some hundred: workers that are
    behind would otherwise spend their time on messages about what is done already. The ledger
    remembers the rest.
    """

    def __init__(self, ledger: Overview, bell: Bell) -> None:
        self._ledger = ledger
        self._bell = bell
        self._rung: dict[Errand, float] = {}

    def once(self) -> None:
        """One round."""
        now = time.monotonic()
        due: dict[str, dict[Errand, None]] = defaultdict(dict)
        for errand in self._ledger.due():
            due[queue_of(errand)][errand] = None
        self._rung = {e: at for e, at in self._rung.items() if e in due.get(queue_of(e), ())}
        for queue, errands in due.items():
            waiting = self._bell.waiting(queue)
            if waiting is None:
                return
            room = max(0, min(len(errands), MOST_WAITING) - waiting)
            unheard = [e for e in errands if now - self._rung.get(e, -RING_AGAIN_S) >= RING_AGAIN_S]
            for errand in sorted(unheard, key=lambda e: self._rung.get(e, 0.0))[:room]:
                self._bell.ring(errand)
                self._rung[errand] = now
