"""The detector: geometry, determinism, and what it says of synthetic patients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bonetumor.detection.agreement import agreed
from bonetumor.detection.engine import build_engine
from bonetumor.detection.letterbox import letterbox
from bonetumor.detection.mirror import MirroredEngine
from bonetumor.detection.yolo import YoloDetector, load_suppression
from bonetumor.domain.errors import Misconfigured, NonFiniteOutput
from bonetumor.domain.image import ClinicalImage, ImageReference, iou
from bonetumor.evaluation.detection import ScoredImage, average_precision
from bonetumor.phantom.patient import draw_normal, draw_patient
from bonetumor.weights.bundle import open_bundle, synthetic_bundle
from bonetumor.weights.vision import nms
from kit.studies import render


@pytest.fixture(scope="module")
def detector():
    return YoloDetector(open_bundle(synthetic_bundle()), device="cpu")


@given(
    rows=st.integers(20, 3000),
    columns=st.integers(20, 3000),
    side=st.sampled_from([320, 512, 640, 1280]),
    corners=st.tuples(*[st.floats(0, 1) for _ in range(4)]),
)
def test_boxes_come_back_to_the_pixel(rows, columns, side, corners):
    placed = letterbox(np.zeros((rows, columns), np.uint8), side)[1]
    x0, x1 = sorted((corners[0] * columns, corners[2] * columns))
    y0, y1 = sorted((corners[1] * rows, corners[3] * rows))
    if x1 - x0 < 1e-3 or y1 - y0 < 1e-3:
        return
    there = [
        v * s + o
        for v, s, o in zip(
            (x0, y0, x1, y1),
            (placed.scale_x, placed.scale_y) * 2,
            (placed.left, placed.top) * 2,
            strict=True,
        )
    ]
    assert placed.to_stored(*there).as_tuple() == pytest.approx((x0, y0, x1, y1), abs=1e-6)


def test_boxes_are_clipped_to_the_image_and_dropped_beyond_it():
    placed = letterbox(np.zeros((100, 200), np.uint8), 320)[1]
    assert placed.to_stored(-50, 0, 500, 500).as_tuple() == (0, 0, 200, 100)
    assert placed.to_stored(0, 0, 320, placed.top) is None


def test_a_bright_pixel_stays_where_its_box_says():
    pixels = np.zeros((1000, 700), np.uint8)
    pixels[300:340, 500:520] = 255
    square, placed = letterbox(pixels, 640)
    left = round(placed.left)
    rows, columns = np.nonzero(square[:, left : 640 - left] > 128)
    box = placed.to_stored(
        columns.min() + left, rows.min(), columns.max() + 1 + left, rows.max() + 1
    )
    assert box.as_tuple() == pytest.approx((500, 300, 520, 340), abs=1.6)


def test_our_nms_agrees_with_the_definition():
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(200, 2, generator=generator) * 90
    boxes = torch.cat([corners, corners + 5 + torch.rand(200, 2, generator=generator) * 20], dim=1)
    scores = torch.rand(200, generator=generator)
    kept = nms(boxes, scores, 0.5).tolist()
    assert kept == sorted(kept, key=lambda i: -scores[i])
    for i in range(200):
        rivals = [
            k
            for k in kept
            if scores[k] > scores[i] and iou(boxes[k].tolist(), boxes[i].tolist()) > 0.5
        ]
        assert (i in kept) == (not rivals)
    assert nms(boxes[:0], scores[:0], 0.5).tolist() == []


def test_the_same_image_gives_the_same_boxes(detector):
    image = render(draw_patient(5, 1).radiograph)
    assert detector.detect(image) == detector.detect(image)


def test_a_model_that_answers_nan_is_stopped(detector, monkeypatch):
    image = render(draw_normal(5, 2, longest_px=320))
    engine = detector._engine

    class Poisoned:
        batch = 1

        def __call__(self, squares):
            predictions, summaries = engine(squares)
            return predictions * np.float32("nan"), summaries

    monkeypatch.setattr(detector, "_engine", Poisoned())
    with pytest.raises(NonFiniteOutput):
        detector.detect(image)


def test_a_distance_that_is_no_number_is_stopped(detector, monkeypatch):
    image = render(draw_normal(5, 2, longest_px=320))
    known = detector._familiarity
    endless = replace(known, precision=np.full_like(known.precision, np.inf))
    monkeypatch.setattr(detector, "_familiarity", endless)
    with pytest.raises(NonFiniteOutput, match="finite distance"):
        detector.detect(image)


def test_both_engines_find_the_same_boxes():
    bundle = open_bundle(synthetic_bundle())
    first, second = (
        YoloDetector(bundle, device="cpu", engine=e, least_score=0.05)
        for e in ("torch", "openvino")
    )
    compared = 0
    for number in range(12):
        image = render(draw_patient(79, number).radiograph)
        pair = first.detect(image), second.detect(image)
        assert pair[0].out_of_distribution == pair[1].out_of_distribution
        assert len(pair[0].detections) == len(pair[1].detections)
        for a, b in zip(*(p.detections for p in pair), strict=True):
            assert iou(a.box.as_tuple(), b.box.as_tuple()) >= 0.99
            assert a.score == pytest.approx(b.score, abs=0.01)
            compared += 1
    assert compared >= 6


def test_a_mirrored_engine_says_the_same_of_a_picture_and_of_its_mirror_image(detector):
    single = detector._summing  # the network by itself, whatever the bundle wants
    engine = MirroredEngine(single, 640)
    side, _ = letterbox(render(draw_patient(79, 0).radiograph).pixels, 640)
    squares = np.stack([side, np.ascontiguousarray(side[:, ::-1])])
    (one, other), summaries = engine(squares)
    for start, cells in ((0, 80), (6400, 40), (8000, 20)):  # the anchors of each level
        level = [p[:, start : start + cells * cells].reshape(5, cells, cells) for p in (one, other)]
        turned = level[1][:, :, ::-1].copy()
        turned[0] = 640 - turned[0]
        assert np.allclose(level[0], turned, atol=1e-3)
    (plain, _), own = single(squares)
    assert not np.allclose(one, plain, atol=1e-3)
    assert np.array_equal(summaries, own)


def test_a_bundle_says_whether_its_pictures_are_mirrored():
    image = render(draw_patient(79, 0).radiograph)
    bundle, looks = open_bundle(synthetic_bundle()), []
    for wanted in (False, True):
        bundle.manifest.detector["mirrored"] = wanted
        looks.append(YoloDetector(bundle, device="cpu").detect(image))
    plain, both = looks
    assert plain.out_of_distribution == both.out_of_distribution
    assert plain.detections != both.detections
    assert iou(*(f.detections[0].box.as_tuple() for f in (plain, both))) > 0.7


def test_openvino_is_built_without_a_word_to_anybody(monkeypatch):
    import socket
    import threading

    def refuse(*_arguments):
        if threading.current_thread().name == "canary":  # of another test, and still at it
            raise ConnectionRefusedError
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    YoloDetector(open_bundle(synthetic_bundle()), device="cpu", engine="openvino")


def test_an_engine_that_the_device_cannot_run_is_refused():
    network = torch.nn.Identity()
    with pytest.raises(Misconfigured, match="expected a processor"):
        build_engine(network, side_px=64, device="cuda", wanted="openvino")
    with pytest.raises(Misconfigured, match="expected one of"):
        build_engine(network, side_px=64, device="cpu", wanted="tensorrt")


def test_the_synthetic_detector_finds_most_synthetic_tumours_it_has_never_seen(detector):
    """A floor that an untrained or broken detector cannot reach; no clinical figure."""
    scored = []
    for number in range(24):
        radiograph = draw_patient(77, number).radiograph
        found = detector.detect(render(radiograph)).detections
        scored.append(
            ScoredImage(
                patient=str(number),
                truth=radiograph.boxes,
                found=tuple((d.box.as_tuple(), d.score) for d in found),
                longest_px=max(radiograph.pixels.shape),
            )
        )
    assert average_precision(scored, 0.5) > 0.3


def test_an_image_unlike_any_radiograph_is_out_of_distribution(detector):
    noise = np.random.default_rng(0).integers(0, 255, (600, 600), dtype=np.uint8)
    reference = ImageReference(
        sop_instance_uid="1",
        sop_class_uid="1",
        series_instance_uid="1",
        frame_number=None,
        rows=600,
        columns=600,
    )
    assert detector.detect(ClinicalImage(reference=reference, pixels=noise)).out_of_distribution
    familiar = [detector.detect(render(draw_patient(78, n).radiograph)) for n in range(8)]
    assert sum(f.out_of_distribution for f in familiar) <= 1


def test_a_box_moves_to_the_mean_of_those_that_overlap_it_and_no_other_does():
    kept = np.array([[10, 10, 30, 30, 0.8, 0], [60, 60, 70, 70, 0.5, 0]], np.float32)
    centres_sizes_scores = [
        (20, 20, 20, 20, 0.8),  # the first kept box
        (22, 20, 20, 20, 0.4),  # a neighbour, half as sure
        (24, 20, 20, 20, 0.1),  # overlaps too, and is too faint to count
        (36, 20, 20, 20, 0.7),  # overlaps too little
        (65, 65, 10, 10, 0.5),  # the second
    ]
    prediction = np.array(centres_sizes_scores, np.float32).T
    before = kept.copy()
    moved = agreed(kept, prediction)
    shift = 2 * 0.4 / 1.2
    assert moved[0, :4] == pytest.approx([10 + shift, 10, 30 + shift, 30], abs=1e-4)
    assert np.array_equal(moved[1], kept[1])
    assert np.array_equal(moved[:, 4:], kept[:, 4:])
    assert np.array_equal(kept, before)
    assert agreed(kept[:0], prediction).shape == (0, 6)
    pointless = np.array([[5, 5, 5, 5, 0.9, 0]], np.float32)  # no area: overlaps nothing
    assert np.array_equal(agreed(pointless, prediction), pointless)


def test_a_box_stands_where_it_stands_whatever_the_operating_point():
    image = render(draw_patient(78, 1).radiograph)
    bundle = open_bundle(synthetic_bundle())
    low, high = (
        YoloDetector(bundle, device="cpu", least_score=least).detect(image).detections
        for least in (0.01, 0.2)
    )
    assert high
    assert set(high) <= set(low)


def test_suppression_is_ultralytics(detector):
    assert load_suppression().__module__.startswith("ultralytics")
