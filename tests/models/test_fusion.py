"""The fusion network: any evidence may be missing, and every answer is finite and calibrated."""

import random
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from bonetumor.domain.assessment import Modality, TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.image import BoundingBox
from bonetumor.domain.labs import WEIGHED, Analyte, LabPanel, LabResult
from bonetumor.domain.pathology import SlideTiles
from bonetumor.fusion import coverage
from bonetumor.fusion.calibration import fit_conformal, fit_scaling, scaled
from bonetumor.fusion.classifier import FusionClassifier
from bonetumor.fusion.coverage import resplits
from bonetumor.fusion.evidence import Preparation, crop, ratios
from bonetumor.fusion.explanation import shapley
from bonetumor.fusion.network import DESIGNS, RESNET_50, FusionConfig, FusionNetwork
from bonetumor.fusion.resnet import read_resnet
from bonetumor.fusion.text import describe, read_text_encoder, stand_in_vocabulary, tokenizer_from
from bonetumor.fusion.train import FusionTraining, Pretrained, _Run, moved_crop, train_fusion
from bonetumor.phantom.patient import draw_patient
from bonetumor.service.ports import FusionInput
from bonetumor.slides.pictures import SlidePictures
from bonetumor.weights.bundle import open_bundle, synthetic_bundle, write_bundle
from kit.studies import box_of, panel_of, render

SUBSETS = [s for n in (1, 2, 3) for s in combinations(Modality, n)]


@pytest.fixture(scope="module")
def classifier():
    return FusionClassifier(open_bundle(synthetic_bundle()), device="cpu")


def _evidence(number, modalities=tuple(Modality), out_of_distribution=False):
    patient = draw_patient(91, number, longest_px=640)
    cut = SlidePictures(tile_px=128, max_tiles=6).cut
    seen = Modality.IMAGE in modalities
    evidence = FusionInput(
        image=render(patient.radiograph) if seen else None,
        box=box_of(patient.radiograph) if seen else None,
        slides=tuple(SlideTiles(source="s", pixels=cut(s)) for s in patient.slides)
        if Modality.PATHOLOGY in modalities
        else None,
        labs=panel_of(patient) if Modality.LABS in modalities else None,
        out_of_distribution=out_of_distribution,
    )
    return patient, evidence


def test_every_subset_at_once_is_as_each_by_itself(classifier):
    found = classifier.by_subset(_evidence(1)[1])
    assert list(found) == SUBSETS
    for modalities, diagnosis in found.items():
        alone = classifier.diagnose(_evidence(1, modalities)[1])
        assert diagnosis == replace(alone, contributions={}, heat_map=None)


def test_of_no_evidence_there_is_no_subset(classifier):
    assert classifier.by_subset(_evidence(1, ())[1]) == {}


@pytest.mark.parametrize("modalities", SUBSETS)
def test_any_subset_of_evidence_is_weighed_and_disclosed(classifier, modalities):
    diagnosis = classifier.diagnose(_evidence(1, modalities)[1])
    assert diagnosis.used == tuple(modalities)
    assert sum(diagnosis.probabilities.values()) == pytest.approx(1.0)
    unsettled = len(diagnosis.prediction_set) != 1 or diagnosis.out_of_distribution
    assert diagnosis.abstained == unsettled


def test_the_same_evidence_gives_the_same_diagnosis(classifier):
    evidence = _evidence(2)[1]
    assert classifier.diagnose(evidence) == classifier.diagnose(evidence)


def test_out_of_distribution_abstains_and_says_why(classifier):
    diagnosis = classifier.diagnose(_evidence(3, out_of_distribution=True)[1])
    assert diagnosis.abstained
    assert diagnosis.out_of_distribution
    assert "unlike those the model was trained on" in diagnosis.reason


def test_the_synthetic_classifier_is_better_than_chance_on_patients_it_has_never_seen(classifier):
    """A floor that an untrained network cannot reach; no clinical figure."""
    right = 0
    for number in range(40):
        patient, evidence = _evidence(100 + number)
        right += classifier.diagnose(evidence).most_likely is patient.tumour_class
    assert right >= 24


def test_the_paper_sized_network_is_the_same_code():
    config = FusionConfig(vocabulary_size=50, resnet=dict(RESNET_50))
    with torch.device("meta"):
        network = FusionNetwork(config)
    count = sum(p.numel() for p in network.image_encoder.parameters())
    assert 23_000_000 < count < 24_000_000  # a ResNet-50 without its classifier


def _lab(analyte, value, low, high, unit="U/L"):
    return LabResult(
        analyte=analyte, value=value, unit=unit, low=low, high=high, taken_at=None, source="x"
    )


def test_abnormal_markers_become_text_and_normal_ones_do_not():
    panel = LabPanel(
        results=(
            _lab(Analyte.ALP, 512, 40, 128),
            _lab(Analyte.LDH, 200, 125, 220),
            _lab(Analyte.HEMOGLOBIN, 9.5, 12, 16, "g/dL"),
        )
    )
    assert describe(panel) == (
        "alkaline phosphatase is high at 512 U/L 4.0 times the limit. "
        "hemoglobin is low at 9.5 g/dL 0.8 times the limit."
    )
    assert describe(LabPanel(results=())) == "No abnormal blood marker."


def test_the_vocabulary_knows_every_word_of_the_text():
    tokenizer = tokenizer_from(stand_in_vocabulary())
    panel = LabPanel(results=tuple(_lab(a, 987.65, 1, 2, "10*3/uL") for a in Analyte))
    assert tokenizer.unk_token_id not in tokenizer(describe(panel))["input_ids"]


def test_missing_analytes_are_flagged_not_zero():
    values = ratios(LabPanel(results=(_lab(Analyte.ALP, 256, 40, 128),)))
    assert values[0] == 2.0
    assert values[len(WEIGHED)] == 0.0
    assert values[len(WEIGHED) + 1 :].sum() == len(WEIGHED) - 1


def test_a_crop_holds_the_box_in_its_middle():
    pixels = np.zeros((400, 300), np.uint8)
    pixels[100:140, 200:240] = 255
    square = crop(pixels, BoundingBox(x0=200, y0=100, x1=240, y1=140), 96)[0].numpy()
    rows, columns = np.nonzero(square > 0.5)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(47.5, abs=1)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(47.5, abs=1)
    assert rows.max() - rows.min() + 1 == pytest.approx(64, abs=2)


def _scaled_wrongly(n, lean):
    """Logits of an imaginary model that is too sure by 2.5 and leans, and the true classes."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, 3, generator=generator) * 2
    truth = torch.multinomial(torch.softmax(logits, dim=1), 1, generator=generator)[:, 0]
    return logits, (logits - torch.tensor(lean)) * 2.5, truth


def test_scaling_recovers_a_known_temperature_and_known_biases():
    lean = [0.4, -0.3, -0.1]
    right, wrong, truth = _scaled_wrongly(8000, lean)
    temperature, biases = fit_scaling(wrong, truth)
    assert temperature == pytest.approx(2.5, abs=0.15)
    assert biases == pytest.approx(lean, abs=0.1)
    mended = scaled(wrong, temperature, biases)
    assert (mended - torch.softmax(right.double(), dim=1)).abs().max() < 0.03


def test_a_few_patients_make_small_biases_and_no_wild_temperature():
    _, wrong, truth = _scaled_wrongly(8, [2.0, -1.0, -1.0])
    temperature, biases = fit_scaling(wrong, truth)
    assert 0.5 <= temperature <= 5.0
    assert max(map(abs, biases)) < 0.3
    always = torch.tensor([[9.0, -9.0, -9.0]]).repeat(8, 1)
    temperature, biases = fit_scaling(always, torch.zeros(8, dtype=torch.int64))
    assert 0.5 <= temperature <= 5.0
    assert max(map(abs, biases)) < 0.3


def _answers(n, generator):
    """Probabilities of an imaginary model, and classes as probable as it says."""
    logits = torch.randn(n, 3, generator=generator) * 1.5 + torch.tensor([1.5, 0.0, -0.5])
    probabilities = torch.softmax(logits, dim=1)
    return probabilities, torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def test_conformal_sets_hold_the_truth_of_every_class_as_often_as_promised():
    probabilities, truth = _answers(2000, torch.Generator().manual_seed(0))
    found = resplits(probabilities, truth, [str(n) for n in range(2000)], miss_rate=0.1)
    for by_class in found["by_class"].values():
        assert by_class["promised"] == pytest.approx(0.9, abs=0.01)
        # Rounds share cases, so that their mean wanders more than that of as many fresh samples.
        assert by_class["covered"] == pytest.approx(by_class["promised"], abs=0.01)
        assert by_class["inside"] >= 0.9


def test_resplits_tell_when_thresholds_do_not_hold(monkeypatch):
    probabilities, truth = _answers(2000, torch.Generator().manual_seed(0))
    monkeypatch.setattr(coverage, "fit_conformal", lambda *_: [0.5, 0.5, 0.5])
    found = resplits(probabilities, truth, [str(n) for n in range(2000)], miss_rate=0.1, rounds=5)
    assert all(c["inside"] == 0 and c["covered"] < 0.85 for c in found["by_class"].values())


def test_images_of_one_patient_are_on_one_side_of_a_resplit():
    """Each case twice, under one name: were the twins parted, coverage would hardly vary."""
    probabilities, truth = (torch.cat([t, t]) for t in _answers(60, torch.Generator()))
    twins = resplits(probabilities, truth, [str(n % 60) for n in range(120)], miss_rate=0.2)
    parted = resplits(probabilities, truth, [str(n) for n in range(120)], miss_rate=0.2)
    for label, found in parted["by_class"].items():
        assert found["inside"] > twins["by_class"][label]["inside"]


def test_a_class_with_too_few_calibration_cases_is_never_ruled_out():
    probabilities = torch.softmax(torch.randn(40, 3), dim=1)
    truth = torch.tensor([0] * 20 + [1] * 18 + [2] * 2)
    assert fit_conformal(probabilities, truth, 0.1)[2] == 0.0


def test_every_class_has_a_place():
    assert [str(c) for c in TumourClass] == ["benign", "intermediate", "malignant"]


def _cases(count):
    preparation = Preparation(96, 128, tokenizer_from(stand_in_vocabulary()))
    cut = SlidePictures(tile_px=128, max_tiles=2).cut
    drawn, cases = iter(range(10_000)), {c: [] for c in TumourClass}
    while any(len(c) < count for c in cases.values()):
        patient = draw_patient(92, next(drawn), longest_px=200)
        slides = tuple(SlideTiles(source="s", pixels=cut(s)) for s in patient.slides)
        image = render(patient.radiograph)
        tensors = preparation.prepare(image, box_of(patient.radiograph), slides, panel_of(patient))
        cases[patient.tumour_class].append(tensors)
    return [(t, i) for i, c in enumerate(TumourClass) for t in cases[c][:count]]


def _write(folder, trained):
    """A bundle with the fusion network, and all else as shipped."""
    shipped = open_bundle(synthetic_bundle())
    description = {
        k: getattr(shipped.manifest, k)
        for k in ("name", "version", "training_data", "intended_use", "limits", "detector")
    }
    write_bundle(
        folder,
        tensors={"fusion.safetensors": trained.state},
        texts={"vocabulary.txt": trained.vocabulary},
        description={**description, "fusion": trained.config, "metrics": trained.metrics},
    )


@pytest.mark.parametrize("design", DESIGNS)
def test_training_on_a_handful_gives_a_bundle_that_opens(tmp_path, design):
    cases = _cases(2)
    plan = FusionTraining(epochs=1, design=design)
    trained = train_fusion(plan, cases, cases, stand_in_vocabulary(), lambda _: None)
    assert set(trained.config["temperatures"]) == {"+".join(s) for s in SUBSETS}
    _write(tmp_path / "bundle", trained)
    again = FusionClassifier(open_bundle(tmp_path / "bundle"), device="cpu")
    assert sum(again.diagnose(_evidence(1)[1]).probabilities.values()) == pytest.approx(1)


def test_crops_are_moved_by_chance_and_little():
    drawn = draw_patient(93, 0).radiograph
    still = crop(render(drawn).pixels, box_of(drawn), 96)
    moved = [moved_crop(still, random.Random(seed)) for seed in (1, 1, 2)]
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])
    for one in moved:
        assert one.shape == still.shape
        assert float(one.min()) >= 0
        assert float(one.max()) <= 1
        pairs = ((one, still), (one, still.flip(-1)))
        alike = [torch.corrcoef(torch.stack([a.flatten() for a in p]))[0, 1] for p in pairs]
        assert 0.2 < max(alike) < 0.999


def test_training_that_was_cut_off_goes_on_to_the_same_weights(tmp_path):
    cases, vocabulary = _cases(2), stand_in_vocabulary()
    plan = FusionTraining(epochs=3)

    class Cut(Exception):
        pass

    def cut_after_two(text):
        if "epoch 3" in text:
            raise Cut

    whole = train_fusion(plan, cases, cases, vocabulary, lambda _: None)
    checkpoint = tmp_path / "fusion.checkpoint"
    with pytest.raises(Cut):
        train_fusion(plan, cases, cases, vocabulary, cut_after_two, checkpoint=checkpoint)
    said = []
    resumed = train_fusion(plan, cases, cases, vocabulary, said.append, checkpoint=checkpoint)
    assert len(said) == 1
    for name, tensor in whole.state.items():
        assert torch.equal(tensor, resumed.state[name]), name


WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "high", "ALP", "a", "##b")


def _bert(folder):
    """A folder as BioBERT's, but small."""
    from transformers import BertConfig, BertModel

    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(8)
    BertModel(BertConfig(vocab_size=len(WORDS), intermediate_size=32, **sizes)).save_pretrained(
        folder
    )
    return folder


@pytest.fixture
def parts(tmp_path):
    """A BERT and a ResNet as a site may have them, but small."""
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(9)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
    model = ResNetModel(ResNetConfig(layer_type="basic", **sizes))
    (tmp_path / "resnet").mkdir()
    (tmp_path / "bert").mkdir()
    model.save_pretrained(tmp_path / "resnet")
    return Pretrained(
        text=read_text_encoder(_bert(tmp_path / "bert")), resnet=read_resnet(tmp_path / "resnet")
    )


def _read_by(text, cases):
    tokens = torch.tensor([2, 5, 6, 3])
    assert len(text.vocabulary.split()) > max(tokens)
    return [(replace(case, tokens=tokens), label) for case, label in cases]


def _of_parts(state, parts):
    """Each tensor of the trained parts, as training left it and as it began."""
    begun = {
        "text_encoder": parts.text.weights,
        "image_encoder": parts.resnet.weights_for(1),
        "slide_encoder": parts.resnet.weights_for(3),
    }
    return {
        f"{part}.{name}": (state[f"{part}.{name}"], tensor)
        for part, weights in begun.items()
        for name, tensor in weights.items()
    }


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_parts_stay_as_they_are_and_others_learn(tmp_path, parts, frozen):
    cases = _read_by(parts.text, _cases(2))
    plan = FusionTraining(epochs=2, frozen=frozen, modality_dropout=0.0)
    vocabulary = parts.text.vocabulary
    trained = train_fusion(plan, cases, cases, vocabulary, lambda _: None, pretrained=parts)
    pairs = _of_parts(trained.state, parts)
    same = {name for name, (now, then) in pairs.items() if torch.equal(now, then.half().float())}
    if frozen:
        assert same == set(pairs)
    else:
        statistics = {name for name in pairs if name.endswith("running_mean")}
        convolutions = {name for name in pairs if name.endswith("convolution.weight")}
        attention = {name for name in pairs if name.endswith("query.weight")}
        assert statistics
        assert convolutions
        assert attention
        assert not same & (statistics | convolutions | attention)
    torch.manual_seed(plan.seed)
    _, begun = parts.build(parts.sized(plan), vocabulary)
    assert not torch.equal(trained.state["head.weight"], begun.state_dict()["head.weight"])


def test_each_trained_part_learns_at_a_rate_of_its_own(parts):
    plan = parts.sized(FusionTraining(frozen=False))
    _, network = parts.build(plan, parts.text.vocabulary)
    groups = _Run(network, plan, 240, parts).optimizer.param_groups
    rest, *own = groups
    modules = (network.image_encoder, network.slide_encoder, network.text_encoder)
    assert [[id(p) for p in group["params"]] for group in own] == [
        [id(p) for p in module.parameters()] for module in modules
    ]
    assert [group["max_lr"] for group in groups] == pytest.approx([12e-4, 12e-5, 12e-5, 3e-5])
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    other = replace(plan, resnet_learning_rate=2e-6, bert_learning_rate=3e-6)
    groups = _Run(network, other, 240, parts).optimizer.param_groups
    assert [group["max_lr"] for group in groups[1:]] == pytest.approx([6e-6, 6e-6, 9e-6])
    [alone] = _Run(network, replace(plan, frozen=True), 240, parts).optimizer.param_groups
    assert {id(p) for p in alone["params"]} == {id(p) for p in rest["params"]}


def test_without_trained_parts_everything_learns_at_one_rate():
    plan = FusionTraining()
    config, network = Pretrained().build(plan, stand_in_vocabulary())
    [group] = _Run(network, plan, 240, Pretrained()).optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in network.parameters()]
    assert all(p.requires_grad for p in network.parameters())
    assert (config.pixel_mean, config.pixel_deviation) == ([0.0] * 3, [1.0] * 3)


def test_numbers_stay_beside_the_text_of_a_trained_encoder(parts):
    _, network = parts.build(parts.sized(FusionTraining()), parts.text.vocabulary)
    case = replace(_read_by(parts.text, _cases(1)[:1])[0][0], ratios=torch.zeros(2 * len(WEIGHED)))
    with torch.no_grad():
        first, second = (
            network.eval().encode([replace(case, ratios=case.ratios + extra)])[2]
            for extra in (0.0, 1.0)
        )
    assert not torch.allclose(first, second)


def test_a_bundle_of_trained_parts_sees_as_its_training_did(tmp_path, parts):
    cases = _read_by(parts.text, _cases(2))
    plan = FusionTraining(epochs=1)
    trained = train_fusion(
        plan, cases, cases, parts.text.vocabulary, lambda _: None, pretrained=parts
    )
    _write(tmp_path / "bundle", trained)
    again = FusionClassifier(open_bundle(tmp_path / "bundle"), device="cpu")
    config, built = parts.build(parts.sized(plan), parts.text.vocabulary)
    assert config.pixel_mean == [0.485, 0.456, 0.406]
    built.load_state_dict(trained.state)
    with torch.no_grad():
        case = [cases[0][0]]
        assert torch.allclose(again._network(case), built.eval()(case), atol=1e-3)
    assert sum(again.diagnose(_evidence(1)[1]).probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("pixel_mean", [0.5], "of each of 3 colours"),
        ("pixel_deviation", [0.2, 0.0, 0.2], r"above 0, got \[0\.2, 0\.0, 0\.2\]"),
    ],
)
def test_pixels_are_normalised_by_three_colours_and_never_by_nought(name, values, expected):
    with pytest.raises(InvalidInput, match=expected):
        FusionConfig(vocabulary_size=9, **{name: values})


def test_a_checkpoint_of_another_kind_of_training_is_refused(tmp_path, parts):
    cases, vocabulary = _read_by(parts.text, _cases(1)), parts.text.vocabulary
    checkpoint, plan = tmp_path / "fusion.checkpoint", FusionTraining(epochs=1)
    told = (cases, cases, vocabulary, lambda _: None)
    train_fusion(plan, *told, checkpoint=checkpoint, pretrained=parts)
    other = replace(plan, frozen=False, epochs=2)
    with pytest.raises(InvalidInput, match=r"expected .*fusion\.checkpoint of a training with"):
        train_fusion(other, *told, checkpoint=checkpoint, pretrained=parts)


def test_biobert_from_a_folder_is_the_text_encoder(tmp_path):
    text = read_text_encoder(_bert(tmp_path))
    assert text.cased
    assert text.sizes["hidden_size"] == 16
    plan = FusionTraining(epochs=1, bert_learning_rate=1e-12, frozen=False)
    cases = _read_by(text, _cases(2))
    trained = train_fusion(
        plan, cases, cases, text.vocabulary, lambda _: None, pretrained=Pretrained(text=text)
    )
    assert trained.config["cased"]
    for name, tensor in text.weights.items():
        ours = trained.state[f"text_encoder.{name}"]
        assert torch.allclose(ours.float(), tensor.float(), atol=1e-3), name
    with pytest.raises(InvalidInput, match=r"expected a BERT with vocab\.txt"):
        read_text_encoder(tmp_path / "absent")


def test_a_bert_that_lacks_weights_is_not_begun_with(tmp_path):
    from safetensors.torch import load_file, save_file

    weights = load_file(_bert(tmp_path) / "model.safetensors")
    name = "encoder.layer.0.attention.self.query.weight"
    lacking = {k: v for k, v in weights.items() if k != name}
    save_file(lacking, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidInput, match=f"got none of {name}"):
        read_text_encoder(tmp_path)
    save_file({**weights, name: torch.zeros(3, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(InvalidInput, match="expected a BERT"):
        read_text_encoder(tmp_path)


def test_contributions_sum_to_the_whole_way_and_the_heat_map_lies_on_the_crop(classifier):
    _, evidence = _evidence(5)
    diagnosis = classifier.diagnose(evidence)
    top = max(diagnosis.probabilities.values())
    assert sum(diagnosis.contributions.values()) == pytest.approx(top - 1 / 3, abs=2e-3)
    assert set(diagnosis.contributions) == set(Modality)
    region, box = diagnosis.heat_map.region, evidence.box
    assert region.x0 < box.x0 < box.x1 < region.x1
    assert max(max(row) for row in diagnosis.heat_map.values) == pytest.approx(1.0)
    blind = classifier.diagnose(_evidence(5, (Modality.PATHOLOGY,))[1])
    assert blind.heat_map is None
    assert list(blind.contributions) == [Modality.PATHOLOGY]


def test_a_heat_map_ends_at_one_or_is_empty_where_nothing_speaks_for_the_class(classifier):
    maps = [classifier.diagnose(_evidence(n)[1]).heat_map.values for n in range(8)]
    greatest = [max(max(row) for row in values) for values in maps]
    assert set(greatest) <= {0.0, 1.0}
    assert greatest.count(1.0) >= 4


def test_energy_beyond_that_of_all_calibration_cases_abstains(classifier, monkeypatch):
    _, evidence = _evidence(6)
    pattern = "+".join(Modality)
    monkeypatch.setitem(classifier._greatest_energy, pattern, -1e9)
    diagnosis = classifier.diagnose(evidence)
    assert diagnosis.abstained
    assert "the evidence is unlike" in diagnosis.reason


def test_shapley_values_share_out_an_interaction():
    worth = {(): 0.0, ("a",): 0.2, ("b",): 0.0, ("a", "b"): 0.6}
    assert shapley(("a", "b"), lambda s: worth[tuple(s)]) == {"a": 0.4, "b": 0.2}


def test_training_on_nobody_or_without_a_class_says_so():
    with pytest.raises(InvalidInput, match="expected patients to train on"):
        train_fusion(FusionTraining(), [], [], stand_in_vocabulary(), lambda _: None)
    benign = _cases(1)[:1]
    with pytest.raises(InvalidInput, match="none that is intermediate or malignant"):
        train_fusion(FusionTraining(), benign, benign, stand_in_vocabulary(), lambda _: None)
