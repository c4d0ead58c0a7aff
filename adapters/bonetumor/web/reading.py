"""The read API: our reports over FHIR R4, for EHRs that cannot be written to.

`GET /fhir/DiagnosticReport`, Observation, Provenance, Media, Device, Organization, ImagingStudy by
id or by search; `POST …/_search` likewise; `metadata` and our public keys for everybody.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bonetumor.domain.errors import InvalidInput, StorageUnavailable
from bonetumor.service.shelf import Shelf
from bonetumor.web.access import Access, Denied
from bonetumor.web.criteria import Criteria

Resource = dict[str, Any]
_log = structlog.get_logger(__name__)
_JSON = "application/fhir+json"
_TYPES = (
    "DiagnosticReport", "Observation", "Provenance", "Media", "Device", "Organization",
    "ImagingStudy",
)  # fmt: skip
_MAX_FORM = 64 * 1024


class ReadApi:
    """Answers reads and searches from the shelf."""

    def __init__(self, shelf: Shelf, access: Access, version: str) -> None:
        self._shelf = shelf
        self._access = access
        self._version = version

    async def metadata(self, _request: Request) -> Response:
        """Our CapabilityStatement."""
        return _answer(200, _capabilities(self._version))

    async def read(self, request: Request) -> Response:
        """One resource."""
        kind, key = request.path_params["kind"], request.path_params["key"]
        return await self._guarded(request, kind, lambda: self._read(kind, key))

    async def search(self, request: Request) -> Response:
        """A searchset, from the query or from a form."""
        kind = request.path_params["kind"]
        said = request.query_params.multi_items()
        if request.method == "POST":
            form = bytearray()
            async for chunk in request.stream():
                form += chunk
                if len(form) > _MAX_FORM:
                    return _answer(413, _outcome("too-long", "expected a short form, got more"))
            said += parse_qsl(form.decode("utf-8", "replace"), keep_blank_values=True)
        return await self._guarded(request, kind, lambda: self._search(kind, Criteria(said)))

    async def _guarded(
        self, request: Request, kind: str, work: Callable[[], Resource | None]
    ) -> Response:
        try:
            if kind not in _TYPES:
                raise InvalidInput(f"expected one of {', '.join(_TYPES)}, got another type")
            await run_in_threadpool(self._access.check, request.headers.get("Authorization"), kind)
            resource = await run_in_threadpool(work)
        except Denied as denied:
            _log.warning("read denied", status=denied.status, reason=str(denied), kind=kind)
            answer = _answer(denied.status, _outcome("forbidden", str(denied)))
            if denied.status == 401:
                answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        except InvalidInput as error:
            return _answer(400, _outcome("invalid", str(error)))
        except StorageUnavailable:
            return _answer(503, _outcome("transient", "the ledger does not answer now"))
        if resource is None:
            return _answer(404, _outcome("not-found", "no such resource"))
        _log.info("read", kind=kind)
        return _answer(200, resource)

    def _read(self, kind: str, key: str) -> Resource | None:
        report = self._shelf.holding(key)
        found = [] if report is None else _of_kind(report.body, kind)
        return next((resource for resource in found if resource["id"] == key), None)

    def _search(self, kind: str, criteria: Criteria) -> Resource:
        query = criteria.query()
        reports = self._shelf.find(query)
        found = [
            resource
            for report in reports
            for resource in _of_kind(report.body, kind)
            if criteria.fit(resource)
        ]
        entries = [
            {"resource": resource, "search": {"mode": "match"}}
            for resource in {r["id"]: r for r in found}.values()
        ]
        bundle = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
        if len(reports) == query.limit:
            following = f"{kind}?{criteria.following()}"
            bundle["link"] = [{"relation": "next", "url": following}]
        return bundle


def build_read_api(
    shelf: Shelf, access: Access, *, version: str, key_set: Mapping[str, Any]
) -> Starlette:
    """The application. `key_set` is our JWKS, for authorisation servers."""
    api = ReadApi(shelf, access, version)

    async def keys(_request: Request) -> Response:
        return Response(json.dumps(key_set), media_type="application/json")

    async def health(_request: Request) -> Response:
        return Response("well", media_type="text/plain")

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/.well-known/jwks.json", keys),
            Route("/fhir/metadata", api.metadata),
            Route("/fhir/{kind}/_search", api.search, methods=["POST"]),
            Route("/fhir/{kind}/{key}", api.read),
            Route("/fhir/{kind}", api.search),
        ]
    )


def _of_kind(body: str, kind: str) -> list[Resource]:
    return [r for r in json.loads(body) if r["resourceType"] == kind]


def _answer(status: int, resource: Resource) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(json.dumps(resource), status, media_type=_JSON, headers=headers)


def _outcome(code: str, why: str) -> Resource:
    issue = {"severity": "error", "code": code, "diagnostics": why}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def _capabilities(version: str) -> Resource:
    token, reference = {"type": "token"}, {"type": "reference"}
    parameters = [
        {"name": "_id", **token},
        {"name": "patient", **reference},
        {"name": "identifier", **token},
        {"name": "date", "type": "date"},
        {"name": "category", **token},
        {"name": "code", **token},
    ]
    interactions = [{"code": "read"}, {"code": "search-type"}]
    security = {
        "service": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                        "code": "SMART-on-FHIR",
                    }
                ]
            }
        ]
    }
    resources = [
        {"type": kind, "interaction": interactions, "searchParam": parameters} for kind in _TYPES
    ]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "kind": "instance",
        "date": "2026-11-23",
        "software": {"name": "bonetumor", "version": version},
        "implementation": {"description": "Results of bonetumor, read only"},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [{"mode": "server", "security": security, "resource": resources}],
    }
