"""Decoding in a child process that may be lost.

Pixel data is the one thing of an object that native code takes apart, and a header inside it may
claim any size. What a hostile or broken image can cost is then its own assessment: a child that
grows, hangs or crashes is replaced, and the worker goes on.
"""

import multiprocessing
import resource
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from bonetumor.dicom.reader import decode_here
from bonetumor.domain.errors import CorruptPixelData, InvalidInput
from bonetumor.domain.image import ClinicalImage

MEMORY_BYTES = 4 * 1024**3
FRAME_S = 60.0
_END = None


class DecodingChild(threading.local):
    """Decodes files one frame at a time. The child starts with the first file, and ends with us.

    Each thread that uses it has a child of its own. `memory_bytes` bounds the child's address
    space, `frame_s` the time for one frame.
    """

    def __init__(self, *, memory_bytes: int = MEMORY_BYTES, frame_s: float = FRAME_S) -> None:
        self._memory_bytes = memory_bytes
        self._frame_s = frame_s
        self._child: BaseProcess | None = None
        self._connection: Connection | None = None

    def images(self, path: Path) -> Iterator[ClinicalImage]:
        """Every frame of the file as `presentation.present` shows it, one at a time.

        Raises:
            CorruptPixelData: as there, and where decoding takes too long or too much memory.
            InvalidInput: as there and in `read_file`.
        """
        asked: Path | None = path  # then None: the next frame of the same file
        while True:
            answer = self._ask(asked)
            asked = None
            if isinstance(answer, InvalidInput):
                raise answer
            if answer is _END:
                return
            yield answer

    def _ask(self, path: Path | None) -> ClinicalImage | InvalidInput | None:
        connection = self._connected()
        try:
            connection.send(path)
            if not connection.poll(self._frame_s):
                self._drop()
                raise CorruptPixelData(
                    f"pixel data: expected a frame within {self._frame_s:g} s, got none"
                )
            answer: ClinicalImage | InvalidInput | None = connection.recv()
        except (EOFError, OSError) as error:
            ended = self._drop()
            raise CorruptPixelData(
                "pixel data: expected to be decoded within "
                f"{self._memory_bytes / 1024**2:.0f} MiB, got a decoder that died ({ended})"
            ) from error
        return answer

    def _connected(self) -> Connection:
        if self._connection is None:
            # Not forked: the parent has threads, and networks in its memory.
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._child = context.Process(
                target=_serve, args=(theirs, self._memory_bytes), name="decoder", daemon=True
            )
            self._child.start()
            theirs.close()
        return self._connection

    def _drop(self) -> int | None:
        """Ends the child; its exit code."""
        child, self._child = self._child, None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if child is None:
            return None
        child.kill()
        child.join()
        return child.exitcode


def _serve(connection: Connection, memory_bytes: int) -> None:
    """The child: a path begins a file, None asks for its next frame."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    frames: Iterator[ClinicalImage] = iter(())
    while True:
        try:
            path: Path | None = connection.recv()
        except EOFError:
            return  # the parent is gone
        try:
            if path is not None:
                frames = decode_here(path)
            connection.send(next(frames, _END))
        except InvalidInput as error:
            connection.send(error)
        except MemoryError:
            frames = iter(())
            connection.send(
                CorruptPixelData(
                    "pixel data: expected to be decoded within "
                    f"{memory_bytes / 1024**2:.0f} MiB, got more"
                )
            )
