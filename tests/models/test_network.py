"""The network as engines take it: folded, and with weights that bfloat16 takes nothing from."""

import copy
import os

import numpy as np
import pytest
import torch

from bonetumor.detection.engine import TorchEngine
from bonetumor.detection.familiarity import without_familiarity
from bonetumor.detection.letterbox import letterbox
from bonetumor.detection.network import fold, is_rounded, round_weights
from bonetumor.detection.processor import OpenVinoEngine
from bonetumor.detection.vision import kept_threads, load_ultralytics
from bonetumor.detection.yolo import build_network
from bonetumor.domain.image import iou
from bonetumor.phantom.patient import draw_patient
from bonetumor.weights.bundle import open_bundle, synthetic_bundle
from kit.studies import render

SIDE = 640


@pytest.fixture
def small():
    """A network with batch normalisations that have seen something."""
    load_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(3)
    network = DetectionModel("yolov5n.yaml", ch=1, nc=1, verbose=False).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    return network


@pytest.fixture(scope="module")
def shipped():
    bundle = open_bundle(synthetic_bundle())
    tensors = without_familiarity(bundle.tensors("detector.safetensors"))
    return build_network(bundle.manifest.detector["architecture"], tensors)


@pytest.fixture(scope="module")
def unrounded(shipped):
    """Weights that use more than eight bits."""
    network = copy.deepcopy(shipped)
    with torch.no_grad():
        network.model[0].conv.weight.mul_(1.0011)
    return network


@pytest.fixture(scope="module")
def engines(shipped, unrounded):
    with kept_threads():
        torch.set_num_threads(2)  # one for each square at work
        return OpenVinoEngine(shipped, SIDE), OpenVinoEngine(unrounded, SIDE)


@pytest.fixture(params=["weight", "bias"])
def moved(request, small):
    """A rounded network of which one weight, or one bias, has more than eight bits again."""
    round_weights(small)
    block = small.model[3]
    with torch.no_grad():
        if request.param == "weight":
            block.conv.weight[1, 2, 0, 0] += block.conv.weight[1, 2, 0, 0] * 2.0**-9
        else:
            block.bn.bias[1] += block.bn.bias[1] * 2.0**-9
    return small


@pytest.fixture(scope="module")
def squares():
    drawn = [render(draw_patient(79, n).radiograph) for n in range(6)]
    return np.stack([letterbox(image.pixels, SIDE)[0] for image in drawn])


@torch.inference_mode()
def test_a_folded_network_takes_pixels_as_they_are(small):
    pixels = torch.randint(0, 256, (1, 1, 96, 96), generator=torch.manual_seed(1)).float()
    whole, folded = small(pixels / 255)[0], fold(small)(pixels)[0]
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fold(small).modules())
    assert torch.allclose(whole, folded, rtol=1e-4, atol=1e-3)


def test_rounded_weights_are_known_and_hardly_moved(small):
    before = {k: v.clone() for k, v in small.state_dict().items()}
    original_folded = fold(small).state_dict()
    assert not is_rounded(small)
    round_weights(small)
    assert is_rounded(small)
    after = {k: v.clone() for k, v in small.state_dict().items()}
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    kinds = ("conv.weight", "bn.running_mean", "bn.running_var")
    assert moved == {k for k in before if k.endswith(kinds) and "dfl" not in k}
    for k in moved:
        if k.endswith("conv.weight"):
            assert torch.equal(after[k].bfloat16().float(), after[k])
    for k, folded in fold(small).state_dict().items():
        whole = original_folded[k]  # eight bits are to within half of the last
        lost = 1e-6 if k.endswith("conv.bias") else 0  # a small difference of greater numbers
        assert ((folded - whole).abs() <= 1.01 * 2.0**-8 * whole.abs() + lost).all()
        if k.endswith("conv.bias"):
            assert torch.allclose(folded.bfloat16().float(), folded, rtol=1e-5, atol=1e-6)
    round_weights(small)  # and there is nothing left to round
    assert all(torch.allclose(v, after[k], rtol=1e-5) for k, v in small.state_dict().items())


def test_a_single_number_of_more_than_eight_bits_is_seen(moved):
    assert not is_rounded(moved)
    round_weights(moved)
    assert is_rounded(moved)


def test_training_goes_on_from_rounded_weights_as_from_the_others(small):
    rounded = copy.deepcopy(small)
    round_weights(rounded)
    pixels = torch.rand((2, 1, 96, 96), generator=torch.manual_seed(1))
    one, other = (n.model[1](n.model[0](pixels)) for n in (small.train(), rounded.train()))
    assert (one - other).abs().mean() < 0.01
    assert one.abs().mean() > 0.2


def test_channels_that_are_small_or_switched_off_are_rounded_too(small):
    normal = small.model[1].bn
    kept = small.model[1].conv.weight[2].clone()
    with torch.no_grad():
        normal.weight[:4] = torch.tensor([1e-6, -0.01, 0, -1])
    before = fold(small).model[1].conv.weight
    round_weights(small)
    assert torch.equal(small.model[1].conv.weight[2], kept)
    assert is_rounded(small)
    assert (normal.running_var >= 0).all()
    assert torch.allclose(fold(small).model[1].conv.weight, before, rtol=2.0**-8, atol=0)


def test_the_synthetic_weights_lose_nothing_in_bfloat16(shipped):
    assert is_rounded(shipped)


def test_bfloat16_is_taken_where_the_processor_has_it_and_the_weights_allow(engines):
    from openvino import Core

    able = "BF16" in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert [e.precision for e in engines] == ["bf16" if able else "f32", "f32"]


def test_both_precisions_answer_as_torch_does(engines, shipped, unrounded, squares):
    bounds = {"bf16": (0.01, 4, 0.05), "f32": (1e-4, 0.01, 1e-4)}
    for engine, network in zip(engines, (shipped, unrounded), strict=True):
        score, px, summary = bounds[engine.precision]
        boxes, summaries = engine(squares)
        expected, known = TorchEngine(copy.deepcopy(network), "cpu")(squares)  # it leaves a hook
        seen = expected[:, 4] > 0.05
        assert seen.sum() > 20
        assert np.abs(boxes[:, 4] - expected[:, 4]).max() < score
        assert np.abs(boxes - expected)[:, :4].max(axis=1)[seen].max() < px
        assert np.allclose(summaries, known, atol=summary)
        for picture, wanted in zip(boxes, expected, strict=True):
            best = wanted[4].argmax()
            assert iou(corners(picture[:4, best]), corners(wanted[:4, best])) > 0.98


def test_an_engine_answers_alike_again_and_keeps_nothing(engines, squares):
    engine, _ = engines
    first, again = engine(squares[:5]), engine(squares[:5])
    single = [np.concatenate(a) for a in zip(*(engine(s[None]) for s in squares[:5]), strict=True)]
    for answers in (again, single):
        assert all(np.array_equal(a, b) for a, b in zip(first, answers, strict=True))
    assert not any(step._forward_pre_hooks for step in engine._boxes._steps)


def test_an_engine_takes_as_many_threads_as_torch(shipped):
    for wanted in {1, min(2, os.cpu_count() or 1)}:
        with kept_threads():
            torch.set_num_threads(wanted)
            engine = OpenVinoEngine(shipped, SIDE)
        compiled = engine._requests[0].get_compiled_model()
        assert compiled.get_property("INFERENCE_NUM_THREADS") == wanted


def test_an_engine_answers_alike_after_a_call_that_was_cut_short(engines, squares, monkeypatch):
    engine, _ = engines
    expected = engine(squares[:2])

    def cut_short(_request):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "_read", cut_short)
    with pytest.raises(KeyboardInterrupt):
        engine(squares[3:6])
    monkeypatch.undo()
    again = engine(squares[:2])
    assert all(np.array_equal(a, b) for a, b in zip(expected, again, strict=True))


def corners(box):
    x, y, width, height = (float(number) for number in box)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2
