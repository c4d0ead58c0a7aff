"""One HTTP exchange with a FHIR server: a deadline for the whole, a cap on the body, a breaker."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import IO, Any
from urllib.parse import urlsplit

import httpx

from bonetumor.domain.errors import FhirUnavailable, MalformedResource, Rejected
from bonetumor.fhir.shapes import listed, member, objects

# 500 may pass, but a server that fails on a request is not asked the same again at once.
_LATER = frozenset({408, 425, 500})
_SOON = frozenset({429, 502, 503, 504})
_LONGEST_WAIT_S = 3600.0
_MAX_BYTES = 64 * 1024 * 1024


class Refused(Rejected):
    """The server understood and said no: its status, and codes of its OperationOutcome.

    The outcome's free text is left out: it may hold patient data.
    """

    def __init__(self, status: int, what: str, outcome: object = None) -> None:
        super().__init__(f"{what}, got {status}: {_why(outcome)}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, without credentials."""

    method: str
    url: str
    headers: Mapping[str, str]
    params: Mapping[str, str] | None = None
    data: Mapping[str, str] | None = None
    json: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """Method and path for messages, never the query: it may name a patient."""
        return f"FHIR {self.method} {urlsplit(self.url).path}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole body that came with a status of success, and where a new resource lies."""

    name: str
    body: bytes
    location: str = ""

    def resource(self) -> dict[str, Any]:
        """The body as a resource.

        Raises:
            FhirUnavailable: no JSON, as from a proxy or half a body.
            MalformedResource: JSON that is no object.
        """
        try:
            parsed = json.loads(self.body) if self.body else {}
        except ValueError as error:
            raise FhirUnavailable(f"{self.name}: expected JSON, got something else") from error
        if not isinstance(parsed, dict):
            raise MalformedResource(
                f"{self.name}: expected a resource, got {type(parsed).__name__}"
            )
        return parsed


@dataclass(slots=True)
class Sink:
    """Where a body goes, how much of it is taken, and for how long."""

    file: IO[bytes]
    max_bytes: int
    deadline_s: float = 600.0
    size: int = 0

    def start(self) -> None:
        """Forgets what an earlier try left."""
        self.size = 0
        self.file.seek(0)
        self.file.truncate()

    def write(self, chunk: bytes, name: str) -> None:
        """Adds to the body."""
        self.size += len(chunk)
        if self.size > self.max_bytes:
            raise MalformedResource(f"{name}: expected at most {self.max_bytes} bytes, got more")
        self.file.write(chunk)


class Breaker:
    """Stops asking a server that failed `failures` times in a row, for `rest_s` seconds.

    Then one call is let through; its success closes the breaker again.
    """

    def __init__(
        self,
        *,
        failures: int = 8,
        rest_s: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._rest_s = rest_s
        self._clock = clock
        self._failed = 0
        self._open_until = 0.0
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raises FhirUnavailable while the server is left alone."""
        with self._lock:
            left = self._open_until - self._clock()
            if left > 0:
                raise FhirUnavailable(
                    f"FHIR server: expected it to answer again, got {self._failed} failures in a "
                    "row; it is left alone for a while",
                    retry_after_s=left,
                )
            if self._failed >= self._limit:
                self._open_until = self._clock() + self._rest_s  # one call goes through

    def note(self, *, well: bool) -> None:
        """Remembers how a call went."""
        with self._lock:
            self._failed = 0 if well else self._failed + 1
            if well:
                self._open_until = 0.0
            elif self._failed >= self._limit:
                self._open_until = self._clock() + self._rest_s


class Transport:
    """Sends requests and reads whole answers, each within `deadline_s`."""

    def __init__(self, http: httpx.Client, *, deadline_s: float, breaker: Breaker) -> None:
        self._http = http
        self._http.follow_redirects = False
        self._deadline_s = deadline_s
        self._breaker = breaker

    def close(self) -> None:
        """Gives the connections back."""
        self._http.close()

    def send(
        self, request: Request, credentials: Mapping[str, str], into: "Sink | None" = None
    ) -> Answer:
        """One exchange; a body of success goes into the sink where one is given.

        Raises:
            FhirUnavailable: no answer in time, or one that says to come back.
            Refused: any other status that is no success.
            MalformedResource: more bytes than are taken.
        """
        self._breaker.check()
        try:
            answer = self._exchange(request, credentials, into)
        except FhirUnavailable:
            self._breaker.note(well=False)
            raise
        except (Refused, MalformedResource):
            self._breaker.note(well=True)
            raise
        self._breaker.note(well=True)
        return answer

    def _exchange(
        self, request: Request, credentials: Mapping[str, str], into: "Sink | None"
    ) -> Answer:
        ends = time.monotonic() + (into.deadline_s if into else self._deadline_s)
        try:
            with self._http.stream(
                request.method,
                request.url,
                headers={**request.headers, **credentials},
                params=request.params,
                data=request.data,
                json=request.json,
                timeout=self._deadline_s,
            ) as response:
                sink = into if into and response.is_success else Sink(BytesIO(), _MAX_BYTES)
                sink.start()
                for chunk in response.iter_bytes():
                    sink.write(chunk, request.name)
                    if time.monotonic() > ends:
                        raise FhirUnavailable(
                            f"{request.name}: expected the whole answer in time, got a part of it",
                            at_once=True,
                        )
                body = sink.file.getvalue() if isinstance(sink.file, BytesIO) else b""
                _check(request, response, body)
                return Answer(request.name, body, response.headers.get("Location", ""))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FhirUnavailable(
                f"{request.name}: expected an answer, got {type(error).__name__}", at_once=True
            ) from error


def origin(url: str) -> tuple[str, str]:
    """Scheme, and host with port, of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _check(request: Request, response: httpx.Response, body: bytes) -> None:
    status = response.status_code
    if response.is_success:
        return
    what = f"{request.name}: expected 2xx"
    if status in _LATER or status in _SOON:
        raise FhirUnavailable(
            f"{what}, got {status}",
            retry_after_s=_retry_after(response.headers.get("Retry-After")),
            at_once=status in _SOON,
        )
    try:
        outcome = json.loads(body)
    except ValueError:
        outcome = None
    raise Refused(status, what, outcome)


def _retry_after(header: str | None) -> float | None:
    """Seconds, or a date (RFC 9110 10.2.3); an hour at most, in case a clock is wrong."""
    if header is None:
        return None
    if header.strip().isdigit():
        return min(float(header), _LONGEST_WAIT_S)
    try:
        asked = parsedate_to_datetime(header).timestamp() - time.time()
    except ValueError:
        return None
    return min(max(0.0, asked), _LONGEST_WAIT_S)


def _why(outcome: object) -> str:
    """Codes and expressions of an OperationOutcome."""
    said = [
        " ".join([str(issue.get("code", "")), *map(str, listed(issue.get("expression")))])
        for issue in objects(member(outcome).get("issue"))
    ]
    return "; ".join(said) or "no reason given"
