"""What the fusion network learns on: the lesion where the detector finds it."""

import pytest
import torch

from bonetumor.cohort.record import read_cohort, write_cohort
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.image import BoundingBox
from bonetumor.domain.lesion import Detection
from bonetumor.fusion.evidence import Preparation, crop
from bonetumor.fusion.network import RESNET_50
from bonetumor.fusion.text import stand_in_vocabulary, tokenizer_from
from bonetumor.fusion.train import FusionTraining
from bonetumor.service.ports import Findings
from bonetumor.weights.bundle import open_bundle, synthetic_bundle
from bonetumor.worker import training
from bonetumor.worker.cohorts import load_images
from bonetumor.worker.drawing import CohortPlan, make_cohort

FAR = (0.0, 0.0, 3.0, 3.0)


class Scripted:
    """A detector that answers every image with the same boxes and scores."""

    def __init__(self, *answers):
        self.answers = answers

    def __call__(self, _bundle, device):
        return self

    def detect(self, image):
        found = (
            Detection(image=image.reference, box=_box(corners), score=score)
            for corners, score in self.answers
        )
        return Findings(detections=tuple(found), out_of_distribution=False)

    def detect_all(self, images):
        for image in images:
            yield image, self.detect(image)


def _box(corners):
    x0, y0, x1, y1 = corners
    return BoundingBox(x0=x0, y0=y0, x1=x1, y1=y1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A patient to learn on and one to calibrate with, of one image each."""
    folder = tmp_path_factory.mktemp("cohort")
    list(make_cohort(CohortPlan(patients=8, normals=0, seed=6, longest_px=240), folder))
    alone = [r for r in read_cohort(folder).patients if len(r.images) == 1 and r.images[0].boxes]
    parts = ("train", "validation")
    chosen = [r.model_copy(update={"split": p}) for r, p in zip(alone, parts, strict=False)]
    write_cohort(folder, chosen)
    return read_cohort(folder)


def _crops(cohort, monkeypatch, part, *answers):
    monkeypatch.setattr(training, "YoloDetector", Scripted(*answers))
    preparation = Preparation(96, 128, tokenizer_from(stand_in_vocabulary()))
    cases = training.Cases(cohort, preparation, open_bundle(synthetic_bundle()))
    made = cases.to_learn() if part == "train" else cases.to_calibrate()
    [(described, image)] = load_images(cohort, next(iter(cohort.of(part))), [])
    return [c.crop for c, _ in made], described.boxes[0], image


def _near(box):
    x0, y0, x1, y1 = box
    return (x0, y0, x1 + (x1 - x0) / 4, y1)


def _of(cohort, part):
    return next(iter(cohort.of(part))).images[0].boxes[0]


def test_it_learns_at_the_found_box_that_meets_the_true_one(cohort, monkeypatch):
    near = _near(_of(cohort, "train"))
    [seen], _, image = _crops(cohort, monkeypatch, "train", (FAR, 0.9), (near, 0.3))
    assert torch.equal(seen, crop(image.pixels, _box(near), 96))


@pytest.mark.parametrize("answers", [(), ((FAR, 0.9),)])
def test_where_nothing_meets_it_the_true_box_is_learnt_on(cohort, monkeypatch, answers):
    [seen], true, image = _crops(cohort, monkeypatch, "train", *answers)
    assert torch.equal(seen, crop(image.pixels, _box(true), 96))


def test_it_is_calibrated_at_the_surest_box_right_or_wrong(cohort, monkeypatch):
    near = _near(_of(cohort, "validation"))
    [seen], _, image = _crops(cohort, monkeypatch, "validation", (FAR, 0.9), (near, 0.3))
    assert torch.equal(seen, crop(image.pixels, _box(FAR), 96))


class Seen(Exception):
    pass


def _asked(cohort, tmp_path, monkeypatch, parts, **sizes):
    """The plan and the parts that the network's training is called with, and what is said."""
    asked, said = [], []

    def stop(plan, *_told, pretrained, **_named):
        asked.append((plan, pretrained))
        raise Seen

    monkeypatch.setattr(training, "YoloDetector", Scripted())
    monkeypatch.setattr(training, "train_fusion", stop)
    with pytest.raises(Seen):
        training.fit_fusion(
            cohort,
            FusionTraining(**sizes),
            open_bundle(synthetic_bundle()),
            tmp_path / "work",
            said.append,
            parts=parts,
        )
    return *asked.pop(), " ".join(said)


@pytest.fixture
def resnet(tmp_path):
    """A ResNet's folder, as a site may have one, but small."""
    from transformers import ResNetConfig, ResNetModel

    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
    ResNetModel(ResNetConfig(layer_type="basic", **sizes)).save_pretrained(tmp_path / "resnet")
    return tmp_path / "resnet"


@pytest.mark.parametrize(
    ("enough", "wanted", "frozen"),
    [(2, None, True), (1, None, False), (1, True, True), (2, False, False)],
)
def test_trained_parts_are_frozen_where_patients_are_few_unless_it_is_said(
    cohort, tmp_path, monkeypatch, resnet, enough, wanted, frozen
):
    assert training._ENOUGH == 2000
    monkeypatch.setattr(training, "_ENOUGH", enough)
    parts = training.TrainedParts(resnet=resnet, frozen=wanted)
    plan, pretrained, said = _asked(cohort, tmp_path, monkeypatch, parts)
    assert plan.frozen == frozen
    assert pretrained.resnet.sizes["hidden_sizes"] == [8, 8, 8, 8]
    few = f"{resnet} is frozen, for 1 patients to train on are fewer than 2 "
    assert (few in said) == (frozen and wanted is None)


def test_without_trained_parts_nothing_is_frozen(cohort, tmp_path, monkeypatch):
    plan, pretrained, said = _asked(cohort, tmp_path, monkeypatch, training.NO_PARTS)
    assert not plan.frozen
    assert pretrained.text is pretrained.resnet is None
    assert "frozen" not in said


def test_a_resnet_of_another_size_than_asked_for_is_refused(cohort, tmp_path, resnet):
    parts, plan = training.TrainedParts(resnet=resnet), FusionTraining(resnet=dict(RESNET_50))
    with pytest.raises(InvalidInput, match=r"that --resnet names.*\[8, 8, 8, 8\]"):
        training.read_parts(parts, plan)


def test_it_is_calibrated_without_an_image_where_nothing_is_found(cohort, monkeypatch):
    crops, _, _ = _crops(cohort, monkeypatch, "validation")
    assert crops == [None]
