"""One network for several threads: their squares go through it together."""

import queue
import threading
import time
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from bonetumor.detection.engine import Engine

WAIT_S = 0.005  # for others, once one square is there: a fraction of what decoding an image takes

_Answer = tuple[NDArray[np.float32], NDArray[np.float32]]


class SharedEngine:
    """An Engine for many threads over one for a single thread.

    A thread of its own runs the passes. Each takes what has come, up to a full batch, and waits for
    more no longer than `wait_s`.
    """

    def __init__(self, engine: Engine, wait_s: float = WAIT_S) -> None:
        self._engine = engine
        self._wait_s = wait_s
        self._asked: queue.SimpleQueue[tuple[NDArray[np.uint8], Future[_Answer]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._run, name="network", daemon=True).start()

    @property
    def batch(self) -> int:
        """As the engine's."""
        return self._engine.batch

    def __call__(self, squares: NDArray[np.uint8]) -> _Answer:
        """As the protocol says; what fails in a pass fails for every thread that shared it."""
        futures: list[Future[_Answer]] = [Future() for _ in squares]
        for square, future in zip(squares, futures, strict=True):
            self._asked.put((square, future))
        predictions, summaries = zip(*(future.result() for future in futures), strict=True)
        return np.stack(predictions), np.stack(summaries)

    def _run(self) -> None:
        while True:
            together = self._gather()
            futures = [future for _, future in together]
            try:
                answers = self._engine(np.stack([square for square, _ in together]))
            except Exception as error:  # noqa: BLE001 - whoever asked is told; this thread goes on
                for future in futures:
                    future.set_exception(error)
                continue
            for future, answer in zip(futures, zip(*answers, strict=True), strict=True):
                future.set_result(answer)

    def _gather(self) -> list[tuple[NDArray[np.uint8], "Future[_Answer]"]]:
        """At least one square, at most a batch."""
        together = [self._asked.get()]
        until = time.monotonic() + self._wait_s
        while len(together) < self._engine.batch:
            try:
                together.append(self._asked.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
        return together
