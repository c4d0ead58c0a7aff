"""The report's page as an encapsulated PDF (PS3.3 A.45.1), which highdicom does not make."""

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from bonetumor.dicom.authorship import (
    MANUFACTURER,
    SERIES_DESCRIPTION,
    device_uid,
    equipment,
    fix_moment,
    with_type_2,
)
from bonetumor.domain.uid import derived_uid
from bonetumor.service.ports import Result

_SERIES_NUMBER = 9730
_COPIED = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


def encapsulated_pdf(result: Result, reference: Dataset, pdf: bytes) -> Dataset:
    """The PDF as an object of the study."""
    assessment, image = result.assessment, with_type_2(reference)
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in _COPIED:
        if keyword in image:
            made[keyword] = image[keyword]
    made.SOPClassUID = EncapsulatedPDFStorage
    made.SOPInstanceUID = derived_uid(assessment.run_key, "pdf", "instance")
    made.SeriesInstanceUID = derived_uid(assessment.run_key, "pdf", "series")
    made.SeriesNumber, made.InstanceNumber = _SERIES_NUMBER, 1
    made.Modality, made.ConversionType = "DOC", "WSD"
    made.SeriesDescription = f"{SERIES_DESCRIPTION} (page)"
    made.Manufacturer = MANUFACTURER
    made.ManufacturerModelName = assessment.algorithm.name
    made.SoftwareVersions = assessment.algorithm.version
    made.DeviceSerialNumber = assessment.algorithm.bundle_sha256[:16]
    made.BurnedInAnnotation = "YES"
    made.DocumentTitle = "AI result, not for primary diagnosis"
    made.ConceptNameCodeSequence = []
    made.AcquisitionDateTime = ""
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    made.EncapsulatedDocumentLength = len(pdf)
    made.ContributingEquipmentSequence = [equipment(assessment)]
    made.ContributingEquipmentSequence[0].DeviceUID = device_uid(assessment)
    made.ContentDate = made.ContentTime = made.SeriesDate = made.SeriesTime = ""
    fix_moment(made, assessment.assessed_at)
    return made
