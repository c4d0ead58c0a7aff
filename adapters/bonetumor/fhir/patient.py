"""The right patient or nothing: identifier, birth date and sex must agree. Never by name."""

from collections.abc import Mapping

from bonetumor.domain.errors import PatientNotMatched
from bonetumor.domain.study import PatientIdentity
from bonetumor.fhir.client import FhirClient, Resource

_SEX = {"male": "M", "female": "F", "other": "O"}


class PatientMatcher:
    """Finds the FHIR Patient behind a PatientID.

    `systems` maps an Issuer of Patient ID to the identifier system of the EHR; the key "" is for
    images without issuer.
    """

    def __init__(self, client: FhirClient, systems: Mapping[str, str]) -> None:
        self._client = client
        self._systems = systems

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
        matches = [
            patient
            for patient in self._client.search(
                "Patient", {"identifier": f"{system}|{identity.patient_id}"}
            )
            if _has_identifier(patient, system, identity.patient_id) and patient.get("active", True)
        ]
        if len(matches) != 1:
            raise PatientNotMatched(f"patient: expected exactly one in the EHR, got {len(matches)}")
        _compare(matches[0], identity)
        return f"Patient/{matches[0]['id']}"


def _has_identifier(patient: Resource, system: str, value: str) -> bool:
    return any(
        i.get("system") == system and i.get("value") == value
        for i in patient.get("identifier") or []
    )


def _compare(patient: Resource, identity: PatientIdentity) -> None:
    """Refuses a Patient whose birth date or sex contradicts the images."""
    born = str(patient.get("birthDate") or "")
    if identity.birth_date and born and not identity.birth_date.startswith(born):
        raise PatientNotMatched(
            "patient: expected the birth date of the images, got another in the EHR"
        )
    sex = _SEX.get(str(patient.get("gender")))
    if identity.sex in {"M", "F"} and sex in {"M", "F"} and identity.sex != sex:
        raise PatientNotMatched("patient: expected the sex of the images, got another in the EHR")
