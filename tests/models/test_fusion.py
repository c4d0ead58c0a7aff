"""The fusion network: any evidence may be missing, and every answer is finite and calibrated."""

from itertools import combinations

import pytest
import torch

from bonetumor.domain.assessment import Modality, TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.image import BoundingBox
from bonetumor.domain.labs import Analyte, LabPanel, LabResult
from bonetumor.domain.pathology import SlideTiles
from bonetumor.fusion.calibration import fit_conformal, fit_temperature
from bonetumor.fusion.classifier import FusionClassifier
from bonetumor.fusion.evidence import crop, ratios
from bonetumor.fusion.network import RESNET_50, FusionConfig, FusionNetwork
from bonetumor.fusion.text import describe, stand_in_vocabulary, tokenizer_from
from bonetumor.fusion.train import FusionTraining, panel_of, train_fusion
from bonetumor.phantom.patient import draw_patient
from bonetumor.service.ports import FusionInput
from bonetumor.slides.pictures import SlidePictures
from bonetumor.weights.bundle import open_bundle, shipped_bundle, write_bundle
from bonetumor.worker.training import render

SUBSETS = [s for n in (1, 2, 3) for s in combinations(Modality, n)]


@pytest.fixture(scope="module")
def classifier():
    return FusionClassifier(open_bundle(shipped_bundle()), device="cpu")


def _evidence(number, modalities=tuple(Modality), out_of_distribution=False):
    patient = draw_patient(91, number, longest_px=640)
    x0, y0, x1, y1 = patient.radiograph.box
    cut = SlidePictures(tile_px=128, max_tiles=6).cut
    seen = Modality.IMAGE in modalities
    evidence = FusionInput(
        image=render(patient.radiograph) if seen else None,
        box=BoundingBox(x0=x0, y0=y0, x1=x1, y1=y1) if seen else None,
        slides=tuple(SlideTiles(source="s", pixels=cut(s)) for s in patient.slides)
        if Modality.PATHOLOGY in modalities
        else None,
        labs=panel_of(patient) if Modality.LABS in modalities else None,
        out_of_distribution=out_of_distribution,
    )
    return patient, evidence


@pytest.mark.parametrize("modalities", SUBSETS)
def test_any_subset_of_evidence_is_weighed_and_disclosed(classifier, modalities):
    diagnosis = classifier.diagnose(_evidence(1, modalities)[1])
    assert diagnosis.used == tuple(modalities)
    assert sum(diagnosis.probabilities.values()) == pytest.approx(1.0)
    assert diagnosis.abstained == (len(diagnosis.prediction_set) != 1)


def test_the_same_evidence_gives_the_same_diagnosis(classifier):
    evidence = _evidence(2)[1]
    assert classifier.diagnose(evidence) == classifier.diagnose(evidence)


def test_out_of_distribution_abstains_and_says_why(classifier):
    diagnosis = classifier.diagnose(_evidence(3, out_of_distribution=True)[1])
    assert diagnosis.abstained
    assert diagnosis.out_of_distribution
    assert "unlike those the model was trained on" in diagnosis.reason


def test_the_shipped_classifier_is_better_than_chance_on_patients_it_has_never_seen(classifier):
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
    assert values[len(Analyte)] == 0.0
    assert values[len(Analyte) + 1 :].sum() == len(Analyte) - 1


def test_a_crop_holds_the_box_in_its_middle():
    import numpy as np

    pixels = np.zeros((400, 300), np.uint8)
    pixels[100:140, 200:240] = 255
    square = crop(pixels, BoundingBox(x0=200, y0=100, x1=240, y1=140), 96)[0].numpy()
    rows, columns = np.nonzero(square > 0.5)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(47.5, abs=1)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(47.5, abs=1)
    assert rows.max() - rows.min() + 1 == pytest.approx(64, abs=2)


def test_temperature_scaling_recovers_a_known_temperature():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 3, generator=generator) * 2
    truth = torch.distributions.Categorical(logits=logits).sample()
    assert fit_temperature(logits * 2.5, truth) == pytest.approx(2.5, abs=0.25)


def test_conformal_sets_hold_the_truth_as_often_as_promised():
    generator = torch.Generator().manual_seed(0)
    coverages = []
    for _ in range(50):
        probabilities = torch.softmax(torch.randn(600, 3, generator=generator) * 1.5, dim=1)
        truth = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
        least = fit_conformal(probabilities[:300], truth[:300], 0.1)
        chosen = probabilities[300:][torch.arange(300), truth[300:]]
        coverages.append(float((chosen >= least).double().mean()))
    assert 0.88 < sum(coverages) / len(coverages) < 0.93


def test_every_class_has_a_place():
    assert [str(c) for c in TumourClass] == ["benign", "intermediate", "malignant"]


def test_training_on_a_handful_gives_a_bundle_that_opens(tmp_path):
    plan = FusionTraining(patients=4, calibration=4, epochs=1, longest_px=200)
    cut = SlidePictures(tile_px=plan.tile_px, max_tiles=2).cut
    trained = train_fusion(plan, lambda p: render(p.radiograph), cut, lambda _: None)
    assert set(trained.config["temperatures"]) == {"+".join(s) for s in SUBSETS}
    shipped = open_bundle(shipped_bundle())
    description = {
        k: getattr(shipped.manifest, k)
        for k in ("name", "version", "training_data", "intended_use", "limits", "detector")
    }
    write_bundle(
        tmp_path / "bundle",
        tensors={"fusion.safetensors": trained.state},
        texts={"vocabulary.txt": trained.vocabulary},
        description={**description, "fusion": trained.config, "metrics": trained.metrics},
    )
    again = FusionClassifier(open_bundle(tmp_path / "bundle"), device="cpu")
    assert sum(again.diagnose(_evidence(1)[1]).probabilities.values()) == pytest.approx(1)


def test_training_on_nobody_says_so():
    with pytest.raises(InvalidInput, match="expected patients to train on"):
        train_fusion(FusionTraining(patients=0, calibration=0), None, None, lambda _: None)
