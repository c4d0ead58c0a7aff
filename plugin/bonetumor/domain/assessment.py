"""What the plugin says of a study."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from bonetumor.domain.errors import NonFiniteOutput
from bonetumor.domain.image import BoundingBox
from bonetumor.domain.labs import BloodText
from bonetumor.domain.lesion import Lesion
from bonetumor.domain.uid import UID, derived_uid


class TumourClass(StrEnum):
    """The three classes of the WHO classification that the network tells apart."""

    BENIGN = "benign"
    INTERMEDIATE = "intermediate"
    MALIGNANT = "malignant"


class Modality(StrEnum):
    """The three kinds of evidence that the fusion network weighs."""

    IMAGE = "image"
    PATHOLOGY = "pathology"
    LABS = "labs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """Which software and which weights spoke (TID 4019, FHIR Device)."""

    name: str
    version: str
    bundle_version: str
    bundle_sha256: str
    training_data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Where on the image the class was read from: values 0..1, row by row, over `region`."""

    region: BoundingBox
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Class probabilities, the conformal prediction set, and whether the model abstains.

    `probabilities` is None where there was nothing to classify. `contributions` says how much
    each modality used moved the probability of the most likely class up or down from one third,
    which stands for no evidence: the Shapley values, whose sum is the whole way. `blood_text` is
    what was read of the blood, None where no blood was used.
    """

    probabilities: dict[TumourClass, float] | None
    prediction_set: tuple[TumourClass, ...]
    abstained: bool
    out_of_distribution: bool
    used: tuple[Modality, ...]
    reason: str | None = None
    contributions: dict[Modality, float] = field(default_factory=dict)
    heat_map: HeatMap | None = None
    blood_text: BloodText | None = None

    def __post_init__(self) -> None:
        if self.probabilities is None:
            return
        total = sum(self.probabilities.values())
        if set(self.probabilities) != set(TumourClass) or not abs(total - 1.0) < 1e-3:
            raise NonFiniteOutput(
                f"diagnosis: expected three probabilities that sum to 1, got a sum of {total}"
            )

    @property
    def most_likely(self) -> TumourClass | None:
        """The class of the greatest probability, or None where there is none."""
        if self.probabilities is None:
            return None
        return max(self.probabilities, key=lambda c: self.probabilities[c])  # type: ignore[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """One run over one study: the lesions, the diagnosis, what was used and what was missing.

    `run_key` is a SHA-256 over the study's instances, the evidence, the text of the blood markers
    and the model: the same input gives the same key and so the same result UIDs.
    """

    run_key: str
    lesions: tuple[Lesion, ...]
    diagnosis: Diagnosis
    algorithm: Algorithm
    completeness: str
    missing: tuple[Modality, ...]
    images_assessed: int
    assessed_at: datetime
    notes: tuple[str, ...] = field(default=())

    @property
    def sr_sop_instance_uid(self) -> UID:
        """The SOP Instance UID of the structured report of this run."""
        return derived_uid(self.run_key, "sr", "instance")

    @property
    def sr_series_instance_uid(self) -> UID:
        """The Series Instance UID of the structured report of this run."""
        return derived_uid(self.run_key, "sr", "series")
