"""What a FHIR server offers, as its CapabilityStatement says (R4 CapabilityStatement.rest)."""

from collections.abc import Mapping
from typing import Any

from bonetumor.fhir.shapes import objects, string


class Capabilities:
    """The server's own word. One that lists no resources is taken to offer all of them."""

    def __init__(self, statement: Mapping[str, Any]) -> None:
        self.fhir_version = str(statement.get("fhirVersion", "unknown"))
        rest: Mapping[str, Any] = next(
            (r for r in objects(statement.get("rest")) if r.get("mode", "server") == "server"), {}
        )
        self._resources = {
            kind: r for r in objects(rest.get("resource")) if (kind := string(r.get("type")))
        }
        self._system = _interactions(rest)

    def offers(self, resource_type: str, interaction: str) -> bool:
        """Whether the type can be read, searched (`search-type`), created or updated."""
        if not self._resources:
            return True
        resource = self._resources.get(resource_type)
        if resource is None:
            return False
        listed = _interactions(resource)
        return not listed or interaction in listed

    def searches_by(self, resource_type: str, parameter: str) -> bool:
        """Whether a search parameter is supported; a type that lists none may know all."""
        listed = objects(self._resources.get(resource_type, {}).get("searchParam"))
        return not listed or any(p.get("name") == parameter for p in listed)

    @property
    def transacts(self) -> bool:
        """Whether transactions are taken."""
        return not self._system or "transaction" in self._system


def _interactions(holder: Mapping[str, Any]) -> set[str]:
    return {str(i.get("code")) for i in objects(holder.get("interaction"))}
