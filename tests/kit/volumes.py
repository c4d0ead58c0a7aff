"""Volumes and multi-frame objects whose slices a detector trained on radiographs finds boxes on.

The slices are one phantom radiograph over and over: geometry and identities, not anatomy.
"""

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
)

from bonetumor.domain.uid import derived_uid
from kit import studies

SPACING_MM = 3.0


def pixels(number: int) -> np.ndarray:
    """The phantom's radiograph as serving shows it: uint8."""
    return studies.render(studies.patient(number).radiograph).pixels


def ct_series(folder: Path, number: int, slices: int = 5) -> list[Path]:
    """A CT series; the first and the last slice are empty."""
    shown = pixels(number)
    paths = []
    for index in range(slices):
        one = _object(number, "ct", shown.shape, index)
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.Modality, one.BodyPartExamined = "CT", "FEMUR"
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.FrameOfReferenceUID = derived_uid("test", str(number), "frame of reference")
        one.PositionReferenceIndicator = ""
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [0, 0, SPACING_MM * index]
        one.PixelSpacing, one.SliceThickness, one.KVP = [0.5, 0.5], SPACING_MM, "120"
        one.AcquisitionNumber = 1
        one.RescaleIntercept, one.RescaleSlope, one.RescaleType = 0, 1, "HU"
        one.WindowCenter, one.WindowWidth = 128, 256
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit = 15
        is_empty = index in (0, slices - 1)
        stored = np.zeros_like(shown) if is_empty else shown
        one.PixelData = stored.astype("<u2").tobytes()
        paths.append(_write(folder, one, index))
    return paths


def multi_frame(folder: Path, number: int) -> list[Path]:
    """A secondary capture of three frames; the tumour is on the second."""
    shown = pixels(number)
    one = _object(number, "multi", shown.shape, 0)
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = (
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage
    )
    one.Modality, one.ConversionType, one.BurnedInAnnotation = "OT", "WSD", "NO"
    one.NumberOfFrames = 3
    one.PageNumberVector = [1, 2, 3]
    one.FrameIncrementPointer = 0x00182001
    one.PixelData = np.stack([np.zeros_like(shown), shown, np.zeros_like(shown)]).tobytes()
    return [_write(folder, one, 0)]


def negative(folder: Path, number: int) -> list[Path]:
    """A radiograph with nothing on it."""
    one = studies.dataset(number)
    one.StudyInstanceUID = derived_uid("test", "negative", str(number))
    one.SeriesInstanceUID = derived_uid("test", "negative series", str(number))
    one.SOPInstanceUID = derived_uid("test", "negative image", str(number))
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    one.PixelData = bytes(len(one.PixelData))
    return [_write(folder, one, 0)]


def enhanced_mr(number: int, slices: int = 4) -> Dataset:
    """An enhanced MR object without pixels: geometry in functional groups."""
    one = _object(number, "emr", (64, 64), 0)
    one.SOPClassUID, one.Modality, one.NumberOfFrames = EnhancedMRImageStorage, "MR", slices
    shared, orientation = Dataset(), Dataset()
    orientation.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    shared.PlaneOrientationSequence = [orientation]
    one.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in range(slices):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [SPACING_MM * index, 0, 0]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    one.PerFrameFunctionalGroupsSequence = frames
    return one


def _object(number: int, kind: str, shape: tuple[int, int], index: int) -> Dataset:
    drawn = studies.dataset(number)
    one = Dataset()
    for keyword in (
        "PatientName",
        "PatientID",
        "IssuerOfPatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "StudyID",
        "ReferringPhysicianName",
        "Manufacturer",
    ):
        if keyword in drawn:
            one[keyword] = drawn[keyword]
    one.file_meta = drawn.file_meta
    one.StudyInstanceUID = derived_uid("test", kind, str(number))
    one.SeriesInstanceUID = derived_uid("test", kind, str(number), "series")
    one.SOPInstanceUID = derived_uid("test", kind, str(number), str(index))
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    one.SeriesNumber, one.InstanceNumber, one.Laterality = 1, index + 1, "L"
    one.PatientOrientation = ""
    one.Rows, one.Columns = shape
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = 8
    one.HighBit, one.PixelRepresentation = 7, 0
    return one


def _write(folder: Path, one: Dataset, index: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{one.StudyInstanceUID[-12:]}-{index}.dcm"
    one.save_as(path, enforce_file_format=True)
    return path
