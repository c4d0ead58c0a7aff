"""The EHR as a source of evidence: the HealthRecord port over FHIR."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from bonetumor.domain.errors import Rejected
from bonetumor.domain.labs import LabPanel
from bonetumor.domain.pathology import Pathology
from bonetumor.domain.study import PatientIdentity, StudyHeader
from bonetumor.fhir.analytes import Catalogue
from bonetumor.fhir.client import FhirClient, reference_id, token
from bonetumor.fhir.labs import LabContext, LabWindow, analytes_in, read_panel
from bonetumor.fhir.pathology import PathologyReader
from bonetumor.fhir.patient import PatientMatcher
from bonetumor.fhir.shapes import Resource, member, objects
from bonetumor.fhir.specimens import specimen_of

_log = structlog.get_logger(__name__)
_MEMBERS = 200
_AT_ONCE = 100
_WATCHED = ("Observation", "DiagnosticReport", "DocumentReference", "ImagingStudy")


class FhirHealthRecord:
    """Patient, blood, pathology and order of one FHIR server."""

    def __init__(
        self,
        client: FhirClient,
        *,
        matcher: PatientMatcher,
        pathology: PathologyReader,
        window: LabWindow,
        catalogue: Catalogue,
    ) -> None:
        self._client = client
        self._matcher = matcher
        self._pathology = pathology
        self._window = window
        self._catalogue = catalogue

    def find_patient(self, identity: PatientIdentity) -> str:
        """The one FHIR Patient; raises PatientNotMatched otherwise."""
        return self._matcher.find(identity)

    def check_patient(self, patient: str) -> str:
        """The Patient that a person chose; raises PatientNotMatched if the EHR has none such."""
        return self._matcher.check(patient)

    def changed_since(self, patient: str, moment: datetime) -> bool:
        """Whether anything about the patient may have changed; True where that is not known."""
        updated = {"_lastUpdated": f"gt{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        key = patient.partition("/")[2]
        try:
            if any(self._client.search("Patient", {"_id": key, **updated})):
                return True
            return any(
                True
                for kind in _WATCHED
                if self._client.capabilities().offers(kind, "search-type")
                for _ in self._client.search(kind, {"patient": key, **updated})
            )
        except Rejected:
            return True

    def labs(self, patient: str, header: StudyHeader) -> LabPanel | None:
        """Blood markers near the images, or None if the EHR holds none."""
        observations = list(self._observations(patient, header.acquired_at))
        observations += self._members(observations, patient)
        context = LabContext(
            window=self._window,
            around=header.acquired_at,
            identity=header.patient,
            catalogue=self._catalogue,
        )
        panel = read_panel(observations, context, self._specimens(observations))
        said = panel.results or panel.not_understood or panel.outside_window
        return panel if said else None

    def pathology(self, patient: str) -> Pathology | None:
        """Pathology reports and slides, or None if the EHR holds none."""
        return self._pathology.read(patient)

    def order(self, patient: str, accession_number: str | None) -> str | None:
        """The one ServiceRequest behind the accession number, if there is exactly one."""
        if not accession_number:
            return None
        criteria = {"patient": patient.split("/")[1], "identifier": token("", accession_number)}
        try:
            candidates = list(self._client.search("ServiceRequest", criteria))
        except Rejected as error:
            # An EHR without orders over FHIR: the report goes out without one.
            _log.warning("no orders to be had", reason=str(error))
            return None
        found = [
            r
            for r in candidates
            if any(i.get("value") == accession_number for i in objects(r.get("identifier")))
        ]
        return f"ServiceRequest/{found[0]['id']}" if len(found) == 1 else None

    def _observations(self, patient: str, around: datetime | None) -> Iterator[Resource]:
        criteria = {"patient": patient.split("/")[1], "category": "laboratory"}
        if around is not None and self._client.capabilities().searches_by("Observation", "date"):
            # A day more on both sides: dates without a time, and zones. The window decides.
            day = timedelta(days=1)
            criteria["date"] = f"ge{around - self._window.before - day:%Y-%m-%d}"
        found = list(self._client.search("Observation", criteria))
        if not found:
            # Not every EHR marks its laboratory results as such.
            del criteria["category"]
            criteria["code"] = ",".join(f"{s}|{c}" for s, c in self._catalogue.codes)
            found = list(self._client.search("Observation", criteria))
        for observation in found:
            if self._is_of(observation, patient):
                yield observation

    def _members(self, observations: Iterable[Resource], patient: str) -> list[Resource]:
        """Members of panels that the search did not bring (Observation.hasMember)."""
        known = {f"Observation/{o.get('id')}" for o in observations}
        named = [
            str(member.get("reference", ""))
            for panel in observations
            for member in objects(panel.get("hasMember"))
        ]
        wanted = [r for r in dict.fromkeys(named) if r.startswith("Observation/")]
        missing = [r for r in wanted if r not in known][:_MEMBERS]
        return [m for m in self._by_ids("Observation", missing) if self._is_of(m, patient)]

    def _specimens(self, observations: Iterable[Resource]) -> dict[str, Resource]:
        """The Specimens behind results of ours: a haemolysed one invalidates some of them."""
        wanted = {
            reference
            for observation in observations
            if (reference := self._specimen_of_ours(observation))
        }
        return {f"Specimen/{s['id']}": s for s in self._by_ids("Specimen", sorted(wanted))}

    def _specimen_of_ours(self, observation: Resource) -> str | None:
        try:
            ours = any(True for _ in analytes_in(observation, self._catalogue))
            return specimen_of(observation) if ours else None
        except (AttributeError, TypeError):
            return None  # a broken one: the panel names it

    def _by_ids(self, kind: str, references: Sequence[str]) -> Iterator[Resource]:
        """Resources of a kind, many at a time; a server that refuses the question gives none."""
        ids = [reference.partition("/")[2] for reference in references]
        for start in range(0, len(ids), _AT_ONCE):
            try:
                yield from self._client.search(
                    kind, {"_id": ",".join(ids[start : start + _AT_ONCE])}
                )
            except Rejected as error:
                _log.warning("not to be had", kind=kind, reason=str(error))
                return

    def _is_of(self, observation: Resource, patient: str) -> bool:
        """Whether the Observation is about the patient, whatever the server thought."""
        reference = str(member(observation.get("subject")).get("reference", ""))
        return reference_id(reference, self._client.base_url) == patient
