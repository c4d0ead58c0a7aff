"""Whole slides as DICOM, of any size: the same few tiles over and over, some of them tissue."""

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    VLWholeSlideMicroscopyImageStorage,
    generate_uid,
)

TILE = 256


def tissue(seed: int) -> np.ndarray:
    """A tile of pink with dark nuclei: uint8 (256, 256, 3)."""
    rng = np.random.default_rng(seed)
    tile = np.full((TILE, TILE, 3), (225, 150, 190), np.uint8)
    y, x = np.mgrid[:TILE, :TILE]
    for cx, cy, r in zip(*rng.integers(10, 246, (2, 30)), rng.integers(4, 9, 30), strict=True):
        tile[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = (95, 60, 140)
    return tile


GLASS = np.full((TILE, TILE, 3), 244, np.uint8)


def is_tissue(column: int, row: int, columns: int, rows: int) -> bool:
    """An ellipse of tissue in the middle of the glass."""
    dx, dy = (column + 0.5) / columns - 0.5, (row + 0.5) / rows - 0.5
    return dx * dx / 0.09 + dy * dy / 0.04 < 1.0


def encode(tile: np.ndarray, syntax: UID) -> bytes:
    """One frame in the transfer syntax."""
    if syntax == JPEGLSLossless:
        import jpeg_ls

        return bytes(jpeg_ls.encode_pixel_data(tile.tobytes(), **_jpeg_ls_description()))
    buffer = BytesIO()
    if syntax == JPEG2000Lossless:
        Image.fromarray(tile).save(buffer, "JPEG2000", irreversible=False, no_jp2=True)
    else:
        Image.fromarray(tile).save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def _jpeg_ls_description() -> dict:
    return {
        "src_type": "array",
        "rows": TILE,
        "columns": TILE,
        "samples_per_pixel": 3,
        "bits_stored": 8,
        "lossy_error": 0,
        "interleave_mode": 2,
    }


def write_slide(
    file: Path,
    side_px: int,
    *,
    syntax: UID = JPEGBaseline8Bit,
    mpp: float = 0.5,
    empty: bool = False,
    like: Dataset | None = None,
) -> Dataset:
    """A square slide of one level; `like` is a level of the same slide."""
    tiles = -(-side_px // TILE)
    frames = [encode(tissue(n), syntax) for n in range(3)] + [encode(GLASS, syntax)]
    order = [
        (column + row) % 3 if not empty and is_tissue(column, row, tiles, tiles) else 3
        for row in range(tiles)
        for column in range(tiles)
    ]
    dataset = _described(side_px, tiles, mpp, syntax, like)
    dataset.PixelData = encapsulate([frames[n] for n in order])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(file, enforce_file_format=True)
    return dataset


def _described(side_px: int, tiles: int, mpp: float, syntax: UID, like: Dataset | None) -> Dataset:
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = syntax
    d.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    d.SOPInstanceUID = generate_uid()
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(d, name, getattr(like, name) if like else generate_uid())
    d.Modality = "SM"
    d.PatientID, d.PatientName, d.PatientBirthDate, d.PatientSex = "P1", "Phantom", "", ""
    d.StudyDate, d.StudyTime, d.AccessionNumber, d.StudyID = "20260101", "120000", "", "1"
    d.ReferringPhysicianName, d.PositionReferenceIndicator = "", "SLIDE_CORNER"
    d.SeriesNumber, d.InstanceNumber = 1, 1
    d.Manufacturer, d.ManufacturerModelName = "bonetumor", "phantom"
    d.DeviceSerialNumber, d.SoftwareVersions = "1", "1"
    d.AcquisitionDateTime = "20260101120000"
    d.ContentDate, d.ContentTime = "20260101", "120000"
    d.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    d.Rows = d.Columns = TILE
    d.TotalPixelMatrixColumns = d.TotalPixelMatrixRows = side_px
    d.TotalPixelMatrixFocalPlanes = 1
    d.NumberOfFrames = tiles * tiles
    d.SamplesPerPixel, d.PlanarConfiguration = 3, 0
    d.PhotometricInterpretation = {
        JPEGBaseline8Bit: "YBR_FULL_422",
        JPEG2000Lossless: "YBR_RCT",
    }.get(syntax, "RGB")
    d.BitsAllocated = d.BitsStored = 8
    d.HighBit, d.PixelRepresentation = 7, 0
    d.BurnedInAnnotation, d.VolumetricProperties = "NO", "VOLUME"
    d.SpecimenLabelInImage, d.FocusMethod = "NO", "AUTO"
    d.ExtendedDepthOfField, d.LossyImageCompression = "NO", "00"
    if syntax == JPEGBaseline8Bit:
        d.LossyImageCompression = "01"
        d.LossyImageCompressionRatio, d.LossyImageCompressionMethod = 10, "ISO_10918_1"
    millimetres = side_px * mpp / 1000
    d.ImagedVolumeWidth = d.ImagedVolumeHeight = millimetres
    d.ImagedVolumeDepth = 0.001
    d.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    d.DimensionOrganizationType = "TILED_FULL"
    d.ContainerIdentifier = "SLIDE"
    d.NumberOfOpticalPaths = 1
    d.TotalPixelMatrixOriginSequence = [
        _item(XOffsetInSlideCoordinateSystem=0, YOffsetInSlideCoordinateSystem=0)
    ]
    measures = _item(
        PixelSpacing=[mpp / 1000] * 2, SliceThickness=0.001, SpacingBetweenSlices=0.001
    )
    kind = _item(FrameType=d.ImageType)
    d.SharedFunctionalGroupsSequence = [
        _item(PixelMeasuresSequence=[measures], WholeSlideMicroscopyImageFrameTypeSequence=[kind])
    ]
    organization = like.DimensionOrganizationSequence[0].DimensionOrganizationUID if like else None
    d.DimensionOrganizationSequence = [
        _item(DimensionOrganizationUID=organization or generate_uid())
    ]
    illumination = _item(
        CodeValue="111744", CodingSchemeDesignator="DCM", CodeMeaning="Brightfield illumination"
    )
    d.OpticalPathSequence = [
        _item(
            OpticalPathIdentifier="1",
            IlluminationTypeCodeSequence=[illumination],
            IlluminationColorCodeSequence=[
                _item(
                    CodeValue="414298005", CodingSchemeDesignator="SCT", CodeMeaning="Full Spectrum"
                )
            ],
        )
    ]
    d.SpecimenDescriptionSequence = [
        _item(SpecimenIdentifier="S1", SpecimenUID=generate_uid(), SpecimenPreparationSequence=[])
    ]
    d.AcquisitionContextSequence = []
    return d


def _item(**values) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def write_tiff(file: Path, side_px: int, *, mpp: float = 0.5) -> None:
    """A tiled TIFF of one level, without compression, as OpenSlide's generic format has it."""
    tiles = side_px // TILE
    data = [
        (tissue(0) if is_tissue(column, row, tiles, tiles) else GLASS).tobytes()
        for row in range(tiles)
        for column in range(tiles)
    ]
    count, size = len(data), len(data[0])
    entries = 14
    after = 8 + 2 + 12 * entries + 4
    bits, resolution, offsets = after, after + 6, after + 6 + 16
    counts = offsets + 4 * count
    first = counts + 4 * count
    tags = [
        (256, 4, 1, side_px), (257, 4, 1, side_px), (258, 3, 3, bits), (259, 3, 1, 1),
        (262, 3, 1, 2), (277, 3, 1, 3), (282, 5, 1, resolution), (283, 5, 1, resolution + 8),
        (284, 3, 1, 1), (296, 3, 1, 3), (322, 4, 1, TILE), (323, 4, 1, TILE),
        (324, 4, count, offsets), (325, 4, count, counts),
    ]  # fmt: skip
    per_centimetre = round(10_000 / mpp)
    with file.open("wb") as out:
        out.write(struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", entries))
        for tag in tags:
            out.write(struct.pack("<HHII", *tag))
        out.write(struct.pack("<I3H", 0, 8, 8, 8) + struct.pack("<4I", *(per_centimetre, 1) * 2))
        out.write(struct.pack(f"<{count}I", *(first + size * n for n in range(count))))
        out.write(struct.pack(f"<{count}I", *[size] * count))
        out.writelines(data)
