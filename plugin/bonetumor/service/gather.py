"""Gathering: who the patient is in the EHR, and what the EHR knows."""

from datetime import timedelta

from bonetumor.domain.case import Evidence
from bonetumor.domain.errors import EvidencePending
from bonetumor.domain.study import StudyHeader
from bonetumor.service.ports import HealthRecord

NO_RECORD = Evidence(patient=None, labs=None, pathology=None)


def gather(
    header: StudyHeader, record: HealthRecord | None, chosen_patient: str | None = None
) -> Evidence:
    """The evidence for a study; `record` is None where no EHR is configured.

    `chosen_patient` is the Patient that a person named for a case that had been held.

    Raises:
        PatientNotMatched: not exactly one Patient agrees with the images; a person must decide.
        FhirUnavailable: the EHR cannot be asked now.
    """
    if record is None:
        return NO_RECORD
    if chosen_patient is None:
        patient = record.find_patient(header.patient)
    else:
        patient = record.check_patient(chosen_patient)
    return Evidence(
        patient=patient,
        labs=record.labs(patient, header),
        pathology=record.pathology(patient),
        order=record.order(patient, header.accession_number),
        chosen_by_a_person=chosen_patient is not None,
    )


def await_evidence(evidence: Evidence, left: timedelta, poll: timedelta) -> None:
    """Lets the first result wait for what is missing, as long as the site wants.

    Raises:
        EvidencePending: blood or pathology is missing, and `left` of the wait is not over.
    """
    if evidence.patient is None or left <= timedelta(0):
        return
    missing = [
        name
        for name, there in (("blood", evidence.has_labs), ("pathology", evidence.has_slides))
        if not there
    ]
    if missing:
        raise EvidencePending(
            f"evidence: expected {' and '.join(missing)}, got none yet; waits at most "
            f"{left.total_seconds():.0f} s more",
            retry_after_s=min(left, poll).total_seconds(),
        )
