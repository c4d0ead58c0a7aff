"""What the resources of a result are called while they refer to each other."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from bonetumor.fhir.codes import urn
from bonetumor.fhir.shapes import Resource

CLASS = "class"
REPORT = "report"
PICTURE = "picture"
PROVENANCE = "provenance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """Relative references of the resources that a report hangs on, once they exist."""

    organization: str
    device: str
    imaging_study: str


@dataclass(frozen=True, slots=True)
class Places:
    """Where each role's resource lies, or will lie: `Type/id` on the server, or a `urn:uuid:`.

    `held` has the resources of ours that the server holds already, by role.
    """

    run_key: str
    held: dict[str, Resource] = field(default_factory=dict)

    def __getitem__(self, role: str) -> str:
        there = self.held.get(role)
        if there is None:
            return urn(self.run_key, role)
        return f"{there['resourceType']}/{there['id']}"


def transaction(places: Places, resources: Iterable[tuple[str, Resource]]) -> Resource:
    """One Bundle: what the server holds is replaced if unchanged, the rest is created."""
    entries = []
    for role, resource in resources:
        there = places.held.get(role)
        if there is None:
            request = {"method": "POST", "url": resource["resourceType"]}
        else:
            request = {"method": "PUT", "url": places[role], **_if_match(there)}
        own = {"id": there["id"]} if there else {}
        entries.append({"fullUrl": places[role], "resource": resource | own, "request": request})
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _if_match(there: Resource) -> dict[str, str]:
    version = (there.get("meta") or {}).get("versionId")
    return {"ifMatch": f'W/"{version}"'} if version else {}
