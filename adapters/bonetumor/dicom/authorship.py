"""What every object of ours says of who made it, when, and for whom."""

from datetime import UTC, datetime

from highdicom import ContributingEquipment
from highdicom.sr.coding import CodedConcept as Concept
from pydicom import Dataset

from bonetumor.domain.assessment import Assessment
from bonetumor.domain.uid import UID, derived_uid

MANUFACTURER = "bonetumor project"
SERIES_DESCRIPTION = "AI bone tumour"

_SEXES = ("M", "F", "O")  # PS3.3 C.7.1.1
_PROCESSING = Concept("109102", "DCM", "Processing Equipment")


def device_uid(assessment: Assessment) -> UID:
    """The Device UID of this version of software and weights."""
    algorithm = assessment.algorithm
    return derived_uid("device", algorithm.name, algorithm.version, algorithm.bundle_sha256)


def with_type_2(image: Dataset) -> Dataset:
    """The image with every type 2 attribute that our objects inherit; real images lack some.

    Values that these attributes cannot have are as if they were lacking.
    """
    complete = Dataset()
    complete.update(image)
    complete.file_meta = image.file_meta
    for keyword in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ReferringPhysicianName",
    ):
        if keyword not in complete:
            setattr(complete, keyword, "")
    if complete.PatientSex not in _SEXES:
        complete.PatientSex = ""
    if complete["PatientName"].VM > 1:
        complete.PatientName = ""
    return complete


def equipment(assessment: Assessment) -> ContributingEquipment:
    """Software and weights as Contributing Equipment (PS3.3 C.12.1)."""
    algorithm = assessment.algorithm
    return ContributingEquipment(
        MANUFACTURER,
        _PROCESSING,
        manufacturer_model_name=algorithm.name,
        software_versions=[algorithm.version, algorithm.bundle_version],
        device_serial_number=algorithm.bundle_sha256[:16],
        contribution_datetime=assessment.assessed_at,
        contribution_description=f"Artificial intelligence, trained on {algorithm.training_data}"[
            :1024
        ],
    )


def fix_moment(report: Dataset, moment: datetime) -> None:
    """Every date of ours is the moment of the assessment, so that the bytes are stable."""
    utc = moment.astimezone(UTC)
    for what in (
        "Content{}",
        "InstanceCreation{}",
        "Series{}",
        "PresentationCreation{}",
        "{}OfSecondaryCapture",
    ):
        if what.format("Date") in report or what == "InstanceCreation{}":
            setattr(report, what.format("Date"), utc.strftime("%Y%m%d"))
            setattr(report, what.format("Time"), utc.strftime("%H%M%S"))
    report.TimezoneOffsetFromUTC = "+0000"
    for item in report.get("ContributingEquipmentSequence", []):
        # Without an offset, which dcmpschk cannot read: Timezone Offset From UTC says it.
        item.ContributionDateTime = utc.strftime("%Y%m%d%H%M%S")
