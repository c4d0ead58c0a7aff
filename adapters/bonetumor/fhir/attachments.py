"""Attachments: from where they may come, how large they may be, and what they really are.

The FHIR origin is asked with our credentials; any other origin must be listed by the site and is
asked without. Redirects are not followed. What a file is, its first bytes say, not its label.
"""

import base64
import binascii
import json
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from tempfile import NamedTemporaryFile, gettempdir
from typing import IO

import httpx

from bonetumor.domain.errors import FhirUnavailable, MalformedResource, StorageUnavailable
from bonetumor.fhir.client import FhirClient
from bonetumor.fhir.shapes import Resource
from bonetumor.fhir.transport import origin


class Kind(Enum):
    """What an attachment is, as far as we care."""

    PICTURE = "picture"
    SLIDE = "slide"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Fetched:
    """An attachment on disk, until its context ends."""

    path: Path
    kind: Kind
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentLimits:
    """Other origins that may be asked (`https://host:port`), and how much is taken."""

    origins: Collection[str] = ()
    max_picture_bytes: int = 32 * 1024 * 1024
    max_slide_bytes: int = 8 * 1024**3
    deadline_s: float = 600.0


class Attachments:
    """Fetches attachments of one EHR."""

    def __init__(
        self, client: FhirClient, limits: AttachmentLimits, http: httpx.Client | None = None
    ) -> None:
        self._client = client
        self._limits = limits
        self._origins = {origin(o) for o in limits.origins}
        self._http = http or httpx.Client()
        self._http.follow_redirects = False

    def may_ask(self, url: str) -> bool:
        """Whether a URL lies on the FHIR server or on a listed origin."""
        return self._client.is_ours(url) or origin(url) in self._origins

    @contextmanager
    def fetch(self, attachment: Resource) -> Iterator[Fetched]:
        """The attachment in a temporary file, which is gone when the context ends.

        Raises:
            MalformedResource: no data, broken base64, too large, or an origin that is not listed.
            Rejected: the server refuses it.
            FhirUnavailable: the server does not answer now.
            StorageUnavailable: the temporary folder does not take it.
        """
        with ExitStack() as stack:
            with _having_room():
                file = stack.enter_context(NamedTemporaryFile(prefix="bonetumor-attachment-"))
                self._fill(file, attachment)
                file.flush()
            file.seek(0)
            kind, content_type = sniff(file.read(1024))
            size = file.seek(0, 2)
            if kind is Kind.PICTURE and size > self._limits.max_picture_bytes:
                raise MalformedResource(
                    f"attachment: expected a picture of at most {self._limits.max_picture_bytes} "
                    f"bytes, got {size}"
                )
            yield Fetched(Path(file.name), kind, content_type)

    def _fill(self, file: IO[bytes], attachment: Resource) -> None:
        if attachment.get("data"):
            file.write(_decoded(str(attachment["data"])))
        elif attachment.get("url"):
            url = str(attachment["url"])
            if self._client.is_ours(url):
                self._client.download(url, file, max_bytes=self._limits.max_slide_bytes)
                _unwrap(file)
            else:
                self._stream(file, url)
        else:
            raise MalformedResource("attachment: expected data or url, got neither")

    def _stream(self, file: IO[bytes], url: str) -> None:
        """From a listed origin, without credentials."""
        if not self.may_ask(url):
            raise MalformedResource(
                "attachment: expected the EHR's origin or a listed one, got another"
            )
        ends = time.monotonic() + self._limits.deadline_s
        size = 0
        try:
            with self._http.stream("GET", url) as response:
                _check(response.status_code)
                for chunk in response.iter_bytes():
                    size += len(chunk)
                    if size > self._limits.max_slide_bytes or time.monotonic() > ends:
                        raise MalformedResource(
                            f"attachment: expected at most {self._limits.max_slide_bytes} bytes "
                            f"within {self._limits.deadline_s:g} s, got more"
                        )
                    file.write(chunk)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FhirUnavailable(
                f"attachment: expected an answer, got {type(error).__name__}"
            ) from error


@contextmanager
def _having_room() -> Iterator[None]:
    """A disk that is full or gone: the study waits for it."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(
            f"attachment: expected to write into {gettempdir()}, got {error.strerror}"
        ) from error


def sniff(head: bytes) -> tuple[Kind, str]:
    """What the first bytes say, and the media type that belongs to it."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Kind.PICTURE, "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return Kind.PICTURE, "image/jpeg"
    if head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return Kind.SLIDE, "image/tiff"
    if head[128:132] == b"DICM":
        return Kind.SLIDE, "application/dicom"
    return Kind.OTHER, "application/octet-stream"


def _check(status: int) -> None:
    if status in {408, 425, 429} or status >= 500:
        raise FhirUnavailable(f"attachment: expected 2xx, got {status}")
    if not 200 <= status < 300:
        raise MalformedResource(f"attachment: expected 2xx, got {status}")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedResource("attachment: expected base64, got something else") from error


def _unwrap(file: IO[bytes]) -> None:
    """A Binary may come as itself or as a FHIR resource around it (R4 Binary, 2.44.1)."""
    file.seek(0)
    if not file.read(64).lstrip().startswith(b"{"):
        return
    file.seek(0)
    try:
        resource = json.load(file)
    except ValueError:
        return
    if isinstance(resource, dict) and resource.get("resourceType") == "Binary":
        file.seek(0)
        file.truncate()
        file.write(_decoded(str(resource.get("data", ""))))
