"""What is called unlike the training pictures: by distance, and by lean towards trunk and head."""

import numpy as np
import pytest
import torch

from bonetumor.detection.familiarity import fit_familiarity, take_familiarity, without_familiarity
from bonetumor.detection.yolo import YoloDetector
from bonetumor.domain.errors import NonFiniteOutput, WeightsMismatch
from bonetumor.phantom.patient import draw_normal, draw_patient
from bonetumor.phantom.radiograph import Radiograph
from bonetumor.phantom.trunk import draw_trunk
from bonetumor.weights.bundle import open_bundle, synthetic_bundle
from kit.studies import render

CHANNELS = 6


@pytest.fixture(scope="module")
def summaries():
    rng = np.random.default_rng(3)
    known = rng.normal(0, 1, (400, CHANNELS)).astype(np.float32)
    trunk = rng.normal(0, 1, (200, CHANNELS)).astype(np.float32) + np.eye(CHANNELS)[0] * 3
    return known, trunk.astype(np.float32)


@pytest.fixture(scope="module")
def familiarity(summaries):
    return fit_familiarity(*summaries)


def test_a_picture_of_the_trunk_leans_further_than_it_is_away(summaries, familiarity):
    known, trunk = ([familiarity.measure(s) for s in some] for some in summaries)
    far, leaning = (np.quantile([m[i] for m in known], 0.975) for i in (0, 1))
    assert np.mean([lean > leaning for _, lean in trunk]) > 0.8
    assert np.mean([distance > far for distance, _ in trunk]) < 0.6
    assert np.std([lean for _, lean in known]) == pytest.approx(1, abs=0.1)


def test_what_is_far_off_the_other_way_is_strange_by_distance_alone(familiarity):
    distance, lean = familiarity.measure(np.full(CHANNELS, -5, np.float32))
    assert distance > 8
    assert lean < 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_summary_that_is_no_number_is_stopped(familiarity, wrong):
    summary = np.zeros(CHANNELS, np.float32)
    summary[2] = wrong
    with pytest.raises(NonFiniteOutput, match="finite distance"):
        familiarity.measure(summary)


def test_a_bundle_holds_it_beside_the_network(familiarity, summaries):
    held = {**familiarity.tensors(), "model.0.weight": torch.ones(1)}
    assert list(without_familiarity(held)) == ["model.0.weight"]
    taken = take_familiarity(held)
    assert list(held) == ["model.0.weight"]
    assert taken.measure(summaries[0][0]) == pytest.approx(familiarity.measure(summaries[0][0]))
    with pytest.raises(WeightsMismatch, match=r"expected familiarity\.mean in the detector"):
        take_familiarity(held)


def test_the_synthetic_detector_knows_drawn_trunks_from_limbs():
    """Whatever they say of themselves."""
    detector = YoloDetector(open_bundle(synthetic_bundle()), device="cpu")
    trunks = [draw_trunk(np.random.default_rng([77, n]), longest_px=640) for n in range(30)]
    shown = [render(Radiograph(pixels=pixels, boxes=(), site="femur")) for pixels in trunks]
    assert sum(detector.strangeness(image) > 1 for image in shown) >= 10
    limbs = [draw_patient(78, n).radiograph for n in range(20)]
    limbs += [draw_normal(78, n) for n in range(10)]
    assert sum(detector.strangeness(render(limb)) > 1 for limb in limbs) <= 1


def test_trunks_are_drawn_by_their_chance_alone():
    first, again, other = (draw_trunk(np.random.default_rng([1, n])) for n in (4, 4, 5))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)
    assert first.dtype == np.uint16
    assert first.max() < 4096
    assert max(first.shape) == 640
