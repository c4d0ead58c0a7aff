"""From a stored DICOM object to pictures as a radiologist would see them.

One pipeline for training and serving: transfer syntax → modality LUT → VOI LUT → photometric
interpretation → uint8, bright bone on dark ground (PS3.3 C.7.6.3, C.11.1, C.11.2). The matrix is
never cropped, turned or resampled here, so a box on the picture is a box in stored pixels.
"""

from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import iter_pixels
from pydicom.pixels.processing import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi,
    apply_windowing,
)
from pydicom.uid import (
    JPEG2000,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from bonetumor.dicom.anatomy import projected_part
from bonetumor.dicom.attributes import finite, refusing
from bonetumor.dicom.stack import place_in_stack
from bonetumor.domain.errors import CorruptPixelData, UnsupportedImage
from bonetumor.domain.image import ClinicalImage, ImageReference
from bonetumor.domain.uid import parse_uid

ASSESSED_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography Image",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray Image, for presentation",
    "1.2.840.10008.5.1.4.1.1.2": "CT Image",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image",
    "1.2.840.10008.5.1.4.1.1.4": "MR Image",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR Image",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image",
    "1.2.840.10008.5.1.4.1.1.7.2": "Multi-frame Grayscale Byte Secondary Capture Image",
    "1.2.840.10008.5.1.4.1.1.7.3": "Multi-frame Grayscale Word Secondary Capture Image",
    "1.2.840.10008.5.1.4.1.1.12.1": "X-Ray Angiographic Image",
    "1.2.840.10008.5.1.4.1.1.12.2": "X-Ray Radiofluoroscopic Image",
}

# One decoder per syntax, chosen because it was seen to be right bit for bit; others are faster
# or slower but e.g. one JPEG Lossless decoder answers wrong pixels without an error.
_DECODERS = {
    JPEGBaseline8Bit: "gdcm",
    JPEGExtended12Bit: "gdcm",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    RLELossless: "pydicom",
}
_MAX_PIXELS = 512 * 1024 * 1024
_STRETCH_PERCENTILES = (0.5, 99.5)


def is_assessed(sop_class_uid: str) -> bool:
    """Whether objects of the SOP class are looked at for tumours."""
    return sop_class_uid in ASSESSED_SOP_CLASSES


def present(dataset: Dataset) -> Iterator[ClinicalImage]:
    """Every frame of the object as a clinical image, one at a time.

    Raises:
        UnsupportedImage: an object of another kind, or larger than we take.
        CorruptPixelData: pixel data that is missing, truncated or cannot be decoded.
    """
    with refusing("pixel data: expected attributes that describe it"):
        frames = _check(dataset)
    syntax = dataset.file_meta.TransferSyntaxUID.name
    size = f"{frames} frame(s) of {dataset.Rows} x {dataset.Columns}"
    with refusing(f"pixel data: expected {size} in {syntax}"):
        for index, raw in enumerate(_frames(dataset)):
            shown = _show(raw, _frame_attributes(dataset, index))
            volume, position_mm = place_in_stack(dataset, index)
            yield ClinicalImage(
                reference=ImageReference(
                    sop_instance_uid=parse_uid(str(dataset.SOPInstanceUID)),
                    sop_class_uid=parse_uid(str(dataset.SOPClassUID)),
                    series_instance_uid=parse_uid(str(dataset.SeriesInstanceUID)),
                    frame_number=index + 1 if frames > 1 else None,
                    rows=int(dataset.Rows),
                    columns=int(dataset.Columns),
                    body_part=projected_part(dataset),
                    volume=volume,
                    position_mm=position_mm,
                ),
                pixels=shown,
                spacing_mm=_spacing(dataset),
            )


def _check(dataset: Dataset) -> int:
    sop_class = str(dataset.get("SOPClassUID", ""))
    if not is_assessed(sop_class):
        raise UnsupportedImage(
            f"SOP class: expected a radiograph, CT, MR or secondary capture, "
            f"got {sop_class or 'none'}"
        )
    if "PixelData" not in dataset:
        raise CorruptPixelData("pixel data: expected element (7FE0,0010), got none")
    for keyword in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation"):
        if not dataset.get(keyword):
            raise CorruptPixelData(f"pixel data: expected attribute {keyword}, got none")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames * int(dataset.Rows) * int(dataset.Columns) > _MAX_PIXELS:
        raise UnsupportedImage(
            f"size: expected at most {_MAX_PIXELS} pixels, "
            f"got {frames} x {dataset.Rows} x {dataset.Columns}"
        )
    return frames


def _frames(dataset: Dataset) -> Iterator[NDArray[np.generic]]:
    syntax = dataset.file_meta.TransferSyntaxUID
    below = 0 if syntax.is_encapsulated else _low_bits(dataset)
    if below:
        stored = {"bits_stored": int(dataset.HighBit) + 1}
        frames = cast(Iterator[NDArray[np.integer]], iter_pixels(dataset, **stored))
        telling = next((frame for frame in frames if frame.any()), np.zeros(1, np.int64))
        if not (telling & ((1 << below) - 1)).any():
            return (frame >> below for frame in iter_pixels(dataset, **stored))
    plugin = _DECODERS.get(syntax, "")
    return cast(Iterator[NDArray[np.generic]], iter_pixels(dataset, decoding_plugin=plugin))


def _low_bits(dataset: Dataset) -> int:
    """How many bits lie below those that are stored: none since High Bit must be Bits Stored - 1
    (PS3.5 8.1.1), which older images do not obey. pydicom takes the lowest bits in any case."""
    high, stored = dataset.get("HighBit"), dataset.get("BitsStored")
    if high is None or not stored or high >= dataset.BitsAllocated:
        return 0
    return max(0, int(high) + 1 - int(stored))


def _frame_attributes(dataset: Dataset, index: int) -> Dataset:
    """What decides how one frame looks: its own attributes, the shared ones, the object's."""
    attributes = Dataset()
    attributes.file_meta = dataset.file_meta  # says in which byte order lookup tables are
    for keyword in (
        "PhotometricInterpretation",
        "BitsStored",
        "BitsAllocated",
        "PixelRepresentation",
        "SamplesPerPixel",
        "RescaleSlope",
        "RescaleIntercept",
        "RescaleType",
        "ModalityLUTSequence",
        "VOILUTSequence",
        "WindowCenter",
        "WindowWidth",
        "VOILUTFunction",
        "PixelPaddingValue",
        "RedPaletteColorLookupTableDescriptor",
        "GreenPaletteColorLookupTableDescriptor",
        "BluePaletteColorLookupTableDescriptor",
        "RedPaletteColorLookupTableData",
        "GreenPaletteColorLookupTableData",
        "BluePaletteColorLookupTableData",
    ):
        if keyword in dataset and not dataset[keyword].is_empty:
            attributes[keyword] = dataset[keyword]
    groups = list(dataset.get("SharedFunctionalGroupsSequence", []))
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence", [])
    groups += [per_frame[index]] if index < len(per_frame) else []
    for group in groups:
        for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(macro, []):
                attributes.update(item)
    return attributes


def spread(
    values: NDArray[np.float32], shown: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """Values that come without a window, over 0 to 255; `shown` are those that count for it."""
    low, high = np.percentile(values if shown is None else shown, _STRETCH_PERCENTILES)
    return _stretch(values, float(low), float(high))


def _show(raw: NDArray[np.generic], attributes: Dataset) -> NDArray[np.uint8]:
    photometric = str(attributes.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        coloured = apply_color_lut(raw, attributes)
        return _stretch(
            _luminance(coloured), float(coloured.min()), float(np.iinfo(coloured.dtype).max)
        )
    if raw.ndim == 3:
        return _stretch(_luminance(raw), 0.0, 255.0)
    values = apply_modality_lut(raw, attributes)
    if attributes.get("VOILUTSequence"):
        picture = _through_lut(values, attributes)
    elif _has_window(attributes):
        picture = _through_window(values, attributes)
    else:
        shown = np.asarray(values, np.float32)
        picture = spread(shown, _inside(shown, raw, attributes))
    return np.asarray(255 - picture, np.uint8) if photometric == "MONOCHROME1" else picture


def _through_lut(values: NDArray[np.generic], attributes: Dataset) -> NDArray[np.uint8]:
    """The first VOI LUT (C.11.2.1.1); its input is whole numbers."""
    whole = np.rint(np.asarray(values, np.float64)).astype(np.int32)
    bits = int(attributes.VOILUTSequence[0].LUTDescriptor[2])
    shown = np.asarray(apply_voi(whole, attributes), np.float32)
    return _stretch(shown, 0.0, float(2**bits - 1))


def _through_window(values: NDArray[np.generic], attributes: Dataset) -> NDArray[np.uint8]:
    """The first window (C.11.2.1.2), with eight bits as its output."""
    window = Dataset()
    for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction", "PhotometricInterpretation"):
        if keyword in attributes:
            window[keyword] = attributes[keyword]
    window.BitsStored, window.PixelRepresentation = 8, 0
    return _stretch(np.asarray(apply_windowing(values, window), np.float32), 0.0, 255.0)


def _has_window(attributes: Dataset) -> bool:
    centre, width = (_first(attributes.get(k)) for k in ("WindowCenter", "WindowWidth"))
    return centre is not None and width is not None and width >= 1


def _first(value: object) -> float | None:
    """The first of one or several numbers; None if it is none."""
    numbers = finite(value[:1] if isinstance(value, MultiValue) else [value], 1)
    return numbers[0] if numbers else None


def _inside(
    values: NDArray[np.float32], raw: NDArray[np.generic], attributes: Dataset
) -> NDArray[np.float32]:
    """The values that are not padding; all of them if everything is."""
    padding = attributes.get("PixelPaddingValue")
    kept = values if padding is None else values[raw != padding]
    return kept if kept.size else values


def _luminance(colour: NDArray[np.generic]) -> NDArray[np.float32]:
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.asarray(np.asarray(colour[..., :3], np.float32) @ weights, np.float32)


def _stretch(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    scaled = (values - low) * (255.0 / max(high - low, 1e-6))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    spacing = finite(dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing"), 2)
    return (spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None
