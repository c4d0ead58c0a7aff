"""Grayscale softcopy presentation states: boxes for classic workstations (PS3.3 A.33.1)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    TextObject,
)
from pydicom import Dataset
from pydicom.multival import MultiValue

from bonetumor.dicom.authorship import (
    MANUFACTURER,
    SERIES_DESCRIPTION,
    device_uid,
    equipment,
    fix_moment,
    with_type_2,
)
from bonetumor.domain.assessment import Assessment
from bonetumor.domain.image import ImageReference
from bonetumor.domain.lesion import Lesion
from bonetumor.domain.uid import UID, derived_uid
from bonetumor.service.ports import Result

_SERIES_NUMBER = 9720
_MOST_LO = 64  # characters of a Long String
_LAYER = GraphicLayer("AI", order=1, description="AI bone tumour, not for primary diagnosis")


def presentation_states(result: Result, references: Sequence[Dataset]) -> list[Dataset]:
    """One state for each grey image with boxes, all of its frames in it; none without lesions."""
    by_image: dict[UID, list[Lesion]] = defaultdict(list)
    for lesion in result.assessment.lesions:
        by_image[lesion.detection.image.sop_instance_uid].append(lesion)
    made: list[Dataset] = []
    for reference in references:
        lesions = by_image.get(UID(str(reference.SOPInstanceUID)), [])
        image = _with_one_rescaling(_with_whole_luts(with_type_2(reference)))
        if lesions and image is not None and image.get("SamplesPerPixel") == 1:
            made.append(_state(result.assessment, image, lesions, len(made) + 1))
    return made


def _with_whole_luts(image: Dataset) -> Dataset:
    """The image without half of a rescaling, and without windows that cannot be applied.

    Images have such, and a state that takes one over is invalid (PS3.3 C.11.1, C.11.2).
    """
    keywords = ("RescaleSlope", "RescaleIntercept", "RescaleType")
    if any(len(_numbers(image.get(keyword))) != 1 for keyword in keywords[:2]):
        _remove(image, keywords)
    elif not 0 < len(str(image.get("RescaleType") or "")) <= _MOST_LO:
        image.RescaleType = "US"  # unspecified
    centres, widths = (_numbers(image.get(k)) for k in ("WindowCenter", "WindowWidth"))
    if not centres or len(centres) != len(widths) or min(widths) <= 0:
        _remove(image, ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation"))
    return image


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, MultiValue) else [value]
    return [float(each) for each in values if each not in (None, "")]


def _remove(image: Dataset, keywords: Iterable[str]) -> None:
    for keyword in keywords:
        if keyword in image:
            del image[keyword]


def _with_one_rescaling(image: Dataset) -> Dataset | None:
    """A multi-frame image with its rescaling, and nothing else, in the shared functional groups.

    That is where highdicom looks. None where frames are rescaled differently: a presentation state
    has one modality LUT for all of them (PS3.3 C.11.1).
    """
    if int(image.get("NumberOfFrames") or 1) == 1:
        return image
    per_frame = image.get("PerFrameFunctionalGroupsSequence") or []
    rescalings = [
        group.PixelValueTransformationSequence[0]
        for group in (*(image.get("SharedFunctionalGroupsSequence") or []), *per_frame)
        if group.get("PixelValueTransformationSequence")
    ]
    if any(one != rescalings[0] for one in rescalings):
        return None
    shared = Dataset()
    if rescalings:
        shared.PixelValueTransformationSequence = rescalings[:1]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(int(image.NumberOfFrames))]
    return image


def _state(
    assessment: Assessment, image: Dataset, lesions: Sequence[Lesion], number: int
) -> Dataset:
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=[image],
        series_instance_uid=derived_uid(assessment.run_key, "pr", "series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=derived_uid(assessment.run_key, "pr", image.SOPInstanceUID),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=assessment.algorithm.name,
        software_versions=assessment.algorithm.version,
        device_serial_number=assessment.algorithm.bundle_sha256[:16],
        content_label="AI_BONE_TUMOUR",
        content_description="AI result, not for primary diagnosis",
        graphic_layers=[_LAYER],
        graphic_annotations=[_annotation(image, lesion) for lesion in lesions],
        series_description=f"{SERIES_DESCRIPTION} (boxes)",
        contributing_equipment=[equipment(assessment)],
    )
    state.ContributingEquipmentSequence[0].DeviceUID = device_uid(assessment)
    # Type 2C, which highdicom leaves out; of the image's values it knows two.
    side = str(image.get("Laterality") or image.get("ImageLaterality") or "")
    state.Laterality = side if side in ("L", "R") else ""
    fix_moment(state, assessment.assessed_at)
    utc = state.InstanceCreationDate, state.InstanceCreationTime
    state.PresentationCreationDate, state.PresentationCreationTime = utc
    return state


def _annotation(image: Dataset, lesion: Lesion) -> GraphicAnnotation:
    x0, y0, x1, y1 = _inside(lesion)
    outline = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])
    frame = lesion.detection.image.frame_number
    label = f"{lesion.tracking_identifier} {lesion.detection.score:.0%} AI"
    return GraphicAnnotation(
        referenced_images=[image],
        graphic_layer=_LAYER,
        referenced_frame_number=frame,
        graphic_objects=[
            GraphicObject(
                graphic_type="POLYLINE",
                graphic_data=outline,
                units="PIXEL",
                tracking_id=lesion.tracking_identifier,
                tracking_uid=lesion.tracking_uid,
            )
        ],
        text_objects=[
            TextObject(label, units="PIXEL", anchor_point=(x0, y1), anchor_point_visible=False)
        ],
    )


def _inside(lesion: Lesion) -> tuple[float, float, float, float]:
    """The box within the image: graphics may not leave it (PS3.3 C.10.5.1.1)."""
    image: ImageReference = lesion.detection.image
    x0, y0, x1, y1 = lesion.detection.box.as_tuple()
    return max(0.0, x0), max(0.0, y0), min(image.columns, x1), min(image.rows, y1)
