"""The right patient or nothing: identifier, birth date and sex must agree. Never by name."""

from collections.abc import Mapping

from bonetumor.domain.errors import PatientNotMatched, Rejected
from bonetumor.domain.study import PatientIdentity
from bonetumor.fhir.client import FhirClient, reference_id, token
from bonetumor.fhir.shapes import Resource, member, objects

_SEX = {"male": "M", "female": "F"}
_MERGES = 5
_WHOLE_DATE = len("2000-02-03")


class PatientMatcher:
    """Finds the FHIR Patient behind a PatientID.

    `systems` maps an Issuer of Patient ID to the identifier system of the EHR; the key "" is for
    images without issuer. `birth_date_required` holds a case whose birth date is not known to the
    day on both sides: an identifier alone may be mistyped, and a year agrees with too many.
    """

    def __init__(
        self, client: FhirClient, systems: Mapping[str, str], *, birth_date_required: bool = True
    ) -> None:
        self._client = client
        self._systems = systems
        self._birth_date_required = birth_date_required

    def find(self, identity: PatientIdentity) -> str:
        """The relative reference of the one Patient who agrees with the images.

        Raises:
            PatientNotMatched: with the reason, and without any patient data.
        """
        system = self._systems.get(identity.issuer or "")
        if not identity.patient_id:
            raise PatientNotMatched("patient: expected a PatientID in the images, got none")
        if system is None:
            raise PatientNotMatched(
                "patient: expected an issuer of the PatientID that is configured, got another"
            )
        found = self._client.search("Patient", {"identifier": token(system, identity.patient_id)})
        holders = [p for p in found if _has_identifier(p, system, identity.patient_id)]
        living = {str(p["id"]): p for p in map(self._survivor, holders) if p.get("active", True)}
        if len(living) != 1:
            inactive = " active" if holders and not living else ""
            raise PatientNotMatched(
                f"patient: expected exactly one{inactive} in the EHR, got {len(living)}"
            )
        [(key, patient)] = living.items()
        self._compare(patient, identity)
        return f"Patient/{key}"

    def check(self, reference: str) -> str:
        """A Patient that a person chose; raises PatientNotMatched if there is none such."""
        try:
            patient = self._client.read(reference)
        except Rejected as error:
            raise PatientNotMatched(
                "patient: expected the one that a person chose in the EHR, got none"
            ) from error
        return f"Patient/{self._survivor(patient)['id']}"

    def _survivor(self, patient: Resource) -> Resource:
        """The record that replaced a merged one, however often (R4 Patient.link replaced-by)."""
        for _ in range(_MERGES):
            targets = [
                str(member(link.get("other")).get("reference", ""))
                for link in objects(patient.get("link"))
                if link.get("type") == "replaced-by"
            ]
            if not targets:
                return patient
            if len(targets) > 1:
                raise PatientNotMatched("patient: expected one successor of a merge, got several")
            target = reference_id(targets[0], self._client.base_url)
            if target is None or not target.startswith("Patient/"):
                raise PatientNotMatched("patient: expected a successor in this EHR, got another")
            try:
                patient = self._client.read(target)
            except Rejected as error:
                raise PatientNotMatched(
                    "patient: expected to read the successor of a merge, got a refusal"
                ) from error
        raise PatientNotMatched(f"patient: expected at most {_MERGES} merges in a row, got more")

    def _compare(self, patient: Resource, identity: PatientIdentity) -> None:
        """Refuses a Patient whose birth date or sex contradicts the images."""
        born = str(patient.get("birthDate") or "")
        if self._birth_date_required and not (identity.birth_date and len(born) == _WHOLE_DATE):
            where = "the images" if not identity.birth_date else "the EHR"
            raise PatientNotMatched(
                f"patient: expected a whole birth date to compare, got none in {where}"
            )
        # FHIR may know the year or the month only.
        if identity.birth_date and born and not identity.birth_date.startswith(born):
            raise PatientNotMatched(
                "patient: expected the birth date of the images, got another in the EHR"
            )
        sex = _SEX.get(str(patient.get("gender")))
        if identity.sex in {"M", "F"} and sex is not None and identity.sex != sex:
            raise PatientNotMatched(
                "patient: expected the sex of the images, got another in the EHR"
            )


def _has_identifier(patient: Resource, system: str, value: str) -> bool:
    return any(
        i.get("system") == system and i.get("value") == value and i.get("use") != "old"
        for i in objects(patient.get("identifier"))
    )
