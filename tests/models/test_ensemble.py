"""Several networks as one, and one box for each lesion."""

import numpy as np
import pytest
import torch

from bonetumor.detection.agreement import single
from bonetumor.detection.ensemble import EnsembleEngine
from bonetumor.detection.yolo import join_networks, split_networks


class Fixed:
    """Answers always alike: one anchor with a box and a score."""

    batch = 2

    def __init__(self, box, score, summary):
        self.answer = np.array([*box, score], np.float32).reshape(1, 5, 1)
        self.summary = np.array([[summary]], np.float32)

    def __call__(self, squares):
        n = len(squares)
        return np.repeat(self.answer, n, axis=0), np.repeat(self.summary, n, axis=0)


def test_scores_are_averaged_and_the_surer_network_says_where():
    both = EnsembleEngine([Fixed((10, 10, 4, 4), 0.9, 1), Fixed((20, 20, 8, 8), 0.1, 2)])
    predictions, summaries = both(np.zeros((2, 8, 8), np.uint8))
    assert predictions[:, 4, 0] == pytest.approx([0.5, 0.5])
    assert predictions[0, :4, 0] == pytest.approx([11, 11, 4.4, 4.4])
    assert summaries[:, 0].tolist() == [1, 1]


def test_where_no_network_sees_anything_boxes_stay_finite():
    both = EnsembleEngine([Fixed((10, 10, 4, 4), 0, 1), Fixed((20, 20, 8, 8), 0, 2)])
    assert np.isfinite(both(np.zeros((1, 8, 8), np.uint8))[0]).all()


def test_networks_come_out_of_a_bundle_as_they_went_in():
    states = [{"model.0.weight": torch.full((2,), float(n))} for n in range(3)]
    joined = join_networks(states)
    assert sorted(joined) == [f"{n}.model.0.weight" for n in range(3)]
    assert [s["model.0.weight"][0].item() for s in split_networks(joined, 3)] == [0, 1, 2]
    assert list(join_networks(states[:1])) == ["model.0.weight"]


def test_a_box_within_a_surer_one_is_dropped_and_one_beside_it_stays():
    kept = np.array(
        [
            [0, 0, 100, 100, 0.9, 0],
            [20, 20, 40, 40, 0.8, 0],  # within the first
            [90, 0, 190, 100, 0.7, 0],  # beside it
            [-20, -20, 130, 130, 0.6, 0],  # about the first
        ],
        np.float32,
    )
    assert single(kept)[:, 4].tolist() == pytest.approx([0.9, 0.7])
    assert len(single(kept[:0])) == 0
