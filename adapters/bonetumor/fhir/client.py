"""A thin FHIR R4 client over httpx: search with paging, read, conditional create, transaction.

Library exceptions stop here. What may be retried is FhirUnavailable; what the server refused is
Rejected, with the diagnostics of its OperationOutcome.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from bonetumor.domain.errors import FhirUnavailable, MalformedResource, Rejected

Resource = dict[str, Any]
_RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
_JSON = "application/fhir+json"
_MAX_PAGES = 50


class FhirClient:
    """One FHIR server. `base_url` is the service base; `token` goes to that origin alone."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        search_by_post: bool = False,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._base = base_url.rstrip("/") + "/"
        self._search_by_post = search_by_post
        headers = {"Accept": _JSON}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            headers=headers, timeout=timeout_s, transport=transport, follow_redirects=False
        )

    def close(self) -> None:
        """Gives the connections back."""
        self._http.close()

    def metadata(self) -> Resource:
        """The server's CapabilityStatement."""
        return self._send("GET", "metadata")

    def search(self, resource_type: str, criteria: Mapping[str, str]) -> Iterator[Resource]:
        """Every matching resource of the type, over all pages. Broken entries are passed over."""
        if self._search_by_post:
            page = self._send("POST", f"{resource_type}/_search", data=dict(criteria))
        else:
            page = self._send("GET", resource_type, params=dict(criteria))
        for _ in range(_MAX_PAGES):
            for entry in page.get("entry") or []:
                resource = entry.get("resource") if isinstance(entry, dict) else None
                if isinstance(resource, dict) and resource.get("resourceType") == resource_type:
                    yield resource
            following = _next_link(page)
            if following is None:
                return
            page = self._send("GET", self._same_origin(following))
        raise MalformedResource(
            f"{resource_type} search: expected at most {_MAX_PAGES} pages, got more"
        )

    def read(self, reference: str) -> Resource:
        """The resource behind a relative reference such as `Media/12`."""
        return self._send("GET", reference)

    def download(self, url: str, *, max_bytes: int) -> bytes:
        """The bytes of an attachment of the same origin.

        Raises:
            MalformedResource: another origin, or more than `max_bytes`.
        """
        target = self._same_origin(url)
        try:
            with self._http.stream("GET", target, headers={"Accept": "*/*"}) as response:
                self._check(response, "GET", target)
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > max_bytes:
                        raise MalformedResource(
                            f"attachment: expected at most {max_bytes} bytes, got more"
                        )
                return bytes(data)
        except httpx.HTTPError as error:
            raise _unavailable(error) from error

    def create_once(self, resource: Resource, criteria: Mapping[str, str]) -> str:
        """Creates the resource unless one matches; answers its reference (R4 3.1.0.8.1)."""
        kind = str(resource["resourceType"])
        found = next(self.search(kind, criteria), None)
        if found is None:
            query = str(httpx.QueryParams(dict(criteria)))
            found = self._send("POST", kind, json=resource, headers={"If-None-Exist": query})
        return f"{kind}/{found['id']}"

    def transact(self, bundle: Resource) -> Resource:
        """Posts a transaction; raises Rejected if any entry of the answer is an error."""
        answer = self._send("POST", "", json=bundle)
        for entry in answer.get("entry") or []:
            status = str(entry.get("response", {}).get("status", "200"))
            if not status.startswith("2"):
                outcome = entry.get("response", {}).get("outcome") or {}
                raise Rejected(
                    f"FHIR transaction: expected 2xx for every entry, got {status}: {_why(outcome)}"
                )
        return answer

    def _send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        json: Resource | None = None,
    ) -> Resource:
        sent = dict(headers or {})
        if json is not None:
            sent["Content-Type"] = _JSON
        url = urljoin(self._base, path) if path else self._base.rstrip("/")
        try:
            response = self._http.request(
                method, url, headers=sent, params=params, data=data, json=json
            )
        except httpx.HTTPError as error:
            raise _unavailable(error) from error
        self._check(response, method, path)
        try:
            body = response.json()
        except ValueError as error:
            raise FhirUnavailable(f"FHIR {method}: expected JSON, got something else") from error
        if not isinstance(body, dict):
            raise MalformedResource(
                f"FHIR {method}: expected a resource, got {type(body).__name__}"
            )
        return body

    def _check(self, response: httpx.Response, method: str, path: str) -> None:
        if response.is_success:
            return
        # Never the query: it may name a patient.
        what = path.split("?", maxsplit=1)[0].rsplit("://", 1)[-1]
        if response.status_code in _RETRYABLE or response.status_code == 401:
            raise FhirUnavailable(f"FHIR {method} {what}: expected 2xx, got {response.status_code}")
        response.read()
        try:
            outcome = response.json()
        except ValueError:
            outcome = {}
        raise Rejected(
            f"FHIR {method} {what}: expected 2xx, got {response.status_code}: {_why(outcome)}"
        )

    def _same_origin(self, url: str) -> str:
        target = urljoin(self._base, url)
        ours, theirs = urlsplit(self._base), urlsplit(target)
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
            raise MalformedResource("FHIR link: expected our server's origin, got another")
        return target


def _next_link(page: Resource) -> str | None:
    for link in page.get("link") or []:
        if link.get("relation") == "next" and link.get("url"):
            return str(link["url"])
    return None


def _why(outcome: object) -> str:
    """Codes and expressions of an OperationOutcome; its free text may hold patient data."""
    issues = outcome.get("issue") if isinstance(outcome, dict) else None
    said = [
        " ".join([str(i.get("code", "")), *map(str, i.get("expression") or [])])
        for i in issues or []
    ]
    return "; ".join(said) or "no reason given"


def _unavailable(error: httpx.HTTPError) -> FhirUnavailable:
    return FhirUnavailable(f"FHIR server: expected an answer, got {type(error).__name__}")
