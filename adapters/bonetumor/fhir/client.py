"""A thin FHIR R4 client over httpx: search with paging, read, conditional create, transaction.

Library exceptions stop here. What may be retried is FhirUnavailable; what the server refused is
Refused, with the codes of its OperationOutcome. Idempotent calls are tried again at once a few
times; longer waits belong to the ledger.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO
from urllib.parse import urljoin, urlsplit

import httpx

from bonetumor.domain.errors import FhirUnavailable, MalformedResource
from bonetumor.fhir.auth import Anonymous, Authorization
from bonetumor.fhir.capabilities import Capabilities
from bonetumor.fhir.shapes import Resource, listed, member, objects, string
from bonetumor.fhir.transport import Answer, Breaker, Refused, Request, Sink, Transport, origin

_JSON = "application/fhir+json"
_WHOLE = {"Accept": _JSON, "Prefer": "return=representation"}
_MAX_PAGES = 200
_MAX_PAGE = 20_000
_NO_SEARCH_BY_POST = frozenset({404, 405, 501})


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long one call may take, and how often an idempotent one is tried again at once."""

    deadline_s: float = 30.0
    tries: int = 3
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0


class FhirClient:
    """One FHIR server. `base_url` is the service base; credentials go to that origin alone.

    `http` is the caller's to configure (certificates, pool) and ours to close.
    """

    def __init__(
        self,
        base_url: str,
        *,
        http: httpx.Client | None = None,
        authorization: Authorization | None = None,
        patience: Patience | None = None,
        search_by_post: bool = True,
        page_size: int = 200,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._base = base_url.rstrip("/") + "/"
        self._search_by_post = search_by_post
        self._page_size = page_size
        self._patience = patience or Patience()
        self._authorization = authorization or Anonymous()
        self._transport = Transport(
            http or httpx.Client(), deadline_s=self._patience.deadline_s, breaker=Breaker()
        )
        self._sleep = sleep
        self._capabilities: Capabilities | None = None

    def close(self) -> None:
        """Gives the connections back."""
        self._transport.close()

    @property
    def base_url(self) -> str:
        """The service base, with its closing slash."""
        return self._base

    def capabilities(self) -> Capabilities:
        """What the server's CapabilityStatement offers, read once."""
        if self._capabilities is None:
            self._capabilities = Capabilities(self.metadata())
        return self._capabilities

    def metadata(self) -> Resource:
        """The server's CapabilityStatement."""
        return self._resource("GET", "metadata", again=True)

    def search(self, resource_type: str, criteria: Mapping[str, str]) -> Iterator[Resource]:
        """Every matching resource of the type, over all pages. Broken entries are passed over.

        Criteria travel in the body where the server allows it, so that no identifier of a patient
        comes to stand in an access log.
        """
        page = self._whole_first_page(resource_type, criteria)
        seen: set[str] = set()
        for _ in range(_MAX_PAGES):
            yield from _resources(page, resource_type)
            following = _next_link(page)
            if following is None:
                return
            target = self._same_origin(following)
            if target in seen:
                raise MalformedResource(
                    f"{resource_type} search: expected a new next page, got the same again"
                )
            seen.add(target)
            page = self._resource("GET", target, again=True)
        raise MalformedResource(
            f"{resource_type} search: expected at most {_MAX_PAGES} pages, got more"
        )

    def read(self, reference: str) -> Resource:
        """The resource behind a relative reference such as `Media/12`.

        Raises:
            MalformedResource: another origin, or what comes has no id.
        """
        found = self._resource("GET", self._same_origin(reference), again=True)
        if not string(found.get("id")):
            raise MalformedResource(f"{reference}: expected a resource with an id, got none")
        return found

    def is_ours(self, url: str) -> bool:
        """Whether a URL, relative or absolute, lies on this server's origin."""
        return origin(urljoin(self._base, url)) == origin(self._base)

    def download(self, url: str, into: IO[bytes], *, max_bytes: int) -> None:
        """Writes an attachment of the same origin into a file.

        Raises:
            MalformedResource: another origin, or more than `max_bytes`.
        """
        request = Request("GET", self._same_origin(url), headers={"Accept": "*/*"})
        self._patiently(request, again=True, into=Sink(into, max_bytes))

    def create_once(self, resource: Resource, criteria: Mapping[str, str]) -> str:
        """Creates the resource unless one matches; answers its reference (R4 3.1.0.8.1).

        Two matches (412) and a race that was lost (409) are settled by looking again.
        """
        kind = str(resource["resourceType"])
        found = self._own(resource, criteria)
        if found is not None:
            return f"{kind}/{found['id']}"
        query = str(httpx.QueryParams(dict(criteria)))
        headers = {"If-None-Exist": query, "Content-Type": _JSON, **_WHOLE}
        request = Request("POST", urljoin(self._base, kind), headers=headers, json=resource)
        try:
            answer = self._patiently(request, again=False)
        except Refused as error:
            found = self._own(resource, criteria)
            if error.status not in {409, 412} or found is None:
                raise
            return f"{kind}/{found['id']}"
        return _created(kind, answer)

    def _own(self, resource: Resource, criteria: Mapping[str, str]) -> Resource | None:
        """What the server holds of the resource, whatever else it answers the search with."""
        found = self.search(str(resource["resourceType"]), criteria)
        return next((f for f in found if _same(f, resource)), None)

    def update(self, resource: Resource) -> Resource:
        """Replaces a resource of ours, if it is still the version that was read (R4 3.1.0.5)."""
        reference = f"{resource['resourceType']}/{resource['id']}"
        version = member(resource.get("meta")).get("versionId")
        headers = {"If-Match": f'W/"{version}"'} if version else {}
        return self._resource("PUT", reference, json=resource, headers=headers)

    def transact(self, bundle: Resource) -> Resource:
        """Posts a transaction; raises Refused if any entry of the answer is an error."""
        answer = self._resource("POST", "", json=bundle)
        for entry in objects(answer.get("entry")):
            response = member(entry.get("response"))
            status = str(response.get("status", "200"))
            if not status.startswith("2"):
                raise Refused(
                    int(status[:3]) if status[:3].isdigit() else 500,
                    "FHIR transaction: expected 2xx for every entry",
                    response.get("outcome"),
                )
        return answer

    def _whole_first_page(self, resource_type: str, criteria: Mapping[str, str]) -> Resource:
        """The first page; all in one from a server that counts more than it shows or links to."""
        page = self._first_page(resource_type, {**criteria, "_count": str(self._page_size)})
        total = _hidden(page)
        if total is None:
            return page
        if total <= _MAX_PAGE:
            page = self._first_page(resource_type, {**criteria, "_count": str(total)})
        if _hidden(page) is not None:
            raise MalformedResource(
                f"{resource_type} search: expected {total} entries or a next page, got "
                f"{_count(page)} and no next page"
            )
        return page

    def _first_page(self, resource_type: str, criteria: Mapping[str, str]) -> Resource:
        if self._search_by_post:
            try:
                return self._resource("POST", f"{resource_type}/_search", data=criteria, again=True)
            except Refused as error:
                if error.status not in _NO_SEARCH_BY_POST:
                    raise
                page = self._resource("GET", resource_type, params=criteria, again=True)
                self._search_by_post = False  # only once the other way has worked
                return page
        return self._resource("GET", resource_type, params=criteria, again=True)

    def _resource(
        self,
        method: str,
        path: str,
        *,
        again: bool = False,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        json: Resource | None = None,
    ) -> Resource:
        sent = {"Accept": _JSON, **(headers or {})}
        if json is not None:
            sent["Content-Type"] = _JSON
        url = urljoin(self._base, path) if path else self._base.rstrip("/")
        request = Request(method, url, headers=sent, params=params, data=data, json=json)
        return self._patiently(request, again=again).resource()

    def _patiently(self, request: Request, *, again: bool, into: Sink | None = None) -> Answer:
        """Sends with credentials; an idempotent request again while the server is unavailable."""
        tries = self._patience.tries if again else 1
        for number in range(1, tries + 1):
            try:
                return self._authorized(request, into)
            except FhirUnavailable as error:
                wait = self._wait(number, error.retry_after_s)
                if number == tries or not error.at_once or wait is None:
                    raise
                self._sleep(wait)
        raise AssertionError("unreachable")

    def _authorized(self, request: Request, into: Sink | None) -> Answer:
        """One try; a 401 makes the credentials new, once."""
        try:
            return self._transport.send(request, self._authorization.headers(), into)
        except Refused as error:
            if error.status != 401:
                raise
            if not self._authorization.renew():
                raise _not_let_in(request) from error
        try:
            return self._transport.send(request, self._authorization.headers(), into)
        except Refused as error:
            if error.status != 401:
                raise
            raise _not_let_in(request) from error

    def _wait(self, number: int, asked_s: float | None) -> float | None:
        """How long to wait here; None if the server asks for more than is spent on waiting."""
        if asked_s is not None:
            return asked_s if asked_s <= self._patience.longest_wait_s else None
        wait = self._patience.first_wait_s * 2.0 ** (number - 1)
        return wait * random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not secrets

    def _same_origin(self, url: str) -> str:
        if not self.is_ours(url):
            raise MalformedResource("FHIR link: expected our server's origin, got another")
        return urljoin(self._base, url)


def _not_let_in(request: Request) -> FhirUnavailable:
    """Credentials can be put right: the study waits for that and does not fail."""
    return FhirUnavailable(f"{request.name}: expected our credentials to be taken, got 401")


def _created(kind: str, answer: Answer) -> str:
    """The reference of what was made: from the body, or from Location where there is none."""
    key = answer.resource().get("id")
    if key is None:
        _, _, rest = answer.location.rpartition(f"{kind}/")
        key = rest.split("/")[0] if rest != answer.location else None
    if not key:
        raise MalformedResource(
            f"{answer.name}: expected the id of what was made, got neither body nor Location"
        )
    return f"{kind}/{key}"


def _same(found: Resource, resource: Resource) -> bool:
    """Whether a resource that was found goes by the first name of ours."""
    own = _names(resource)
    return bool(own) and own[0] in _names(found)


def _names(resource: Resource) -> list[tuple[object, object]]:
    """Identifiers; tags for resources that have none, such as Provenance."""
    identifiers = [(i.get("system"), i.get("value")) for i in objects(resource.get("identifier"))]
    tags = objects(member(resource.get("meta")).get("tag"))
    return identifiers or [(t.get("system"), t.get("code")) for t in tags]


def _resources(page: Resource, resource_type: str) -> Iterator[Resource]:
    for entry in objects(page.get("entry")):
        resource = member(entry.get("resource"))
        if resource.get("resourceType") == resource_type and string(resource.get("id")):
            yield resource


def _count(page: Resource) -> int:
    """How many entries a page has, broken ones too."""
    return len(listed(page.get("entry")))


def _hidden(page: Resource) -> int | None:
    """The total of a page that holds fewer and links to no other; None where all is to be had."""
    total = page.get("total")
    if not isinstance(total, int) or _next_link(page) is not None or total <= _count(page):
        return None
    return total


def _next_link(page: Resource) -> str | None:
    for link in objects(page.get("link")):
        if link.get("relation") == "next" and link.get("url"):
            return str(link["url"])
    return None


def token(system: str, value: str) -> str:
    """A token criterion; what separates tokens is escaped in it (R4 3.1.1.3)."""
    for special in ("\\", "|", ",", "$"):
        value = value.replace(special, f"\\{special}")
    return f"{system}|{value}" if system else value


def reference_id(url: str, base_url: str) -> str | None:
    """`Type/id` of a reference to this server, relative or absolute; None for any other."""
    relative = url.removeprefix(base_url)
    return None if urlsplit(relative).scheme or relative.startswith("/") else relative
