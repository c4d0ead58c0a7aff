"""Batches: faster if anything, and never another answer."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bonetumor.detection import engine as engines
from bonetumor.detection.engine import build_engine, is_neutral
from bonetumor.detection.familiarity import without_familiarity
from bonetumor.detection.sharing import SharedEngine
from bonetumor.detection.yolo import YoloDetector, build_network
from bonetumor.domain.errors import Misconfigured
from bonetumor.phantom.patient import draw_patient
from bonetumor.weights.bundle import open_bundle, synthetic_bundle
from kit.studies import render

SIDE = 4
SHIPPED = open_bundle(synthetic_bundle())


class Numbers:
    """Answers each square with its first pixel; notes how many came at once."""

    def __init__(self, batch=4, seconds=0.0, fails_at=255):
        self.batch, self.seconds, self.fails_at, self.passes = batch, seconds, fails_at, []

    def __call__(self, squares):
        self.passes.append(len(squares))
        time.sleep(self.seconds)
        first = squares[:, 0, 0].astype(np.float32)
        if self.fails_at in first:
            raise MemoryError("no room on the device")
        return first[:, None, None], first[:, None]


def square(value):
    return np.full((1, SIDE, SIDE), value, np.uint8)


def test_every_thread_gets_its_own_answer_and_passes_are_shared():
    inner = Numbers(seconds=0.02)
    shared = SharedEngine(inner)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: shared(square(n)), range(40)))
    assert [float(prediction[0, 0, 0]) for prediction, _ in answers] == list(range(40))
    assert [float(summary[0, 0]) for _, summary in answers] == list(range(40))
    assert sum(inner.passes) == 40
    assert max(inner.passes) == inner.batch  # and never more
    assert len(inner.passes) < 20


def test_many_squares_of_one_caller_come_back_in_order():
    shared = SharedEngine(Numbers(batch=3))
    prediction, summary = shared(np.concatenate([square(n) for n in range(10)]))
    assert prediction[:, 0, 0].tolist() == summary[:, 0].tolist() == list(range(10))


def test_one_square_alone_does_not_wait_for_ever():
    prediction, _ = SharedEngine(Numbers(batch=64), wait_s=0.1)(square(1))
    assert prediction[0, 0, 0] == 1


def test_a_pass_that_fails_is_told_to_all_who_shared_it_and_the_next_one_is_done():
    shared = SharedEngine(Numbers())
    with pytest.raises(MemoryError, match="no room"):
        shared(np.concatenate([square(1), square(255)]))
    assert shared(square(3))[0].item() == 3


@pytest.fixture(scope="module")
def network():
    tensors = SHIPPED.tensors("detector.safetensors")
    return build_network(SHIPPED.manifest.detector["architecture"], without_familiarity(tensors))


@pytest.mark.parametrize("batch", [2, 4, 8])
def test_batches_of_the_synthetic_network_are_neutral(network, batch):
    build_engine(network, side_px=128, device="cpu", wanted="torch", batch=batch)


@pytest.mark.parametrize("engine", ["openvino", "auto"])
def test_a_batch_that_openvino_would_ignore_is_refused(network, engine):
    with pytest.raises(Misconfigured, match=r"expected 1 with OpenVINO, got 4; .*torch"):
        build_engine(network, side_px=128, device="cpu", wanted=engine, batch=4)


def _by_place(squares):
    return np.arange(len(squares))


def _by_neighbours(squares):
    return np.roll(squares[:, 0, 0], 1) * 1e-6


def _by_what_is_empty(squares):
    return np.full(len(squares), not squares[-1].any())


@pytest.mark.parametrize("leak", [_by_place, _by_neighbours, _by_what_is_empty])
def test_a_batch_that_is_not_neutral_is_refused(monkeypatch, leak):
    class Leaking(Numbers):
        def __init__(self, _network, _device, batch):
            super().__init__(batch)

        def __call__(self, squares):
            filled = np.zeros((self.batch, SIDE, SIDE), np.uint8)
            filled[: len(squares)] = squares
            told = filled[:, 0, 1].astype(np.float64) + leak(filled)
            return told[: len(squares), None, None], told[: len(squares), None]

    monkeypatch.setattr(engines, "TorchEngine", Leaking)
    with pytest.raises(Misconfigured, match=r"model\.batch: .* 1 always works"):
        build_engine(None, side_px=SIDE, device="cpu", wanted="torch", batch=4)
    build_engine(None, side_px=SIDE, device="cpu", wanted="torch", batch=1)


@pytest.mark.parametrize(("leak", "batch"), [(_by_place, 1), (lambda _filled: 0, 2)])
def test_openvino_takes_one_at_a_time_where_two_are_not_neutral(monkeypatch, leak, batch):
    class Leaking(Numbers):
        def __init__(self, _network, _side, batch=2):
            super().__init__(batch)

        def __call__(self, squares):
            told = squares[:, 0, 1].astype(np.float64) + leak(squares)
            return told[:, None, None], told[:, None]

    monkeypatch.setattr(engines, "OpenVinoEngine", Leaking)
    assert build_engine(None, side_px=SIDE, device="cpu", wanted="auto").batch == batch


def test_an_engine_that_looks_at_each_square_alone_is_neutral():
    assert is_neutral(Numbers(batch=5, fails_at=None), SIDE)


def test_the_same_boxes_alone_and_beside_others():
    """Bit-equal: an image by itself, several of one study, and several threads at once."""
    detector = YoloDetector(
        SHIPPED, device="cpu", engine="torch", least_score=0.05, batch=4, shared=True
    )
    images = [render(draw_patient(83, n).radiograph) for n in range(5)]
    alone = [detector.detect(image) for image in images]
    assert sum(len(findings.detections) for findings in alone) >= 5
    assert [findings for _, findings in detector.detect_all(images)] == alone
    with ThreadPoolExecutor(5) as threads:
        assert list(threads.map(detector.detect, images)) == alone
    single = YoloDetector(SHIPPED, device="cpu", engine="torch", least_score=0.05, batch=4)
    assert [single.detect(image) for image in images[:2]] == alone[:2]


def test_no_more_images_are_held_than_a_pass_takes():
    detector = YoloDetector(SHIPPED, device="cpu", engine="torch", batch=4)
    image, taken = render(draw_patient(83, 0).radiograph), []

    def images():
        for number in range(9):
            taken.append(number)
            yield image

    held = [len(taken) - done for done, _ in enumerate(detector.detect_all(images()))]
    assert held == [4, 3, 2, 1, 4, 3, 2, 1, 1]
