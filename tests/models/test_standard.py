"""A picture is the same to the network whatever film, borders and contrast it came with."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonetumor.detection.letterbox import letterbox
from bonetumor.phantom.patient import draw_patient
from bonetumor.radiograph.standard import standardise, trim

_CONTENT = 256


@pytest.fixture(scope="module")
def radiograph():
    pixels = draw_patient(31, 2, longest_px=1536, slides=False).radiograph.pixels
    return np.asarray(pixels >> 4, np.uint8)


def test_borders_of_one_grey_are_trimmed_and_nothing_else(radiograph):
    framed = cv2.copyMakeBorder(radiograph, 70, 30, 200, 0, cv2.BORDER_CONSTANT, value=0)
    plain, kept = trim(radiograph), trim(framed)
    assert (kept.left, kept.top) == (plain.left + 200, plain.top + 70)
    assert (kept.right, kept.bottom) == (plain.right + 200, plain.bottom + 70)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_picture_of_one_grey_stays_whole(grey):
    content, kept = standardise(np.full((300, 200), grey, np.uint8), _CONTENT)
    assert (kept.left, kept.top, kept.right, kept.bottom) == (0, 0, 200, 300)
    assert content.shape == (256, 171)
    assert content.std() == 0


def test_a_film_of_twice_the_size_is_the_same_picture(radiograph):
    half = cv2.resize(radiograph, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    large, small = (standardise(p, _CONTENT)[0].astype(float) for p in (radiograph, half))
    assert large.shape == small.shape
    assert np.abs(large - small).mean() < 4


def test_a_flatter_curve_makes_no_other_picture(radiograph):
    flat = np.asarray(radiograph * 0.5 + 40, np.uint8)
    curved, plain = (standardise(p, _CONTENT)[0].astype(float) for p in (flat, radiograph))
    assert np.abs(curved - plain).mean() < 4


def test_a_blurred_picture_is_hardly_told_from_a_sharp_one(radiograph):
    blurred = cv2.GaussianBlur(radiograph, (0, 0), 4)
    before = [_sharpness(cv2.resize(p, (256, 256))) for p in (radiograph, blurred)]
    after = [_sharpness(standardise(p, _CONTENT)[0]) for p in (radiograph, blurred)]
    assert np.log(after[0] / after[1]) < 0.5 * np.log(before[0] / before[1])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(20, 900),
    columns=st.integers(20, 900),
    border=st.tuples(*[st.integers(0, 60)] * 4),
    place=st.tuples(*[st.floats(0.1, 0.4)] * 2),
)
def test_a_box_comes_back_from_the_square_to_where_it_was(rows, columns, border, place):
    noise = np.random.default_rng(0).integers(0, 256, (rows, columns), np.uint8)
    framed = cv2.copyMakeBorder(noise, *border, cv2.BORDER_CONSTANT, value=0)
    box = (
        border[2] + place[0] * columns,
        border[0] + place[1] * rows,
        border[2] + (place[0] + 0.5) * columns,
        border[0] + (place[1] + 0.5) * rows,
    )
    _, placed = letterbox(framed, 320, _CONTENT)
    across = [v * placed.scale_x + placed.left for v in box[0::2]]
    down = [v * placed.scale_y + placed.top for v in box[1::2]]
    back = placed.to_stored(across[0], down[0], across[1], down[1])
    assert back is not None
    assert back.as_tuple() == pytest.approx(box, abs=1e-6)


def test_a_bright_spot_is_where_its_box_says(radiograph):
    marked = np.asarray(radiograph // 2, np.uint8)
    marked[700:760, 500:560] = 255
    framed = cv2.copyMakeBorder(marked, 120, 0, 90, 0, cv2.BORDER_CONSTANT, value=0)
    square, placed = letterbox(framed, 320, _CONTENT)
    x0, x1 = ((500 + 90 + d) * placed.scale_x + placed.left for d in (0, 60))
    y0, y1 = ((700 + 120 + d) * placed.scale_y + placed.top for d in (0, 60))
    inside = square[round(y0) + 2 : round(y1) - 2, round(x0) + 2 : round(x1) - 2]
    assert inside.min() > 230


def _sharpness(pixels):
    return cv2.Laplacian(pixels.astype(np.float32), cv2.CV_32F).var() / pixels.astype(float).var()
