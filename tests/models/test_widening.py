"""A narrower network's weights in a wider one: the same function, and copies that part."""

import pytest
import torch
from torch import nn

from bonetumor.detection.vision import load_ultralytics
from bonetumor.detection.widening import fitting


def _yolo(architecture):
    load_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(3)
    network = DetectionModel(architecture, nc=1, ch=1, verbose=False).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as of a trained one: every channel its own
            module.weight.data.uniform_(0.5, 1.5)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


@pytest.mark.parametrize("wide", ["yolov5s.yaml", "yolov5m.yaml"])
def test_a_wider_network_begins_where_the_narrower_one_ended(wide):
    narrow, wider = _yolo("yolov5n.yaml"), _yolo(wide)
    weights = fitting(narrow.state_dict(), wider.state_dict(), seed=1)
    wider.load_state_dict(weights, strict=False)
    picture = torch.rand(2, 1, 96, 64)
    with torch.no_grad():
        before, after = narrow(picture)[0], wider(picture)[0]
    same = torch.allclose(before, after, atol=1e-3)
    deeper = set(wider.state_dict()) - set(weights)  # blocks that only a deeper network has
    assert same == (wide == "yolov5s.yaml")
    assert bool(deeper) == (wide == "yolov5m.yaml")


def test_copies_of_a_channel_part_as_training_goes_on():
    narrow = nn.Sequential(nn.Conv2d(1, 2, 3), nn.SiLU(), nn.Conv2d(2, 1, 3))
    wider = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Conv2d(4, 1, 3))
    wider.load_state_dict(fitting(narrow.state_dict(), wider.state_dict(), seed=1))
    first = wider[0].weight
    assert torch.equal(first[0], first[1])
    wider(torch.rand(1, 1, 9, 9)).square().sum().backward()
    assert not torch.allclose(first.grad[0], first.grad[1], rtol=0.01)


def test_what_does_not_fit_is_left_out():
    own = {"a": torch.zeros(3, 4, 1, 1), "b": torch.zeros(4, 2, 3, 3), "c": torch.zeros(4)}
    weights = {"a": torch.ones(2, 4, 1, 1), "b": torch.ones(2, 2, 1, 1), "c": torch.ones(4)}
    assert set(fitting({**weights, "d": torch.ones(1)}, own, seed=1)) == {"c"}
