"""The read API: our reports over FHIR R4, for EHRs that cannot be written to.

`GET /fhir/DiagnosticReport`, Observation, Provenance, Media, Device, Organization, ImagingStudy by
id or by search; `POST …/_search` likewise; `metadata` and our public keys for everybody.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bonetumor.domain.errors import InvalidInput, StorageUnavailable
from bonetumor.service.shelf import ReportQuery, Shelf
from bonetumor.web.access import Access, Denied

Resource = dict[str, Any]
_log = structlog.get_logger(__name__)
_JSON = "application/fhir+json"
_TYPES = (
    "DiagnosticReport", "Observation", "Provenance", "Media", "Device", "Organization",
    "ImagingStudy",
)  # fmt: skip
_MAX_COUNT = 200
_MAX_FORM = 64 * 1024
_PARAMETERS = (
    "_id", "patient", "subject", "patient.identifier", "identifier", "date", "category", "code",
    "_count", "_offset",
)  # fmt: skip


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
        criteria = dict(request.query_params)
        if request.method == "POST":
            form = bytearray()
            async for chunk in request.stream():
                form += chunk
                if len(form) > _MAX_FORM:
                    return _answer(413, _outcome("too-long", "expected a short form, got more"))
            criteria |= dict(parse_qsl(form.decode("utf-8", "replace")))
        return await self._guarded(request, kind, lambda: self._search(kind, criteria))

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

    def _search(self, kind: str, criteria: Mapping[str, str]) -> Resource:
        query = _query(criteria)
        reports = self._shelf.find(query)
        found = [
            resource
            for report in reports
            for resource in _of_kind(report.body, kind)
            if _fits(resource, criteria)
        ]
        entries = [
            {"resource": resource, "search": {"mode": "match"}}
            for resource in {r["id"]: r for r in found}.values()
        ]
        bundle = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
        if len(reports) == query.limit:
            following = {**criteria, "_offset": str(query.offset + query.limit)}
            url = f"{kind}?{urlencode(following)}"
            bundle["link"] = [{"relation": "next", "url": url}]
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


def _query(criteria: Mapping[str, str]) -> ReportQuery:
    unknown = sorted(set(criteria) - set(_PARAMETERS))
    if unknown:
        raise InvalidInput(
            f"expected parameters {', '.join(_PARAMETERS)}, got {', '.join(unknown)}"
        )
    first, until = _span(criteria["date"]) if "date" in criteria else (None, None)
    patient = criteria.get("patient") or criteria.get("subject")
    identifier = criteria.get("identifier")
    patient_identifier = criteria.get("patient.identifier")
    return ReportQuery(
        patient=f"Patient/{patient.rpartition('/')[2]}" if patient else None,
        patient_id=patient_identifier.rpartition("|")[2] if patient_identifier else None,
        identifier=identifier.rpartition("|")[2] if identifier else None,
        acquired_from=first,
        acquired_until=until,
        limit=_number(criteria, "_count", 50, _MAX_COUNT),
        offset=_number(criteria, "_offset", 0, 10**9),
    )


def _number(criteria: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = criteria.get(name, str(default))
    if not text.isdigit():
        raise InvalidInput(f"{name}: expected a number, got something else")
    return min(int(text), most)


def _span(text: str) -> tuple[datetime | None, datetime | None]:
    """From and until of a date parameter with its prefix (R4 3.1.1.4.7)."""
    prefix, date = (text[:2], text[2:]) if text[:2].isalpha() else ("eq", text)
    first, until = _period(date)
    spans = {
        "eq": (first, until),
        "ge": (first, None),
        "gt": (until, None),
        "le": (None, until),
        "lt": (None, first),
    }
    if prefix not in spans:
        raise InvalidInput(f"date: expected one of {', '.join(spans)}, got {prefix}")
    return spans[prefix]


def _period(text: str) -> tuple[datetime, datetime]:
    """The moments that a date of any precision stands for."""
    try:
        if len(text) == 4:
            return datetime(int(text), 1, 1, tzinfo=UTC), datetime(int(text) + 1, 1, 1, tzinfo=UTC)
        if len(text) == 7:
            first = datetime.fromisoformat(f"{text}-01").replace(tzinfo=UTC)
            return first, (first + timedelta(days=32)).replace(day=1)
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise InvalidInput("date: expected a FHIR date, got what is none") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment, moment + (timedelta(days=1) if len(text) == 10 else timedelta(seconds=1))


def _fits(resource: Resource, criteria: Mapping[str, str]) -> bool:
    """What the shelf does not know of a resource: its id, its category and its code."""
    if "_id" in criteria and resource["id"] not in criteria["_id"].split(","):
        return False
    for name in ("category", "code"):
        if name in criteria and not _has_code(resource.get(name), criteria[name]):
            return False
    return True


def _has_code(concepts: Any, wanted: str) -> bool:
    listed = concepts if isinstance(concepts, list) else [concepts or {}]
    system, bar, code = wanted.rpartition("|")
    return any(
        c.get("code") == code and (not bar or c.get("system") == system)
        for concept in listed
        for c in concept.get("coding") or []
    )


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
