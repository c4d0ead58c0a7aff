"""Gathering: who the patient is in the EHR, and what the EHR knows."""

from bonetumor.domain.case import Evidence
from bonetumor.domain.study import StudyHeader
from bonetumor.service.ports import HealthRecord

NO_RECORD = Evidence(patient=None, labs=None, pathology=None)


def gather(header: StudyHeader, record: HealthRecord | None) -> Evidence:
    """The evidence for a study; `record` is None where no EHR is configured.

    Raises:
        PatientNotMatched: not exactly one Patient agrees with the images; a person must decide.
        FhirUnavailable: the EHR cannot be asked now.
    """
    if record is None:
        return NO_RECORD
    patient = record.find_patient(header.patient)
    return Evidence(
        patient=patient,
        labs=record.labs(patient, header),
        pathology=record.pathology(patient),
        order=record.order(patient, header.accession_number),
    )
