"""What a picture is like apart from what it shows."""

import numpy as np
import pytest

from bonetumor.domain.errors import InvalidInput
from bonetumor.evaluation.properties import PROPERTIES, picture_properties

NAMES = ("sharp", "fine", "next", "dark", "bright", "aspect", "size")


def _of(pixels):
    values = picture_properties(pixels)
    assert values.dtype == np.float64
    assert values.shape == (len(PROPERTIES),)
    assert np.isfinite(values).all()
    return dict(zip(NAMES, values.tolist(), strict=True))


def _noise(rows, columns):
    return np.random.default_rng(0).integers(60, 190, (rows, columns)).astype(np.uint8)


def test_a_flat_picture_has_no_energy_and_a_blurred_one_less_than_a_sharp_one():
    flat = _of(np.full((40, 60), 128, np.uint8))
    assert (flat["sharp"], flat["fine"], flat["next"]) == (0, 0, 0)
    noise = _noise(80, 80)
    blurred = noise.reshape(40, 2, 40, 2).mean(axis=(1, 3)).repeat(2, 0).repeat(2, 1)
    sharp, soft = _of(noise), _of(blurred.astype(np.uint8))
    assert sharp["sharp"] > soft["sharp"] + 0.5
    assert soft["fine"] == 0 < sharp["fine"]
    assert soft["next"] == pytest.approx(sharp["next"], abs=0.1)


def test_energies_are_those_of_known_stripes():
    one = np.tile(np.array([100, 120], np.uint8), (32, 16))  # a period of two pixels
    two = np.tile(np.array([100, 100, 120, 120], np.uint8), (32, 8))  # and of four
    assert _of(one)["fine"] == pytest.approx(np.log1p(100))
    assert _of(one)["next"] == 0
    assert _of(two)["fine"] == 0
    assert _of(two)["next"] == pytest.approx(np.log1p(100))


def test_borders_aspect_and_size_are_measured():
    pixels = np.full((100, 200), 128, np.uint8)
    pixels[:2] = 0
    pixels[-2:] = 255
    said = _of(pixels)
    ring = 100 * 200 - 96 * 196
    assert said["dark"] == said["bright"] == pytest.approx(2 * 200 / ring)
    assert said["aspect"] == pytest.approx(np.log(2))
    assert said["size"] == pytest.approx(np.log(200))
    assert _of(pixels.T)["aspect"] == pytest.approx(-np.log(2))
    pixels[5:95, 5:195] = 0  # what lies inside is no border
    assert _of(pixels)["dark"] == said["dark"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2), (5, 7)])
def test_the_smallest_pictures_have_properties_too(shape):
    assert _of(_noise(*shape))["size"] == pytest.approx(np.log(max(shape)))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint16), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_what_is_no_picture_of_one_channel_is_refused(wrong):
    with pytest.raises(InvalidInput, match="expected uint8 of shape"):
        picture_properties(wrong)
