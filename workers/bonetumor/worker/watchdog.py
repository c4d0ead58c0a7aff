"""Ends a worker whose step takes too long or too much memory; whoever supervises it starts another.

A hung call into a library cannot be interrupted from Python: ending the process is the only way
that always works. The step, or the steps of several studies at once, are given back before.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)
EXIT_CODE = 70  # EX_SOFTWARE
_LOOK_EVERY_S = 0.5
_LAST_WORDS_S = 5.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


def end_process() -> None:
    """Ends this process at once, whatever its other threads do."""
    os._exit(EXIT_CODE)


class Watchdog:
    """Watches one message's work at a time. `give_up` is told why; it may take five seconds."""

    def __init__(
        self,
        *,
        limit_s: float,
        limit_bytes: int,
        give_up: Callable[[str], None],
        end: Callable[[], None] = end_process,
    ) -> None:
        self._limit_s = limit_s
        self._limit_bytes = limit_bytes
        self._give_up = give_up
        self._end = end
        self._began: float | None = None
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    @property
    def is_watching(self) -> bool:
        """Whether a step is being done."""
        return self._began is not None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While a step is done."""
        self._began = time.monotonic()
        try:
            yield
        finally:
            self._began = None

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY_S)
            why = self._excess(self._began)
            if why is not None:
                _log.error("worker ends itself", reason=why)
                # The ledger may be what hangs.
                last = threading.Thread(target=self._give_up, args=(why,), daemon=True)
                last.start()
                last.join(_LAST_WORDS_S)
                self._end()
                return

    def _excess(self, began: float | None) -> str | None:
        if began is None:
            return None
        if time.monotonic() - began > self._limit_s:
            return f"expected an end within {self._limit_s:g} s, got none"
        used = _resident_bytes()
        if used > self._limit_bytes:
            return (
                f"expected at most {self._limit_bytes / 1024**2:.0f} MiB of memory, "
                f"got {used / 1024**2:.0f}"
            )
        return None


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
