"""Files that are being written: under a name of their own, locked while their writer lives."""

import fcntl
import time
import uuid
from contextlib import suppress
from io import FileIO
from pathlib import Path

_JUST_MADE_S = 1.0


def open_part(folder: Path) -> tuple[Path, FileIO]:
    """A new file to write, and read, without a buffer; whoever has it open is its writer."""
    part = folder / f"{uuid.uuid4().hex}.part"
    file = part.open("w+b", buffering=0)
    # The lock ends with the process, on whatever machine or in whatever container it ran.
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return part, file


def remove_abandoned(folder: Path) -> None:
    """Removes what writers that are gone have left half written."""
    for part in folder.glob("*.part"):
        with suppress(FileNotFoundError, BlockingIOError):
            if time.time() - part.stat().st_mtime < _JUST_MADE_S:
                continue  # between its making and its lock
            with part.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
