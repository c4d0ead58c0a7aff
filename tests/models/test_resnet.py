"""A site's own ResNet: under whose names it comes, and that it sees as it saw."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bonetumor.domain.errors import InvalidInput
from bonetumor.fusion.evidence import CaseTensors
from bonetumor.fusion.resnet import read_resnet
from bonetumor.fusion.text import stand_in_vocabulary
from bonetumor.fusion.train import FusionTraining, Pretrained
from bonetumor.weights.vision import load_torchvision

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def _seasoned(network):
    """With statistics and shares of its own in every channel, as a trained one."""
    torch.manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
            module.momentum = 1.0
    network.train()(torch.randn(4, 3, 64, 64))
    return network.eval()


def _torchvision(name=None):
    """One of torchvision's, or one of its kind that is quick to build."""
    models = load_torchvision().models
    if name:
        return _seasoned(getattr(models, name)())
    return _seasoned(models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1]))


def _network(encoder):
    pretrained = Pretrained(resnet=encoder)
    plan = pretrained.sized(FusionTraining())
    return pretrained.build(plan, stand_in_vocabulary())[1].eval()


def _case(**tensors):
    empty = dict.fromkeys(("crop", "tiles", "tokens", "ratios"))
    return CaseTensors(**{**empty, **tensors})


def _features(model, pictures):
    with torch.no_grad():
        return nn.Sequential(*list(model.children())[:-1])(pictures).flatten(1)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvisions_weights_give_torchvisions_features(tmp_path, name):
    theirs = _torchvision(name)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = _network(read_resnet(tmp_path / "weights.pth"))
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = ours.slide_encoder(pictures).pooler_output.flatten(1)
        grey = ours.image_encoder(pictures[:, :1]).pooler_output.flatten(1)
    assert torch.allclose(features, _features(theirs, pictures), rtol=1e-3, atol=1e-3)
    of_grey = _features(theirs, pictures[:, :1].expand(-1, 3, -1, -1))
    assert torch.allclose(grey, of_grey, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(features, of_grey, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("name", "kind", "depths"),
    [("resnet34", "basic", [3, 4, 6, 3]), ("resnet101", "bottleneck", [3, 4, 23, 3])],
)
def test_the_size_is_that_of_the_file(tmp_path, name, kind, depths):
    with torch.device("meta"):
        described = getattr(load_torchvision().models, name)().state_dict()
    nothing = {k: torch.zeros(()).expand(v.shape) for k, v in described.items()}
    torch.save(nothing, tmp_path / "weights.pth")
    sizes = read_resnet(tmp_path / "weights.pth").sizes
    assert (sizes["layer_type"], sizes["depths"]) == (kind, depths)


def test_tiles_and_crops_reach_it_as_the_pictures_that_it_learnt_on(tmp_path):
    theirs = _torchvision()
    floats = {k: v for k, v in theirs.state_dict().items() if v.is_floating_point()}
    save_file(floats, tmp_path / "weights.safetensors")  # without counters, as many are
    ours = _network(read_resnet(tmp_path / "weights.safetensors"))
    tile = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    crop = torch.rand(1, 64, 64)
    with torch.no_grad():
        _, slide, _ = ours.encode([_case(tiles=tile)])
        image = ours.encode_images([_case(crop=crop)])
        seen = _features(theirs, (tile / 255 - MEAN) / DEVIATION)
        assert torch.allclose(slide, ours.slide_projection(seen), atol=1e-3)
        grey = ((crop - MEAN.mean()) / DEVIATION.mean()).expand(1, 3, -1, -1)
        assert torch.allclose(image, ours.image_projection(_features(theirs, grey)), atol=1e-3)


def _saved(folder, **sizes):
    from transformers import ResNetConfig, ResNetForImageClassification

    model = _seasoned(ResNetForImageClassification(ResNetConfig(**sizes)))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "sizes",
    [
        {"layer_type": "basic", "hidden_sizes": [8, 8, 16, 16], "depths": [1, 2, 1, 1]},
        {
            "layer_type": "bottleneck",
            "hidden_sizes": [16, 32, 32, 32],
            "depths": [1, 1, 1, 1],
            "downsample_in_bottleneck": True,
        },
    ],
)
def test_a_folder_of_transformers_gives_its_own_features(tmp_path, sizes):
    theirs = _saved(tmp_path, embedding_size=8, **sizes)
    note = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(note))
    encoder = read_resnet(tmp_path)
    assert (encoder.pixel_mean, encoder.pixel_deviation) == tuple(note.values())
    ours = _network(encoder)
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = ours.slide_encoder(pictures).pooler_output
        assert torch.allclose(features, theirs.resnet(pictures).pooler_output, atol=1e-3)


def test_a_grey_resnet_reads_tiles_by_their_mean_colour(tmp_path):
    grey = _torchvision()
    state = grey.state_dict()
    state["conv1.weight"] = state["conv1.weight"].sum(dim=1, keepdim=True)
    torch.save(state, tmp_path / "grey.pt")
    ours = _network(read_resnet(tmp_path / "grey.pt"))
    pictures = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features = ours.slide_encoder(pictures).pooler_output.flatten(1)
    mean = pictures.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    assert torch.allclose(features, _features(grey, mean), rtol=1e-3, atol=1e-3)


def test_what_is_no_resnet_is_refused_and_what_was_found_is_said(tmp_path):
    state, path = _torchvision().state_dict(), tmp_path / "weights.pth"
    spoilt = (
        ({"layer2.0.conv1.weight": torch.zeros(128, 64, 1, 1)}, r"stages\.1.* \(128, 64, 1, 1\)"),
        ({"layer1.0.se.weight": torch.zeros(4)}, r"layer1\.0\.se\.weight of shape .* of missing"),
        ({"bn1.weight": None}, r"embedder\.normalization\.weight missing instead of .* \(64,\)"),
        ({"conv1.weight": torch.zeros(64, 4, 7, 7)}, "one channel or three .* got 4"),
        ({"conv1.weight": None}, r"expected the names of torchvision's ResNets .* got embedder"),
        ({"layer3.0.conv2.weight": None}, "expected the names of torchvision's"),
    )
    for change, expected in spoilt:
        torch.save({k: v for k, v in {**state, **change}.items() if v is not None}, path)
        with pytest.raises(InvalidInput, match=expected):
            read_resnet(path)
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(InvalidInput, match=r"got features\.0\.weight"):
        read_resnet(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(InvalidInput, match="expected a state dict"):
        read_resnet(path)
    with pytest.raises(InvalidInput, match=r"expected tensors in .*absent"):
        read_resnet(tmp_path / "absent.safetensors")


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    torch.save(_torchvision(), tmp_path / "whole.pth")
    with pytest.raises(InvalidInput, match=r"expected tensors in .* got UnpicklingError"):
        read_resnet(tmp_path / "whole.pth")


def test_a_folder_of_another_model_or_with_other_sizes_is_refused(tmp_path):
    sizes = {"layer_type": "basic", "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
    _saved(tmp_path, embedding_size=8, **sizes)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, expected in (
        ({"model_type": "bert"}, "model_type resnet .* got bert"),
        ({"depths": [1, 1, 1, 2]}, r"depths \[1, 1, 1, 2\].* missing instead"),
        ({"layer_type": "dense"}, "expected sizes of a ResNet"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(InvalidInput, match=expected):
            read_resnet(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InvalidInput, match=r"expected a JSON object in .*config"):
        read_resnet(tmp_path)
