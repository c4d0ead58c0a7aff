"""FHIR servers that answer as a test tells them to."""

import httpx

from bonetumor.fhir.client import FhirClient

BASE = "http://ehr.test/fhir"


def client(handler, **options) -> FhirClient:
    """A client whose server is a function."""
    http = httpx.Client(transport=httpx.MockTransport(handler))
    return FhirClient(BASE, http=http, sleep=lambda _: None, **options)


def page(*resources, following=None) -> httpx.Response:
    """A searchset; a bundle without entries where there are none."""
    bundle = {"resourceType": "Bundle", "type": "searchset"}
    if resources:
        bundle["entry"] = [{"resource": r} for r in resources]
    if following:
        bundle["link"] = [{"relation": "next", "url": following}]
    return httpx.Response(200, json=bundle)


def collection(*resources) -> dict:
    return {"resourceType": "Bundle", "entry": [{"resource": r} for r in resources]}
