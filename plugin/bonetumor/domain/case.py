"""Everything known of a patient's study when it is assessed."""

from dataclasses import dataclass

from bonetumor.domain.labs import LabPanel
from bonetumor.domain.pathology import Pathology


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the EHR gave. None means that it holds nothing: a clinical fact, not a failure.

    `patient` is the FHIR reference of the matched Patient; None where no EHR is configured.
    """

    patient: str | None
    labs: LabPanel | None
    pathology: Pathology | None
    order: str | None = None
