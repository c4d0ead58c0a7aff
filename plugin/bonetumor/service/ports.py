"""What the story needs of the world, as Protocols. `worker/wiring.py` chooses who answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from bonetumor.domain.assessment import Algorithm, Assessment, Diagnosis
from bonetumor.domain.case import Evidence
from bonetumor.domain.image import BoundingBox, ClinicalImage
from bonetumor.domain.labs import LabPanel
from bonetumor.domain.lesion import Detection
from bonetumor.domain.pathology import Pathology, PathologySlide, SlideTiles
from bonetumor.domain.progress import Claim, Refusal, Step, StudyEvent, StudyProgress, StudyState
from bonetumor.domain.study import Instance, InstanceKeys, PatientIdentity, Study, StudyHeader
from bonetumor.domain.uid import UID


class Clock(Protocol):
    """Tells the time."""

    def __call__(self) -> datetime:
        """Now, in UTC."""
        ...


# -- receiving ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What a sender says of an object before it sends it (PS3.7 9.3.1.1)."""

    sop_class_uid: UID
    sop_instance_uid: UID
    transfer_syntax_uid: UID
    calling_ae_title: str


class Incoming(Protocol):
    """An object on its way in, in a temporary file."""

    announced: Announced

    def write(self, fragment: memoryview) -> None:
        """Adds a fragment of the data set, as it was sent."""
        ...

    def seal(self) -> tuple[InstanceKeys, int, str]:
        """The keys found in the data set, its size in bytes and its SHA-256."""
        ...

    def publish(self, keys: InstanceKeys) -> None:
        """Makes the object durable under its final name."""
        ...

    def discard(self) -> None:
        """Removes the temporary file, if it is still there."""
        ...


class Inbox(Protocol):
    """Takes objects in, byte for byte."""

    def open(self, announced: Announced) -> Incoming:
        """A new object; raises StorageUnavailable where there is no room."""
        ...


class Arrival(StrEnum):
    """What the ledger says of an instance that arrived."""

    NEW = "new"
    REPEATED = "repeated"
    CONFLICTING = "conflicting"


# -- the ledger --------------------------------------------------------------------------------


class InstanceLedger(Protocol):
    """The part of the ledger that receiving needs."""

    def known(self, keys: InstanceKeys, sha256: str) -> Arrival:
        """Whether the instance is new, a repetition, or another object under a known UID."""
        ...

    def record_instance(self, instance: Instance) -> Arrival:
        """Adds the instance and (re)opens its study, or notes a conflict, durably."""
        ...

    def note_refusal(self, refusal: Refusal) -> None:
        """Remembers an object that was not taken, so that people can see it."""
        ...

    def quiet_since(self, moment: datetime) -> Sequence[tuple[UID, int]]:
        """Studies still receiving whose last instance came before `moment`, with revision."""
        ...

    def close_study(self, study_instance_uid: UID, revision: int, completeness: str) -> bool:
        """Marks the study complete; False if another instance came meanwhile."""
        ...


class StepLedger(Protocol):
    """The part of the ledger that the workers need."""

    def claim(self, study_instance_uid: UID, step: Step, owner: str) -> Claim | None:
        """The right to do the step, or None if it is not due or someone else has it."""
        ...

    def study(self, study_instance_uid: UID) -> Study:
        """The study with all its instances."""
        ...

    def evidence(self, claim: Claim) -> Evidence:
        """What gathering saved for this revision."""
        ...

    def assessment(self, claim: Claim) -> Assessment:
        """What assessing saved for this revision."""
        ...

    def predecessor(self, claim: Claim) -> "Predecessor | None":
        """The last SR sent for an earlier revision."""
        ...

    def finish(
        self, claim: Claim, state: StudyState, saved: Evidence | Assessment | None, detail: str
    ) -> None:
        """Records the step as done, with what it made, in one transaction."""
        ...

    def put_off(self, claim: Claim, problem: str, until: datetime) -> None:
        """Gives the claim back; the step is due again at `until`."""
        ...

    def drop(self, claim: Claim, problem: str, until: datetime) -> None:
        """Gives the claim back after a crash: due again at `until`, and the attempt counts."""
        ...

    def stop(self, claim: Claim, state: StudyState, problem: str) -> None:
        """Leaves the study held or failed, visibly."""
        ...


class Overview(Protocol):
    """The part of the ledger that people and the dispatcher look at."""

    def due(self) -> Sequence[tuple[UID, Step]]:
        """Every step that waits to be done and that nobody holds."""
        ...

    def progress(self) -> Sequence[StudyProgress]:
        """All studies, the newest first."""
        ...

    def refusals(self) -> Sequence[Refusal]:
        """The newest objects that were not taken, the newest first."""
        ...

    def story(self, study_instance_uid: UID) -> Sequence[StudyEvent]:
        """Everything that happened to a study, the oldest first."""
        ...

    def retry(self, study_instance_uid: UID) -> bool:
        """Lets a held or failed study run again from where it stopped."""
        ...


class Leases(Protocol):
    """The part of the ledger that whoever supervises workers needs."""

    def free(self, owner_prefix: str) -> int:
        """Takes back every lease of owners that are known to be dead; answers how many."""
        ...


class Ledger(InstanceLedger, StepLedger, Overview, Leases, Protocol):
    """The truth about every study."""


class CompletenessProof(Protocol):
    """Says whether all of a study has arrived."""

    def studies_complete(self) -> Sequence[tuple[UID, int, str]]:
        """Studies that can be closed: study UID, revision, and how that is known."""
        ...


# -- the case ----------------------------------------------------------------------------------


class StudyReader(Protocol):
    """Reads stored studies."""

    def header(self, study: Study) -> StudyHeader:
        """Patient, accession and acquisition as the images state them."""
        ...

    def images(self, study: Study) -> Iterator[ClinicalImage]:
        """Every clinical image of the study, one at a time, in a stable order."""
        ...


class HealthRecord(Protocol):
    """The EHR as a source of evidence."""

    def find_patient(self, identity: PatientIdentity) -> str:
        """The one FHIR Patient; raises PatientNotMatched otherwise."""
        ...

    def check_patient(self, patient: str) -> str:
        """The Patient that a person chose; raises PatientNotMatched if there is none such."""
        ...

    def labs(self, patient: str, header: StudyHeader) -> LabPanel | None:
        """Blood markers near the images, or None if the EHR holds none."""
        ...

    def pathology(self, patient: str) -> Pathology | None:
        """Pathology reports and slides, or None if the EHR holds none."""
        ...

    def order(self, patient: str, accession_number: str | None) -> str | None:
        """The ServiceRequest behind the accession number, if there is one."""
        ...


@dataclass(frozen=True, slots=True)
class SlideAddress:
    """A whole slide behind DICOMweb. `series_instance_uid` may be empty: then any of the study."""

    base_url: str
    study_instance_uid: str
    series_instance_uid: str


class WholeSlides(Protocol):
    """Reads whole slides: finds tissue, and samples tiles of it within a budget."""

    def sample_file(self, file: Path) -> bytes:
        """Tiles side by side as PNG; raises UnsupportedImage or CorruptPixelData."""
        ...

    def sample_dicomweb(self, address: SlideAddress) -> bytes:
        """The same from DICOMweb; raises FhirUnavailable while it does not answer."""
        ...


# -- thinking ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the detector says of one image."""

    detections: tuple[Detection, ...]
    out_of_distribution: bool


class Detector(Protocol):
    """Finds tumours on an image."""

    def detect(self, image: ClinicalImage) -> Findings:
        """Boxes in stored pixels, and whether the image is unlike all that was trained on."""
        ...


class SlideReader(Protocol):
    """Reads slide pictures."""

    def tiles(self, slide: PathologySlide) -> SlideTiles:
        """Tissue tiles of the slide; raises UnsupportedImage or CorruptPixelData."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FusionInput:
    """All that is to be weighed. None means missing."""

    image: ClinicalImage | None
    box: BoundingBox | None
    slides: tuple[SlideTiles, ...] | None
    labs: LabPanel | None
    out_of_distribution: bool


class Fusion(Protocol):
    """Weighs image, pathology and blood."""

    def diagnose(self, evidence: FusionInput) -> Diagnosis:
        """Benign, intermediate or malignant, with a prediction set."""
        ...


class Model(Protocol):
    """Detector and fusion under one name and version."""

    @property
    def algorithm(self) -> Algorithm:
        """Which software and which weights speak."""
        ...

    @property
    def detector(self) -> Detector:
        """What finds tumours."""
        ...

    @property
    def fusion(self) -> Fusion:
        """What weighs the evidence."""
        ...


# -- delivering --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """The SR of an earlier revision that a result supersedes."""

    sop_instance_uid: UID
    series_instance_uid: UID


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything that a result is written from."""

    study: Study
    header: StudyHeader
    evidence: Evidence
    assessment: Assessment
    predecessor: Predecessor | None


class Archive(Protocol):
    """The PACS as the place where results go."""

    def send(self, result: Result) -> None:
        """Stores the result's objects; a repetition changes nothing."""
        ...

    def holds(self, result: Result) -> bool:
        """Whether the archive answers that it has the result's objects."""
        ...


class ReportServer(Protocol):
    """The EHR as the place where reports go."""

    def send(self, result: Result) -> None:
        """Posts the report; a repetition makes nothing twice."""
        ...

    def holds(self, result: Result) -> bool:
        """Whether the server answers that it has the report."""
        ...
