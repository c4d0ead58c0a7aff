"""Values are valid once built."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonetumor.domain.assessment import Diagnosis, TumourClass
from bonetumor.domain.errors import BoneTumorError, InvalidInput, NonFiniteOutput
from bonetumor.domain.image import BoundingBox, ClinicalImage, ImageReference
from bonetumor.domain.labs import Analyte, LabResult
from bonetumor.domain.lesion import Detection, name_lesions
from bonetumor.domain.uid import derived_uid, parse_uid

REFERENCE = ImageReference(
    sop_instance_uid="1.2",
    sop_class_uid="1.3",
    series_instance_uid="1.4",
    frame_number=None,
    rows=4,
    columns=5,
)


@given(st.text(max_size=80))
def test_a_uid_is_digits_and_single_dots_or_refused(text):
    try:
        uid = parse_uid(text)
    except InvalidInput:
        return
    assert set(uid) <= set("0123456789.")
    assert ".." not in uid
    assert 0 < len(uid) <= 64


@given(st.lists(st.text(max_size=10), min_size=1, max_size=4))
def test_derived_uids_are_valid_and_stable(parts):
    assert derived_uid(*parts) == derived_uid(*parts)
    assert parse_uid(derived_uid(*parts)) == derived_uid(*parts)


def test_derived_uids_differ_where_their_parts_do():
    assert derived_uid("a", "bc") != derived_uid("ab", "c")


@pytest.mark.parametrize("edges", [(1, 1, 1, 2), (2, 1, 1, 2), (float("nan"), 0, 1, 1)])
def test_a_box_without_area_is_refused(edges):
    with pytest.raises(InvalidInput):
        BoundingBox(x0=edges[0], y0=edges[1], x1=edges[2], y1=edges[3])


def test_an_image_of_another_shape_or_type_is_refused():
    with pytest.raises(InvalidInput, match="expected uint8 of shape"):
        ClinicalImage(reference=REFERENCE, pixels=np.zeros((5, 4), np.uint8))
    with pytest.raises(InvalidInput, match="expected uint8"):
        ClinicalImage(reference=REFERENCE, pixels=np.zeros((4, 5), np.float32))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.9])
def test_probabilities_that_are_none_are_a_model_fault(value):
    with pytest.raises(NonFiniteOutput):
        Diagnosis(
            probabilities=dict.fromkeys(TumourClass, value),
            prediction_set=(),
            abstained=False,
            out_of_distribution=False,
            used=(),
        )


def test_lesions_are_named_by_certainty_and_keep_their_identity():
    boxes = [BoundingBox(x0=0, y0=0, x1=i, y1=1) for i in (1, 2, 3)]
    found = tuple(
        Detection(image=REFERENCE, box=b, score=s)
        for b, s in zip(boxes, (0.2, 0.9, 0.5), strict=True)
    )
    lesions = name_lesions("run", found)
    assert [x.detection.score for x in lesions] == [0.9, 0.5, 0.2]
    assert [x.tracking_identifier for x in lesions] == ["Lesion 1", "Lesion 2", "Lesion 3"]
    assert name_lesions("run", found[::-1]) == lesions
    assert {x.tracking_uid for x in lesions}.isdisjoint(
        x.tracking_uid for x in name_lesions("other run", found)
    )


def _seen(uid, y, score, *, frame=None, part="FEMUR L", rows=1000, height=100):
    image = replace(REFERENCE, sop_instance_uid=uid, frame_number=frame, rows=rows, body_part=part)
    return Detection(image=image, box=BoundingBox(x0=100, y0=y, x1=180, y1=y + height), score=score)


def _identities(*found):
    return {
        (x.detection.image.sop_instance_uid, x.detection.score): x.tracking_identifier
        for x in name_lesions("run", found)
    }


def test_a_lesion_on_two_views_has_one_identity():
    named = _identities(_seen("1", 300, 0.9), _seen("2", 620, 0.7, rows=2000, height=180))
    assert set(named.values()) == {"Lesion 1"}
    lesions = name_lesions("run", (_seen("1", 300, 0.9), _seen("2", 310, 0.7)))
    assert lesions[0].tracking_uid == lesions[1].tracking_uid


def test_lesions_that_need_not_be_the_same_stay_apart():
    apart = {
        "another level": (_seen("1", 300, 0.9), _seen("2", 600, 0.7)),
        "another size": (_seen("1", 300, 0.9), _seen("2", 300, 0.7, height=250)),
        "another side": (_seen("1", 300, 0.9), _seen("2", 300, 0.7, part="FEMUR R")),
        "no part stated": (_seen("1", 300, 0.9, part=""), _seen("2", 300, 0.7, part="")),
        "one image": (_seen("1", 300, 0.9), _seen("1", 310, 0.7)),
    }
    for why, found in apart.items():
        assert len(set(_identities(*found).values())) == 2, why


def test_neighbouring_frames_join_and_distant_ones_do_not():
    near = _identities(*(_seen("1", 300 + 5 * n, 0.9 - n / 10, frame=n) for n in range(1, 5)))
    assert set(near.values()) == {"Lesion 1"}
    far = _identities(_seen("1", 300, 0.9, frame=1), _seen("1", 300, 0.8, frame=40))
    assert len(set(far.values())) == 2


def test_a_lab_result_is_judged_by_its_own_range():
    def lab(value, low, high):
        return LabResult(
            analyte=Analyte.LDH,
            value=value,
            unit="U/L",
            low=low,
            high=high,
            taken_at=None,
            source="x",
        )

    assert lab(3, 1, 2).is_high
    assert lab(0.5, 1, 2).is_low
    assert not lab(3, None, None).is_high
    assert lab(3, None, 2).ratio_to_upper_limit == 1.5
    assert lab(3, None, None).ratio_to_upper_limit is None


def test_every_error_has_a_place_in_the_tree():
    from bonetumor.domain import errors

    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]
    assert len(classes) > 10
    assert all(issubclass(c, BoneTumorError) for c in classes)
    assert all(c.__name__ in errors.__doc__ for c in classes)
