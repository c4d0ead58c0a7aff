"""Secondary captures: results as pictures, which every viewer shows (PS3.3 A.8.1)."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice

import numpy as np
from highdicom import ContributingEquipment
from highdicom.sc import SCImage
from PIL import Image
from pydicom import Dataset

from bonetumor.dicom.anatomy import laterality
from bonetumor.dicom.authorship import (
    MANUFACTURER,
    SERIES_DESCRIPTION,
    device_uid,
    equipment,
    fix_moment,
    with_type_2,
)
from bonetumor.domain.image import ClinicalImage, ImageReference
from bonetumor.domain.lesion import key_lesions
from bonetumor.domain.uid import UID, derived_uid
from bonetumor.picture.capture import capture, placard
from bonetumor.service.ports import Notice, Result
from bonetumor.service.wording import BANNER, found, not_performed, notes

_SERIES_NUMBER = 9710
_MOST_PICTURES = 12


def result_captures(
    result: Result, images: Iterable[ClinicalImage], references: Sequence[Dataset]
) -> list[Dataset]:
    """One picture for each image that holds the key box of a lesion; of the first image where
    there is no lesion. `references` are the study's images without pixels."""
    assessment = result.assessment
    chosen = _chosen(result, images)
    made = []
    for number, image in enumerate(chosen, start=1):
        lesions = [x for x in assessment.lesions if x.detection.image == image.reference]
        is_of_the_first = bool(lesions) and lesions[0] is assessment.lesions[0]
        picture = capture(
            image,
            lesions,
            assessment.diagnosis.heat_map if is_of_the_first else None,
            banner=BANNER,
            lines=[found(result), *notes(result)],
        )
        made.append(
            _as_dicom(
                picture,
                _reference(references, image.reference),
                key=assessment.run_key,
                number=number,
                of=image.reference,
                made_by=equipment(assessment),
                at=assessment.assessed_at,
            )
        )
        made[-1].ContributingEquipmentSequence[0].DeviceUID = device_uid(assessment)
    return made


def notice_capture(notice: Notice, reference: Dataset) -> Dataset:
    """A page that says that there is no result, and why."""
    banner, *lines = not_performed(notice)
    return _as_dicom(
        placard(banner=banner, lines=lines),
        reference,
        key=notice.key,
        number=1,
        of=None,
        made_by=None,
        at=notice.at,
    )


def _chosen(result: Result, images: Iterable[ClinicalImage]) -> list[ClinicalImage]:
    wanted = {x.detection.image for x in key_lesions(result.assessment.lesions)}
    shown = (image for image in images if not wanted or image.reference in wanted)
    return list(islice(shown, min(_MOST_PICTURES, len(wanted)) if wanted else 1))


def _reference(references: Sequence[Dataset], image: ImageReference) -> Dataset:
    return next(r for r in references if r.SOPInstanceUID == image.sop_instance_uid)


def _as_dicom(
    picture: Image.Image,
    reference: Dataset,
    *,
    key: str,
    number: int,
    of: ImageReference | None,
    made_by: ContributingEquipment | None,
    at: datetime,
) -> Dataset:
    complete = with_type_2(reference)
    side = laterality(complete)
    made = SCImage.from_ref_dataset(
        ref_dataset=complete,
        pixel_array=np.asarray(picture),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=derived_uid(key, "sc", "series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=derived_uid(key, "sc", str(number)),
        instance_number=number,
        manufacturer=MANUFACTURER,
        patient_orientation=("L", "F"),  # which highdicom requires; emptied below
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        series_description=f"{SERIES_DESCRIPTION} (picture)",
        contributing_equipment=[made_by] if made_by is not None else None,
    )
    made.Laterality = side if side in ("L", "R") else ""  # type 2C
    made.PatientOrientation = ""  # type 2C: a picture with strips of text has none
    made.Modality = "OT"
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.BurnedInAnnotation = "YES"
    made.ConversionType = "WSD"
    if of is not None:
        made.SourceImageSequence = [_source(of)]
    fix_moment(made, at)
    return made


def _source(image: ImageReference) -> Dataset:
    """The Source Image Sequence's item (PS3.3 C.7.6.1): the image that the picture shows."""
    item = Dataset()
    item.ReferencedSOPClassUID = image.sop_class_uid
    item.ReferencedSOPInstanceUID = UID(image.sop_instance_uid)
    if image.frame_number is not None:
        item.ReferencedFrameNumber = image.frame_number
    return item
