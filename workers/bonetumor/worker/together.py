"""Several studies at once in one worker, so that their images share the passes of one network.

One message rings for one study, and what else the ledger has due goes along, a thread each. The
worker takes the next message when all of them are done: to the broker, and to whoever watches it,
it does one thing at a time.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress

import structlog

from bonetumor.domain.errors import Unavailable
from bonetumor.domain.progress import Claim, Errand
from bonetumor.service.walk import Walk

_log = structlog.get_logger(__name__)


class Together:
    """Does a step for up to `most` studies at once.

    What ends the process costs each of them an attempt. Whoever has lost one is alone from then on:
    a study that kills its workers can do that to a neighbour once.
    """

    def __init__(self, walk: Walk, most: int) -> None:
        self._walk = walk
        self._most = most
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="study")

    def take(self, errand: Errand) -> Iterator[Errand]:
        """The errands that are due after each study's step, as soon as it is done.

        Raises:
            BaseExceptionGroup: with what went wrong that was not foreseen, once all are done.
        """
        first = self._walk.claim(errand)
        if first is None:
            return
        steps = [self._threads.submit(self._do, first)]
        if first.attempt == 1:
            with suppress(Unavailable):  # of the ledger; the others are rung for again
                steps.extend(
                    self._threads.submit(self._do, other)
                    for other in self._walk.claim_others(first, self._most - 1)
                )
        if len(steps) > 1:
            _log.info("studies at once", studies=len(steps))
        unforeseen: list[BaseException] = []
        for step in as_completed(steps):
            error = step.exception()
            if error is None:
                yield from step.result()
            else:
                unforeseen.append(error)
        if unforeseen:
            raise BaseExceptionGroup("steps", unforeseen)

    def _do(self, claim: Claim) -> list[Errand]:
        with structlog.contextvars.bound_contextvars(study_instance_uid=claim.study_instance_uid):
            return list(self._walk.do(claim))
