"""What a PACS sends: instances of one study."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from bonetumor.domain.uid import UID


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceKeys:
    """What identifies one DICOM instance and where it belongs."""

    study_instance_uid: UID
    series_instance_uid: UID
    sop_instance_uid: UID
    sop_class_uid: UID


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance as it was received and stored, byte for byte."""

    keys: InstanceKeys
    transfer_syntax_uid: UID
    size: int
    sha256: str
    received_at: datetime
    calling_ae_title: str
    called_ae_title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The instances of one study that are to be assessed together."""

    study_instance_uid: UID
    instances: tuple[Instance, ...]
    completeness: str

    @property
    def digest(self) -> str:
        """SHA-256 over the study UID and the sorted instance hashes."""
        lines = [self.study_instance_uid, *sorted(i.sha256 for i in self.instances)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientIdentity:
    """Who the images say the patient is (patient module, PS3.3 C.7.1.1).

    `birth_date` is `YYYY-MM-DD`; `sex` is DICOM's M, F or O. Both may be unknown.
    """

    patient_id: str
    issuer: str | None
    birth_date: str | None
    sex: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyHeader:
    """What the images say of the study as a whole (PS3.3 C.7.2.1)."""

    study_instance_uid: UID
    patient: PatientIdentity
    accession_number: str | None
    acquired_at: datetime | None
    modality: str
    body_part: str | None
    laterality: str | None
