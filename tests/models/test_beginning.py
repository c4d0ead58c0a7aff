"""Weights of others to begin with: what is taken of them, and that it still does what it did."""

import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bonetumor.detection.beginning import architecture_of, greyed, read_tensors
from bonetumor.detection.train import read_checkpoint
from bonetumor.detection.vision import load_ultralytics
from bonetumor.domain.errors import InvalidInput
from bonetumor.worker.training import detector_of

FEEDING_THE_HEAD = (9, 17, 20, 23)


def _yolo(architecture="yolov5n.yaml", *, classes=80, channels=3):
    load_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(3)
    return DetectionModel(architecture, nc=classes, ch=channels, verbose=False).eval()


def _seasoned(network):
    """With the statistics of pictures, as a trained one: else its answer is hardly the input's."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
            module.momentum = 1.0
    network.train()(torch.rand(8, next(network.parameters()).shape[1], 96, 64))
    return network.eval()


def _begun(start, architecture=None):
    from bonetumor.detection.trainer import begun

    said = []
    return begun(
        architecture or start.architecture, start.weights, said.append, seed=1
    ).eval(), said


def _seen(network, picture):
    """What the layers say that the head looks at, the box branch, and the predictions."""
    seen = []
    watched = [network.model[n] for n in FEEDING_THE_HEAD] + [*network.model[-1].cv2]
    hooks = [m.register_forward_hook(lambda _m, _i, out: seen.append(out)) for m in watched]
    with torch.no_grad():
        predictions = network(picture)[0]
    for hook in hooks:
        hook.remove()
    return [*seen, predictions]


def _alike(ours, theirs):
    return [torch.allclose(a, b, atol=1e-2) for a, b in zip(ours, theirs, strict=True)]


def test_a_coloured_checkpoint_of_80_classes_does_on_grey_pictures_what_it_did(tmp_path):
    coloured = _seasoned(_yolo())
    torch.save({"ema": None, "model": coloured}, tmp_path / "yolov5nu.pt")
    start = detector_of(tmp_path / "yolov5nu.pt")
    assert (start.name, start.architecture, start.goes_on) == ("yolov5nu.pt", "yolov5n.yaml", False)
    ours, said = _begun(start)
    grey = torch.rand(2, 1, 96, 64)
    theirs = _seen(coloured, grey.expand(-1, 3, -1, -1))
    assert all(_alike(_seen(ours, grey)[:-1], theirs[:-1]))
    assert not any(_alike(_seen(ours, 1 - grey)[:-1], theirs[:-1]))
    # Of each of three levels, the branch of classes is as wide as there are classes, from 65 on.
    assert said == ["detector: taken: 321 of 357 tensors; 36 of the head's 72 start new"]


def test_of_a_wider_checkpoint_the_values_of_its_classes_alone_are_left(tmp_path):
    torch.save({"model": _yolo("yolov5s.yaml").half()}, tmp_path / "yolov5su.pt")
    start = detector_of(tmp_path / "yolov5su.pt")
    assert start.architecture == "yolov5s.yaml"
    _, said = _begun(start)
    assert said == ["detector: taken: 351 of 357 tensors; 6 of the head's 72 start new"]


@pytest.mark.parametrize("wider", [None, "yolov5s.yaml"])
def test_a_coloured_network_of_one_class_goes_on_as_it_is(tmp_path, wider):
    coloured = _seasoned(_yolo(classes=1))
    torch.save({"model": coloured}, tmp_path / "own.pt")
    start = detector_of(tmp_path / "own.pt")
    assert start.goes_on
    ours, said = _begun(start, wider)
    grey = torch.rand(1, 1, 64, 96)
    theirs = _seen(coloured, grey.expand(-1, 3, -1, -1))[-1:]
    assert all(_alike(_seen(ours, grey)[-1:], theirs))
    assert not any(_alike(_seen(ours, 1 - grey)[-1:], theirs))
    assert said == ["detector: taken: 357 of 357 tensors"]


def test_tensors_without_a_head_are_all_taken_and_the_head_starts_new(tmp_path):
    state = _yolo().state_dict()
    floats = {k: v for k, v in state.items() if v.is_floating_point() and ".24." not in k}
    save_file(floats, tmp_path / "coco.safetensors")
    start = detector_of(tmp_path / "coco.safetensors")
    assert (start.architecture, start.goes_on) == ("yolov5n.yaml", False)
    ours, said = _begun(start)
    assert said == ["detector: taken: 285 of 285 tensors; head starts new"]
    taken = ours.state_dict()
    assert all(torch.equal(taken[k], v) for k, v in greyed(floats).items())


@pytest.mark.parametrize("letter", "nsmlx")
def test_the_architecture_follows_the_weights(letter):
    network = _yolo(f"yolov5{letter}.yaml", classes=7)
    assert architecture_of(network.state_dict()) == f"yolov5{letter}.yaml"


def test_a_wider_network_does_not_fit_a_narrower_one_and_both_are_named(tmp_path):
    torch.save({"model": _yolo("yolov5s.yaml")}, tmp_path / "s.pt")
    expected = r"expected weights of yolov5n\.yaml, .* \(16, 1, 6, 6\), got .* \(32, 3, 6, 6\)"
    with pytest.raises(InvalidInput, match=expected):
        _begun(detector_of(tmp_path / "s.pt"), "yolov5n.yaml")


def test_other_networks_are_refused_and_what_they_hold_is_said(tmp_path):
    for name, expected in (
        ("yolov8n.yaml", r"backbone of yolov5n\.yaml .* got 88 of its 165 tensors; .*3, 3, 3"),
        ("yolov5n6.yaml", r"backbone of yolov5n\.yaml .* got 125 of its 165 tensors; model\.7\."),
    ):
        torch.save({"model": _yolo(name)}, tmp_path / "other.pt")
        with pytest.raises(InvalidInput, match=expected):
            detector_of(tmp_path / "other.pt")
    save_file({"fc.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InvalidInput, match="got 1 tensors without it"):
        detector_of(tmp_path / "other.safetensors")
    save_file({"model.0.conv.weight": torch.zeros(24, 3, 6, 6)}, tmp_path / "other.safetensors")
    with pytest.raises(InvalidInput, match=r"16, 32, 48, 64, 80 channels, got one of shape \(24"):
        detector_of(tmp_path / "other.safetensors")


def test_what_is_neither_bundle_nor_weights_is_refused(tmp_path):
    for name in ("absent.pt", "weights.onnx"):
        with pytest.raises(InvalidInput, match=r"--start-from: expected .* got .*" + name):
            detector_of(tmp_path / name)
    (tmp_path / "cut.safetensors").write_bytes(b"\x08")
    with pytest.raises(InvalidInput, match="expected a safetensors file"):
        read_tensors(tmp_path / "cut.safetensors")
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "state.pt")
    with pytest.raises(InvalidInput, match="expected one of ultralytics"):
        detector_of(tmp_path / "state.pt")


def test_checkpoints_that_name_parts_where_ultralytics_once_had_them_are_read(
    tmp_path, monkeypatch
):
    network = _yolo(classes=1, channels=1)
    from ultralytics import utils

    with monkeypatch.context() as once:
        once.setitem(sys.modules, "ultralytics.yolo.utils", utils)
        once.setattr(utils.IterableSimpleNamespace, "__module__", "ultralytics.yolo.utils")
        network.args = utils.IterableSimpleNamespace(box=7.5)
        torch.save({"model": network}, tmp_path / "published.pt")
    read = read_checkpoint(tmp_path / "published.pt")
    assert all(torch.equal(read[k], v) for k, v in network.state_dict().items())


def test_a_checkpoint_whose_code_is_not_at_hand_is_refused_in_words(tmp_path, monkeypatch):
    from types import ModuleType

    elsewhere = ModuleType("yolo_of_others")
    part = type("Part", (), {"__module__": "yolo_of_others"})
    elsewhere.Part = part
    with monkeypatch.context() as there:
        there.setitem(sys.modules, "yolo_of_others", elsewhere)
        torch.save({"model": part()}, tmp_path / "v5.pt")
    with pytest.raises(InvalidInput, match="got ModuleNotFoundError"):
        read_checkpoint(tmp_path / "v5.pt")
