"""Phantom patients as DICOM: one digital radiograph, for presentation (PS3.3 A.26)."""

from datetime import UTC, datetime, timedelta

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from bonetumor.domain.uid import derived_uid
from bonetumor.phantom.patient import PhantomPatient
from bonetumor.phantom.radiograph import Radiograph

ISSUER = "BONETUMOR-PHANTOM"
_FIRST_DAY = datetime(2025, 1, 6, 9, 0, tzinfo=UTC)
_SITE_CODES = {
    "femur": ("71341001", "Femur"),
    "tibia": ("12611008", "Tibia"),
    "fibula": ("87342007", "Fibula"),
    "humerus": ("85050009", "Humerus"),
    "radius": ("62413002", "Radius"),
    "hand": ("85562004", "Hand"),
    "foot": ("56459004", "Foot"),
}


def patient_id(patient: PhantomPatient) -> str:
    """The PatientID of a phantom patient."""
    return f"PHANTOM-{patient.seed}-{patient.number:06d}"


def birth_date(patient: PhantomPatient) -> str:
    """The birth date, `YYYY-MM-DD`, that makes the patient as old as drawn on the study day."""
    return f"{acquired_at(patient).year - patient.age_years:04d}-01-01"


def acquired_at(patient: PhantomPatient) -> datetime:
    """When the radiograph was taken."""
    return _FIRST_DAY + timedelta(minutes=7 * patient.number)


def to_dicom(patient: PhantomPatient, view: int = 0) -> FileDataset:
    """One of the patient's radiographs as a DX object, Explicit VR Little Endian."""
    dataset = image_to_dicom(patient.radiographs[view], f"{patient.seed}-{patient.number}", view)
    moment = acquired_at(patient)
    dataset.PatientID = patient_id(patient)
    dataset.IssuerOfPatientID = ISSUER
    dataset.PatientName = f"Phantom^Number{patient.number}"
    dataset.PatientBirthDate = birth_date(patient).replace("-", "")
    dataset.PatientSex = patient.sex
    dataset.AccessionNumber = f"PH{patient.seed}-{patient.number}"[:16]
    dataset.StudyDate = dataset.ContentDate = dataset.AcquisitionDate = moment.strftime("%Y%m%d")
    dataset.StudyTime = dataset.ContentTime = dataset.AcquisitionTime = moment.strftime("%H%M%S")
    return dataset


def image_to_dicom(image: Radiograph, key: str, view: int = 0) -> FileDataset:
    """A radiograph as a DX object of nobody in particular; UIDs follow from `key` and `view`."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = derived_uid("phantom", key, "instance", str(view))
    dataset = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = derived_uid("phantom", key, "study")
    dataset.SeriesInstanceUID = derived_uid("phantom", key, "series")
    _describe(dataset, image)
    dataset.InstanceNumber = str(view + 1)
    rows, columns = image.pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", 1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    dataset.PresentationLUTShape, dataset.LossyImageCompression = "IDENTITY", "00"
    dataset.BurnedInAnnotation = "NO"
    dataset.WindowCenter, dataset.WindowWidth = "2048", "4096"
    dataset.ImagerPixelSpacing = ["0.2", "0.2"]
    dataset.PixelData = image.pixels.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _describe(dataset: FileDataset, image: Radiograph) -> None:
    code, meaning = _SITE_CODES[image.site]
    dataset.Modality, dataset.PresentationIntentType = "DX", "FOR PRESENTATION"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.Manufacturer, dataset.InstitutionName = "bonetumor phantom", ""
    dataset.PatientName = dataset.PatientID = ""
    dataset.PatientBirthDate = dataset.PatientSex = dataset.AccessionNumber = ""
    dataset.StudyDate = dataset.StudyTime = dataset.ReferringPhysicianName = ""
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", "1", "1"
    dataset.StudyDescription = "Synthetic radiograph"
    dataset.BodyPartExamined, dataset.ImageLaterality = image.site.upper(), "L"
    dataset.PatientOrientation, dataset.ViewPosition = ["L", "F"], "AP"
    dataset.DetectorType, dataset.PositionerType = "DIRECT", ""
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = code, "SCT", meaning
    dataset.AnatomicRegionSequence = Sequence([region])
    view = Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = (
        "399348003",
        "SCT",
        "Antero-posterior",
    )
    dataset.ViewCodeSequence = Sequence([view])
    dataset.AcquisitionContextSequence = Sequence([])
