"""The EHR as the place where reports go: the ReportServer port over FHIR.

Stage 1 creates what a report hangs on, each on condition that it is not there. Stage 2 looks for
the run first and only then posts one transaction, so a repetition makes nothing twice, also
after a timeout that hid a commit, and also where a server kept half of a transaction.

A later result of the same study amends our own report in place, as long as it is still ours alone:
one that a person has made final or signed is theirs, and gets a new report beside it that names
it. Nothing is ever deleted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bonetumor.domain.errors import InvalidInput, Rejected
from bonetumor.fhir.client import FhirClient
from bonetumor.fhir.codes import (
    DEVICE_SYSTEM,
    DICOM_UID_SYSTEM,
    RUN_SYSTEM,
    device_key,
    is_of_run,
    role_of,
)
from bonetumor.fhir.document import document_reference
from bonetumor.fhir.graph import PICTURE, PROVENANCE, REPORT, Anchors, Places, transaction
from bonetumor.fhir.report import device, graph, imaging_study, organization, provenance, roles
from bonetumor.fhir.shapes import Resource, member, objects, string
from bonetumor.picture.illustration import Illustration
from bonetumor.service.ports import ReportServer, Result

_OPEN = {"registered", "partial", "preliminary", "amended"}
_REPORT, _DOCUMENT = "DiagnosticReport", "DocumentReference"


class FhirReportServer:
    """Posts reports to one FHIR server in the name of `organization_name`.

    The form follows the CapabilityStatement: DiagnosticReport, else DocumentReference, else
    `otherwise`.
    """

    def __init__(
        self,
        client: FhirClient,
        organization_name: str,
        illustrate: Callable[[Result], Illustration],
        otherwise: ReportServer | None = None,
    ) -> None:
        self._client = client
        self._organization_name = organization_name
        self._illustrate = illustrate
        self._otherwise = otherwise

    def send(self, result: Result) -> None:
        """Posts the report unless the server has it."""
        if result.evidence.patient is None:
            raise InvalidInput("report: expected a matched Patient, got none")
        form = self._form()
        if form == _REPORT:
            self._send_report(result)
        elif form == _DOCUMENT:
            self._send_document(result)
        elif self._otherwise is not None:
            self._otherwise.send(result)
        else:
            raise Rejected(
                "FHIR server: expected it to take DiagnosticReport or DocumentReference, got "
                "neither; configure ehr.hl7, or ehr.write = 'none' and let it read ours"
            )

    def holds(self, result: Result) -> bool:
        """Whether the server answers with the report of this run."""
        form = self._form()
        if form is None:
            return self._otherwise is not None and self._otherwise.holds(result)
        return self._find(form, result.assessment.run_key) is not None

    def withdraw(self, runs: Sequence[str]) -> int:
        """Marks our report of the first run that has one, and all that it says, as entered in
        error; answers how many resources changed.

        Raises:
            Rejected: there is no such report, or it is no longer ours alone.
        """
        run, report = next(
            ((run, found) for run in runs if (found := self._find(_REPORT, run))), ("", None)
        )
        if report is None or not _is_open(report):
            said = "none" if report is None else f"one that is {report.get('status')} by now"
            raise Rejected(f"withdraw: expected a report of ours, got {said}")
        said_by_it = self._results_of(report, run)
        changed = [{**resource, "status": "entered-in-error"} for resource in (*said_by_it, report)]
        for resource in changed:
            self._client.update(resource)
        return len(changed)

    def _form(self) -> str | None:
        offered = self._client.capabilities()
        for form in (_REPORT, _DOCUMENT):
            if offered.offers(form, "create") and offered.offers(form, "search-type"):
                return form
        return None

    # -- DiagnosticReport ----------------------------------------------------------------------

    def _send_report(self, result: Result) -> None:
        run = result.assessment.run_key
        anchors = self._anchors(result)
        report = self._find(_REPORT, run)
        earlier = self._earlier(_REPORT, result)
        if report is not None:
            self._complete(result, anchors, report)
            return
        held = self._already_held(result)
        superseded: list[Resource] = []
        if earlier is not None and result.predecessor and self._may_amend(earlier):
            held = {**self._to_amend(earlier, result.predecessor.run_key), **held}
            superseded = [r for role, r in held.items() if role not in {*roles(result), REPORT}]
        places = Places(run, held)
        made = graph(result, anchors, self._illustrate(result), places, earlier)
        self._post(places, made, superseded, run)

    def _post(
        self,
        places: Places,
        made: list[tuple[str, Resource]],
        superseded: Iterable[Resource],
        run: str,
    ) -> None:
        bundle = transaction(places, made)
        for gone in superseded:
            bundle["entry"].append(_cancelled(gone, run))
        if self._client.capabilities().transacts:
            self._client.transact(bundle)
        else:
            self._one_by_one(bundle)

    def _one_by_one(self, bundle: Resource) -> None:
        """For servers without transactions: each after what it refers to, the report near last."""
        names: dict[str, str] = {}
        for entry in bundle["entry"]:
            resource = _renamed(entry["resource"], names)
            if entry["request"]["method"] == "PUT":
                self._client.update(resource)
            elif resource.get("identifier"):
                own = resource["identifier"][0]
                names[entry["fullUrl"]] = self._client.create_once(
                    resource, {"identifier": f"{own['system']}|{own['value']}"}
                )
            else:
                self._client.create_once(
                    resource, {"target": resource["target"][0]["reference"], **_tagged(resource)}
                )

    def _complete(self, result: Result, anchors: Anchors, report: Resource) -> None:
        """A server may have kept a report without its Provenance: then that is made up for."""
        run = result.assessment.run_key
        if not self._client.capabilities().searches_by("Provenance", "target"):
            return
        target = f"{_REPORT}/{report['id']}"
        for there in self._client.search("Provenance", {"target": target}):
            tags = objects(member(there.get("meta")).get("tag"))
            if any(t.get("system") == RUN_SYSTEM and t.get("code") == run for t in tags):
                return
        places = Places(run, {**self._already_held(result), REPORT: report})
        missing = provenance(result, anchors, places, None)
        self._client.transact(transaction(places, [(PROVENANCE, missing)]))

    def _already_held(self, result: Result) -> dict[str, Resource]:
        """What an earlier attempt at this run left on the server, by role."""
        run = result.assessment.run_key
        wanted = roles(result)
        named = ",".join(f"{RUN_SYSTEM}|{run}/{role}" for role in wanted if role != PICTURE)
        found = list(self._client.search("Observation", {"identifier": named}))
        if self._client.capabilities().offers("Media", "search-type"):
            picture = {"identifier": f"{RUN_SYSTEM}|{run}/{PICTURE}"}
            found += self._client.search("Media", picture)
        return {role: r for r in found if (role := role_of(r, run)) in wanted and role is not None}

    def _to_amend(self, earlier: Resource, run_key: str) -> dict[str, Resource]:
        """The earlier report and its Observations and picture, by the roles they had."""
        said = self._results_of(earlier, run_key)
        found = {role: r for r in said if (role := role_of(r, run_key)) is not None}
        return {**found, REPORT: earlier}

    def _results_of(self, report: Resource, run_key: str) -> list[Resource]:
        """What our report refers to and that is ours: Observations and the picture."""
        links = [r.get("reference") for r in objects(report.get("result"))]
        links += [member(m.get("link")).get("reference") for m in objects(report.get("media"))]
        found = [self._client.read(str(link)) for link in links if link]
        return [r for r in found if role_of(r, run_key) is not None]

    def _may_amend(self, report: Resource) -> bool:
        return _is_open(report) and self._client.capabilities().offers(_REPORT, "update")

    # -- DocumentReference ---------------------------------------------------------------------

    def _send_document(self, result: Result) -> None:
        run = result.assessment.run_key
        if self._find(_DOCUMENT, run) is not None:
            return
        earlier = self._earlier(_DOCUMENT, result)
        pdf = self._illustrate(result).pdf
        made = document_reference(result, self._organization(), pdf, earlier)
        self._client.create_once(made, {"identifier": f"{RUN_SYSTEM}|{run}"})
        if earlier is not None and self._client.capabilities().offers(_DOCUMENT, "update"):
            self._client.update({**earlier, "status": "superseded"})

    # -- what both need ------------------------------------------------------------------------

    def _find(self, kind: str, run_key: str) -> Resource | None:
        found = self._client.search(kind, {"identifier": f"{RUN_SYSTEM}|{run_key}"})
        return next((r for r in found if is_of_run(r, run_key)), None)

    def _earlier(self, kind: str, result: Result) -> Resource | None:
        return self._find(kind, result.predecessor.run_key) if result.predecessor else None

    def _organization(self) -> str:
        return self._client.create_once(
            organization(self._organization_name),
            {"identifier": f"{DEVICE_SYSTEM}|{self._organization_name}"},
        )

    def _anchors(self, result: Result) -> Anchors:
        owner = self._organization()
        study = f"urn:oid:{result.study.study_instance_uid}"
        return Anchors(
            organization=owner,
            device=self._client.create_once(
                device(result, owner),
                {"identifier": f"{DEVICE_SYSTEM}|{device_key(result.assessment)}"},
            ),
            imaging_study=self._client.create_once(
                imaging_study(result), {"identifier": f"{DICOM_UID_SYSTEM}|{study}"}
            ),
        )


def _is_open(report: Mapping[str, Any]) -> bool:
    """Whether no person has made the report theirs."""
    return string(report.get("status")) in _OPEN and not report.get("resultsInterpreter")


def _cancelled(gone: Resource, run: str) -> dict[str, Any]:
    """What the earlier result said and the new one does not."""
    note = {"text": f"Superseded by run {run[:16]} of the same model."}
    resource = {**gone, "status": "cancelled", "note": [*objects(gone.get("note")), note]}
    url = f"{gone['resourceType']}/{gone['id']}"
    return {"fullUrl": url, "resource": resource, "request": {"method": "PUT", "url": url}}


def _tagged(resource: Resource) -> dict[str, str]:
    [tag] = resource["meta"]["tag"]
    return {"_tag": f"{tag['system']}|{tag['code']}"}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The resource with references to what has been created meanwhile."""
    if isinstance(value, dict):
        return {k: _renamed(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [_renamed(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value
