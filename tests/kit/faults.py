"""A proxy before a real server that breaks one chosen exchange in one chosen way."""

import http.client
import http.server
import socket
import threading
import time
from collections.abc import Callable


class Exchange:
    """One request on its way; a fault decides what the client sees of it."""

    def __init__(self, handler: "_Handler", body: bytes) -> None:
        self._handler = handler
        self._body = body

    def forward(self) -> tuple[int, dict, bytes]:
        handler = self._handler
        upstream = http.client.HTTPConnection("127.0.0.1", handler.server.upstream, timeout=30)
        headers = {k: v for k, v in handler.headers.items() if k.lower() != "host"}
        upstream.request(handler.command, handler.path, self._body or None, headers)
        answer = upstream.getresponse()
        body = answer.read()
        upstream.close()
        kept = {"Content-Type": answer.getheader("Content-Type", "")}
        return answer.status, kept, body

    def pass_on(self) -> None:
        self.answer(*self.forward())

    def answer(self, status: int, headers: dict | None = None, body: bytes = b"{}") -> None:
        self._handler.send_response(status)
        for name, value in (headers or {}).items():
            self._handler.send_header(name, value)
        self._handler.send_header("Content-Length", str(len(body)))
        self._handler.end_headers()
        self._handler.wfile.write(body)

    def cut_body(self) -> None:
        """The server did its work; half of its answer arrives."""
        status, _, body = self.forward()
        self._handler.send_response(status)
        self._handler.send_header("Content-Length", str(len(body)))
        self._handler.end_headers()
        self._handler.wfile.write(body[: len(body) // 2])
        self._end()

    def drop_after_commit(self) -> None:
        """The server did its work, and nobody hears of it."""
        self.forward()
        self._end()

    def drop_before(self) -> None:
        """The server never hears of it."""
        self._end()

    def stall(self, seconds: float) -> None:
        """The server did its work; the answer comes after the client's deadline."""
        status, headers, body = self.forward()
        time.sleep(seconds)
        try:
            self.answer(status, headers, body)
        except OSError:
            self._end()

    def _end(self) -> None:
        self._handler.close_connection = True
        try:
            self._handler.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


Fault = Callable[[Exchange], None]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.next_fault()(Exchange(self, body))

    do_GET = do_POST = do_PUT = _handle  # noqa: N815 - as inherited

    def log_message(self, *_: object) -> None:
        pass


class FaultProxy(http.server.ThreadingHTTPServer):
    """Passes everything on, except for the exchange that was armed."""

    daemon_threads = True

    def __init__(self, upstream: int, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.upstream = upstream
        self.port = self.server_address[1]
        self._left = 0
        self._fault: Fault = Exchange.pass_on
        self._counting = threading.Lock()

    def arm(self, strike: int, fault: Fault) -> None:
        """The fault strikes the `strike`-th exchange from now."""
        with self._counting:
            self._left, self._fault = strike, fault

    def disarm(self) -> None:
        with self._counting:
            self._left = 0

    def next_fault(self) -> Fault:
        with self._counting:
            self._left -= 1
            return self._fault if self._left == 0 else Exchange.pass_on

    def handle_error(self, *_: object) -> None:
        pass

    def __enter__(self) -> "FaultProxy":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


# The FHIR line of what a server may do to us.
FAULTS = {
    "429": lambda p: p.answer(429, {"Retry-After": "0"}),
    "500": lambda p: p.answer(500),
    "401": lambda p: p.answer(401),
    "412": lambda p: p.answer(412),
    "409": lambda p: p.answer(409),
    "half a body": lambda p: p.cut_body(),
    "closed after commit": lambda p: p.drop_after_commit(),
    "slow": lambda p: p.stall(1.3),
    "refused": lambda p: p.drop_before(),
    "html": lambda p: p.answer(200, {"Content-Type": "text/html"}, b"<html>"),
}
