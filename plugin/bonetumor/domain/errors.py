"""The error tree. The class says what to do.

    BoneTumorError
    ├── InvalidInput       never retry: the input itself is wrong
    │   ├── NotDicom
    │   ├── ObjectMismatch
    │   ├── ObjectTooLarge
    │   ├── UnsupportedImage
    │   ├── CorruptPixelData
    │   ├── PatientNotMatched    a person must decide; the study is held
    │   └── MalformedResource
    ├── Unavailable        retry: the other side may come back
    │   ├── EvidencePending
    │   ├── ArchiveUnavailable
    │   │   └── CommitmentPending
    │   ├── FhirUnavailable
    │   ├── Hl7Unavailable
    │   └── StorageUnavailable
    ├── Rejected           never retry: the other side understood and said no
    ├── ModelFault         stop and alert: a result would not be trustworthy
    │   ├── WeightsMismatch
    │   └── NonFiniteOutput
    └── Misconfigured      fail at start

Messages state what was expected and what came, and never hold patient data.
"""


class BoneTumorError(Exception):
    """Anything that bonetumor itself raises."""

    @property
    def code(self) -> str:
        """The stable name that ledger, logs and status show."""
        return type(self).__name__


class InvalidInput(BoneTumorError):
    """The input is wrong and stays wrong: never retry."""


class NotDicom(InvalidInput):
    """The bytes are not a DICOM object that can be parsed."""


class ObjectMismatch(InvalidInput):
    """The data set is not the object that was announced."""


class ObjectTooLarge(InvalidInput):
    """An object above the configured size."""


class UnsupportedImage(InvalidInput):
    """A sound object that this product does not assess."""


class CorruptPixelData(InvalidInput):
    """Pixel data that is missing, truncated or cannot be decoded."""


class PatientNotMatched(InvalidInput):
    """No FHIR Patient, or not exactly one, or one that disagrees: a person must decide."""


class MalformedResource(InvalidInput):
    """A FHIR resource or bundle that cannot be read."""


class Unavailable(BoneTumorError):
    """The other side cannot be reached now: retry, and not before `retry_after_s` if it said so."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EvidencePending(Unavailable):
    """Blood or pathology is not there yet, and the site lets the result wait for it."""


class ArchiveUnavailable(Unavailable):
    """The DICOM archive does not answer, or answers that it cannot now."""


class CommitmentPending(ArchiveUnavailable):
    """Storage commitment was asked for, and its answer has not come yet."""


class FhirUnavailable(Unavailable):
    """The FHIR server does not answer, or answers that it cannot now.

    `at_once` says that an idempotent call may be tried again before the study is put off.
    """

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, at_once: bool = False
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.at_once = at_once


class Hl7Unavailable(Unavailable):
    """The HL7 v2 interface engine does not acknowledge now."""


class StorageUnavailable(Unavailable):
    """The spool or the ledger cannot be written now."""


class Rejected(BoneTumorError):
    """The other side understood what was sent and refused it: never retry unchanged."""


class ModelFault(BoneTumorError):
    """The model cannot be trusted: stop and alert."""


class WeightsMismatch(ModelFault):
    """A weights file is absent or is not the one that the manifest names."""


class NonFiniteOutput(ModelFault):
    """A network answered NaN or infinity."""


class Misconfigured(BoneTumorError):
    """The settings cannot work: fail at start."""
