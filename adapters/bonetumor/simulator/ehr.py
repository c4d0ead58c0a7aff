"""A small FHIR R4 server: create, conditional create, update, read, search, transaction."""

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Resource = dict[str, Any]
_PREFIX = "/fhir"


class RecordStore:
    """Resources by type and id, with the few searches that an EHR is asked by us."""

    def __init__(self) -> None:
        self._resources: dict[tuple[str, str], Resource] = {}
        self._lock = threading.RLock()
        self.created: list[str] = []

    def load(self, bundle: Resource) -> None:
        """Puts every resource of a Bundle in, under its own id or a new one.

        References by `fullUrl`, as transaction Bundles have them, come to point at those ids.
        """
        with self._lock:
            names, resources = {}, []
            for number, entry in enumerate(bundle.get("entry") or []):
                resource = entry.get("resource") or {}
                if "resourceType" in resource:
                    held = {**resource, "id": resource.get("id") or f"loaded-{number}"}
                    resources.append(held)
                    if entry.get("fullUrl"):
                        names[entry["fullUrl"]] = f"{held['resourceType']}/{held['id']}"
            for held in resources:
                self._resources[held["resourceType"], held["id"]] = _resolved(held, names)

    def read(self, kind: str, key: str) -> Resource | None:
        """One resource."""
        return self._resources.get((kind, key))

    def create(self, resource: Resource, condition: str | None = None) -> tuple[bool, Resource]:
        """Creates, unless one matches the condition; answers whether it is new."""
        with self._lock:
            kind = str(resource["resourceType"])
            if condition is not None:
                found = self.search(kind, dict(parse_qsl(condition)))
                if found:
                    return False, found[0]
            number = len(self._resources) + 1
            stored = {**resource, "id": f"{kind.lower()}-{number}"}
            stored["meta"] = {**(resource.get("meta") or {}), "versionId": "1"}
            self._resources[kind, stored["id"]] = stored
            self.created.append(f"{kind}/{stored['id']}")
            return True, stored

    def update(self, resource: Resource) -> Resource | None:
        """The next version of a resource; None where there is no resource to update."""
        with self._lock:
            key = (str(resource["resourceType"]), str(resource["id"]))
            held = self._resources.get(key)
            if held is None:
                return None
            version = int((held.get("meta") or {}).get("versionId", "1")) + 1
            meta = {**(resource.get("meta") or {}), "versionId": str(version)}
            self._resources[key] = {**resource, "meta": meta}
            return self._resources[key]

    def transact(self, bundle: Resource) -> Resource:
        """All entries or none, with `urn:uuid:` references resolved (R4 3.1.0.11.2)."""
        with self._lock:
            entries = bundle.get("entry") or []
            first = len(self._resources) + 1
            names = {
                e["fullUrl"]: f"{e['resource']['resourceType']}/"
                f"{e['resource']['resourceType'].lower()}-{first + i}"
                for i, e in enumerate(e for e in entries if e["request"]["method"] == "POST")
            }
            answers = []
            for entry in entries:
                resource = _resolved(entry["resource"], names)
                if entry["request"]["method"] == "PUT":
                    self.update(resource)
                    answers.append({"response": {"status": "200 OK"}})
                    continue
                _, stored = self.create(resource)
                location = f"{stored['resourceType']}/{stored['id']}"
                answers.append({"response": {"status": "201 Created", "location": location}})
            return {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}

    def search(self, kind: str, criteria: dict[str, str]) -> list[Resource]:
        """Resources of a type that meet every criterion."""
        with self._lock:
            return [
                r
                for (t, _), r in self._resources.items()
                if t == kind and all(_meets(r, name, value) for name, value in criteria.items())
            ]


class SimulatedEhr:
    """The store behind HTTP on loopback."""

    def __init__(self) -> None:
        self.store = RecordStore()
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> str:
        """Starts listening; answers the service base."""
        store = self.store

        class Handler(_Handler):
            records = store

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}{_PREFIX}"

    def stop(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    records: RecordStore
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        parts = url.path.removeprefix(_PREFIX).strip("/").split("/")
        if parts == ["metadata"]:
            self._answer(HTTPStatus.OK, _capabilities())
        elif len(parts) == 2:
            found = self.records.read(parts[0], parts[1])
            status = HTTPStatus.OK if found else HTTPStatus.NOT_FOUND
            self._answer(status, found or _outcome("not-found"))
        else:
            self._answer(HTTPStatus.OK, self._searchset(parts[0], dict(parse_qsl(url.query))))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path).path.removeprefix(_PREFIX).strip("/").split("/")
        if parts[-1] == "_search":
            self._answer(HTTPStatus.OK, self._searchset(parts[0], dict(parse_qsl(body.decode()))))
            return
        try:
            resource = json.loads(body)
        except ValueError:
            self._answer(HTTPStatus.BAD_REQUEST, _outcome("structure"))
            return
        if parts == [""]:
            self._answer(HTTPStatus.OK, self.records.transact(resource))
            return
        new, stored = self.records.create(resource, self.headers.get("If-None-Exist"))
        self._answer(HTTPStatus.CREATED if new else HTTPStatus.OK, stored)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        updated = self.records.update(json.loads(body))
        status = HTTPStatus.OK if updated else HTTPStatus.NOT_FOUND
        self._answer(status, updated or _outcome("not-found"))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Says nothing: request lines may hold identifiers."""

    def _searchset(self, kind: str, criteria: dict[str, str]) -> Resource:
        found = self.records.search(kind, criteria)
        entries = [{"resource": r, "search": {"mode": "match"}} for r in found]
        return {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": len(found),
            "entry": entries,
        }

    def _answer(self, status: HTTPStatus, resource: Resource) -> None:
        data = json.dumps(resource).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _meets(resource: Resource, name: str, value: str) -> bool:
    if name.startswith("_"):
        return name != "_id" or resource["id"] in value.split(",")  # the others say how to answer
    test = _CRITERIA.get(name)
    return test is not None and test(resource, name, value)


def _by_patient(resource: Resource, _name: str, value: str) -> bool:
    reference = str((resource.get("subject") or {}).get("reference", ""))
    return reference.rpartition("/")[2] == value.rpartition("/")[2]


def _by_date(resource: Resource, _name: str, value: str) -> bool:
    said = str(resource.get("effectiveDateTime") or resource.get("date") or "")
    return said[:10] >= value.removeprefix("ge") if value.startswith("ge") else said == value


def _by_identifier(resource: Resource, _name: str, value: str) -> bool:
    held = resource.get("identifier") or []
    return any(_token(i.get("system"), i.get("value"), v) for i in held for v in value.split(","))


def _by_target(resource: Resource, _name: str, value: str) -> bool:
    return any(t.get("reference") == value for t in resource.get("target") or [])


def _by_code(resource: Resource, name: str, value: str) -> bool:
    found = resource.get(name) or []
    concepts = found if isinstance(found, list) else [found]
    codings = [c for concept in concepts for c in concept.get("coding") or []]
    return any(_token(c.get("system"), c.get("code"), value) for c in codings)


_CRITERIA = {
    "patient": _by_patient,
    "subject": _by_patient,
    "date": _by_date,
    "identifier": _by_identifier,
    "target": _by_target,
    "category": _by_code,
    "code": _by_code,
}


def _token(system: str | None, code: str | None, wanted: str) -> bool:
    """A token parameter: `system|code`, or `code` in any system (R4 3.1.1.4.10)."""
    asked_system, bar, asked_code = wanted.rpartition("|")
    return code == asked_code and (not bar or (system or "") == asked_system)


def _resolved(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _resolved(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolved(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value


def _outcome(code: str) -> Resource:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code}]}


def _capabilities() -> Resource:
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "kind": "instance",
        "date": "2026-01-01",
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [{"mode": "server"}],
    }
