"""What the story needs of the world, as Protocols. `worker/wiring.py` chooses who answers."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from bonetumor.domain.assessment import Algorithm, Assessment, Diagnosis
from bonetumor.domain.case import Evidence
from bonetumor.domain.image import BoundingBox, ClinicalImage
from bonetumor.domain.labs import BloodText, LabPanel
from bonetumor.domain.lesion import Detection
from bonetumor.domain.pathology import Pathology, PathologySlide, SlideTiles
from bonetumor.domain.study import InstanceKeys, PatientIdentity, Study, StudyHeader
from bonetumor.domain.uid import UID
from bonetumor.service.ledger import Predecessor
from bonetumor.service.texts import BloodWriter


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
    called_ae_title: str = ""


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

    def withdraw(self) -> None:
        """Removes what was published: the ledger does not want it."""
        ...

    def discard(self) -> None:
        """Removes the temporary file, if it is still there."""
        ...


class Inbox(Protocol):
    """Takes objects in, byte for byte."""

    def open(self, announced: Announced) -> Incoming:
        """A new object; raises StorageUnavailable where there is no room."""
        ...

    def has_room(self) -> bool:
        """Whether there is room for more than what is on its way in already."""
        ...


@dataclass(frozen=True, slots=True)
class Holding:
    """How many instances an archive has of a series; None where it does not say.

    `is_images` is False for series of reports, presentation states and the like.
    """

    instances: int | None
    is_images: bool = True


class StudySource(Protocol):
    """The archive that studies come from."""

    def holdings(self, study_instance_uid: UID) -> Mapping[UID, Holding]:
        """What it has of the study, by series; nothing where it does not know the study.

        Raises:
            Unavailable, Rejected: it does not answer.
        """
        ...

    def instances(self, study_instance_uid: UID, series_instance_uid: UID) -> frozenset[UID]:
        """The instances that it has of a series."""
        ...

    def fetch(self, study_instance_uid: UID, missing: Mapping[UID, frozenset[UID]]) -> None:
        """Asks for instances, by series; they arrive as any others do."""
        ...


# -- the case ----------------------------------------------------------------------------------


class StudyReader(Protocol):
    """Reads stored studies."""

    def header(self, study: Study) -> StudyHeader:
        """Patient, accession and acquisition as the images state them."""
        ...

    def facts(self, study: Study) -> Mapping[str, frozenset[str]]:
        """What rules may ask of the study, by name, in capitals."""
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

    def changed_since(self, patient: str, moment: datetime) -> bool:
        """Whether anything about the patient may have changed; True where that is not known."""
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
    """What the detector says of one image. `note`: what a reader must know of it, or nothing."""

    detections: tuple[Detection, ...]
    out_of_distribution: bool
    note: str = ""


class Detector(Protocol):
    """Finds tumours on an image."""

    def detect(self, image: ClinicalImage) -> Findings:
        """Boxes in stored pixels, and whether the image is unlike all that was trained on."""
        ...

    def detect_all(
        self, images: Iterable[ClinicalImage]
    ) -> Iterator[tuple[ClinicalImage, Findings]]:
        """Each image with what `detect` says of it. The images may be many: few are held."""
        ...


class SlideReader(Protocol):
    """Reads slide pictures."""

    def tiles(self, slide: PathologySlide) -> SlideTiles:
        """Tissue tiles of the slide; raises UnsupportedImage or CorruptPixelData."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FusionInput:
    """All that is to be weighed. None means missing.

    `text` is what a writer made of the blood markers; without it the template's words are read.
    """

    image: ClinicalImage | None
    box: BoundingBox | None
    slides: tuple[SlideTiles, ...] | None
    labs: LabPanel | None
    out_of_distribution: bool
    text: BloodText | None = None


class Fusion(Protocol):
    """Weighs image, pathology and blood."""

    def diagnose(self, evidence: FusionInput) -> Diagnosis:
        """Benign, intermediate or malignant, with a prediction set, and the text that was read."""
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

    @property
    def writer(self) -> BloodWriter:
        """What words the blood markers."""
        ...


# -- delivering --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything that a result is written from."""

    study: Study
    header: StudyHeader
    evidence: Evidence
    assessment: Assessment
    predecessor: Predecessor | None

    @property
    def key(self) -> str:
        """The run key: the same result, the same objects."""
        return self.assessment.run_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """That a study has no result, and why: "AI not performed"."""

    study: Study
    reason: str
    at: datetime

    @property
    def key(self) -> str:
        """SHA-256 over study and reason: the same notice, the same object."""
        parts = [self.study.digest, self.reason]
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


Parcel = Result | Notice


class Destination(Protocol):
    """A place where results go. Sending twice changes nothing."""

    def send(self, parcel: Parcel) -> str:
        """Sends; answers in words what was sent.

        Raises:
            Unavailable: it cannot be reached now.
            Rejected: it understood and refused.
        """
        ...

    def confirm(self, parcel: Parcel) -> str:
        """Asks whether it holds what was sent; answers in words how that is known.

        Raises:
            Unavailable: it does not say so yet.
            Rejected: it says that it will not.
        """
        ...


class ReportServer(Protocol):
    """The EHR as the place where reports go."""

    def send(self, result: Result) -> None:
        """Posts the report; a repetition makes nothing twice."""
        ...

    def holds(self, result: Result) -> bool:
        """Whether the server answers that it has the report."""
        ...

    def withdraw(self, runs: Sequence[str]) -> int:
        """Marks the report of the first run that has one as entered in error; answers how many
        resources changed."""
        ...
