"""Slices: which stack they belong to, and that one lesion on many of them is one lesion."""

import pydicom
import pytest

from bonetumor.dicom.stack import place_in_stack
from bonetumor.domain.image import BoundingBox, ImageReference
from bonetumor.domain.lesion import Detection, key_lesions, name_lesions
from kit import studies, volumes


def test_slices_of_a_series_are_one_stack_in_the_order_of_their_positions(tmp_path):
    places = [
        place_in_stack(pydicom.dcmread(p), 0) for p in volumes.ct_series(tmp_path, 3, slices=3)
    ]
    assert len({volume for volume, _ in places}) == 1
    assert [position for _, position in places] == [0.0, 3.0, 6.0]


def test_frames_of_an_enhanced_object_have_the_position_of_their_functional_groups():
    image = volumes.enhanced_mr(3, slices=4)
    places = [place_in_stack(image, index) for index in range(4)]
    assert len({volume for volume, _ in places}) == 1
    # The normal of columns along y and rows along -z points along -x.
    assert [position for _, position in places] == [0.0, -3.0, -6.0, -9.0]


def test_a_localizer_is_not_of_the_stack(tmp_path):
    first, other = (pydicom.dcmread(p) for p in volumes.ct_series(tmp_path, 3, slices=2))
    other.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    assert place_in_stack(first, 0)[0] != place_in_stack(other, 0)[0]


def test_projections_and_objects_without_a_position_stand_for_themselves(tmp_path):
    assert place_in_stack(studies.dataset(1, 320), 0) == ("", 0.0)
    [image] = [pydicom.dcmread(p) for p in volumes.ct_series(tmp_path, 3, slices=1)]
    del image.ImagePositionPatient
    assert place_in_stack(image, 0) == ("", 0.0)


def found(position_mm, box=(10, 10, 20, 20), score=0.5, volume="v"):
    image = ImageReference(
        sop_instance_uid=f"1.{position_mm:g}".replace("-", "9"),
        sop_class_uid="1.2",
        series_instance_uid="1.3",
        frame_number=None,
        rows=100,
        columns=100,
        volume=volume,
        position_mm=position_mm,
    )
    x0, y0, x1, y1 = box
    return Detection(image=image, box=BoundingBox(x0=x0, y0=y0, x1=x1, y1=y1), score=score)


def test_overlapping_boxes_on_neighbouring_slices_are_one_lesion_with_one_key_slice():
    several = (found(0), found(3, score=0.9), found(6), found(9, box=(60, 60, 70, 70), score=0.4))
    lesions = name_lesions("m", several)
    assert {x.tracking_identifier for x in lesions} == {"Lesion 1", "Lesion 2"}
    keys = key_lesions(lesions)
    assert [(k.tracking_identifier, k.detection.image.position_mm) for k in keys] == [
        ("Lesion 1", 3),
        ("Lesion 2", 9),
    ]


@pytest.mark.parametrize(
    "other", [found(30), found(3, box=(60, 60, 70, 70)), found(3, volume="w"), found(3, volume="")]
)
def test_what_lies_apart_is_another_lesion(other):
    assert len({x.tracking_uid for x in name_lesions("m", (found(0), other))}) == 2


def test_the_identity_of_a_lesion_does_not_depend_on_the_order_of_slices():
    several = (found(0), found(3, score=0.9), found(6))
    assert name_lesions("m", several) == name_lesions("m", several[::-1])
