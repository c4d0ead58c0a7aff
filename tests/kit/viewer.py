"""Viewers in a real browser, OHIF over an archive's DICOMweb and dwv, and what they draw."""

import http.client
import http.server
import json
import mimetypes
import subprocess
import threading
from pathlib import Path

from kit.servers import PARTS, Orthanc, need

DIST = PARTS / "node_modules" / "ohif" / "package" / "dist"
_PROXIED = ("/dicom-web", "/wado")
_KEPT = ("connection", "transfer-encoding", "content-length", "keep-alive")
_CONFIGURATION = """window.config = {
  routerBasename: null, extensions: [], modes: [], customizationService: {}, showStudyList: true,
  maxNumberOfWebWorkers: 2, showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  strictZSpacingForVolumeViewport: true, investigationalUseDialog: { option: 'never' },
  defaultDataSourceName: 'dicomweb',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'dicomweb',
    configuration: {
      friendlyName: 'archive', name: 'archive', wadoUriRoot: '/wado', qidoRoot: '/dicom-web',
      wadoRoot: '/dicom-web', qidoSupportsIncludeField: false, imageRendering: 'wadors',
      thumbnailRendering: 'wadors', enableStudyLazyLoad: true, supportsFuzzyMatching: false,
      supportsWildcard: true, omitQuotationForMultipartRequest: true,
      bulkDataURI: { enabled: true, relativeResolution: 'studies' },
    },
  }],
};"""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith(_PROXIED):
            self._proxy()
        elif path == "/app-config.js":
            self._answer(200, _CONFIGURATION.encode(), {"Content-Type": "text/javascript"})
        else:
            file = (DIST / path.lstrip("/")).resolve()
            if not file.is_file() or DIST not in file.parents:
                file = DIST / "index.html"
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            self._answer(200, file.read_bytes(), {"Content-Type": kind})

    do_POST = do_GET  # noqa: N815 - as inherited

    def _proxy(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        headers = {
            k: v
            for k, v in self.headers.items()
            if k.lower() not in ("connection", "accept-encoding", "origin", "referer")
        }
        # The archive builds its links from these.
        headers["Forwarded"] = f"host={self.headers['Host']};proto=http"
        upstream.request(self.command, self.path, body or None, headers)
        answer = upstream.getresponse()
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in _KEPT}
        self._answer(answer.status, answer.read(), kept)
        upstream.close()

    def _answer(self, status: int, body: bytes, headers: dict) -> None:
        self.send_response(status)
        isolation = {
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Embedder-Policy": "require-corp",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in (headers | isolation).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Ohif(http.server.ThreadingHTTPServer):
    """The viewer, served on loopback before an archive."""

    daemon_threads = True

    def __init__(self, archive: Orthanc) -> None:
        assert DIST.is_dir(), "OHIF is missing: `make test` installs it (tests/parts/install.sh)"
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = archive.http
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "Ohif":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        pass

    def look(self, folder: Path, study: str, series: str, boxes: list[dict], **more) -> dict:
        """Opens a series in the browser; what was drawn there, and a picture of it."""
        asked = {"url": self.url, "study": study, "series": series, "boxes": boxes, **more}
        return _look("ohif.mjs", folder, asked)


def dwv(folder: Path, images: list[Path], report: Path) -> dict:
    """Opens images of one series and a report in dwv; the shapes that it draws, on its canvas."""
    return _look("dwv.mjs", folder, {"images": list(map(str, images)), "report": str(report)})


def _look(script: str, folder: Path, asked: dict) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "asked.json").write_text(json.dumps(asked))
    need("chromium")
    done = subprocess.run(
        [need("node"), str(PARTS / script), str(folder)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "seen.json").read_text())
