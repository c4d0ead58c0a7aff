"""The embedded broker: kombu's folder, with messages that appear whole or not at all.

kombu writes a message under the name that it is taken by. A worker that takes it between its making
and its last byte, or after the writer was killed between the two, ends on what it reads.
"""

import uuid
from pathlib import Path
from time import time_ns
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """Messages are files, taken in the order of their names."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        final = Path(self.data_folder_out) / f"{time_ns()}_{uuid.uuid4()}.{queue}.msg"
        part = final.with_name(f"{final.name}.part")  # a name that nobody takes
        try:
            part.write_text(dumps(payload))
            part.rename(final)
        except OSError as error:
            raise ChannelError(f"queue: expected to write, got {error.strerror}") from error


class Transport(filesystem.Transport):
    """What Celery is told to use where no broker is configured."""

    Channel = Channel
