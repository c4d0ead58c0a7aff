"""Images of parts that the detector was not made for, by their own words."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from bonetumor.detection.scope import BEYOND_LIMBS, describe_beyond
from bonetumor.weights.bundle import open_bundle, synthetic_bundle
from bonetumor.worker.loose import assess_file
from bonetumor.worker.thinking import load_model
from kit import studies

REFERENCE = studies.render(studies.patient(1).radiograph).reference


@pytest.fixture(scope="module")
def bundle():
    return open_bundle(synthetic_bundle())


@pytest.fixture(scope="module")
def model(bundle):
    return load_model(bundle, device="cpu")


@pytest.mark.parametrize("part", ["CHEST", "chest", "CHEST L", "SKULL", "LSPINE"])
def test_head_and_trunk_are_beyond_limbs(part):
    said = describe_beyond(replace(REFERENCE, body_part=part), BEYOND_LIMBS)
    assert part.split(" ")[0].upper() in said


@pytest.mark.parametrize("part", ["", "KNEE R", "SHOULDER", "HIP", "PELVIS", "LEFT CHEST WALL 2V"])
def test_limbs_their_joints_and_words_that_are_no_defined_term_are_not(part):
    assert describe_beyond(replace(REFERENCE, body_part=part), BEYOND_LIMBS) == ""


def assessed(folder: Path, part: str, model):
    image = studies.dataset(1)
    image.BodyPartExamined = part
    image.save_as(folder / f"{part}.dcm", enforce_file_format=True)
    return assess_file(folder / f"{part}.dcm", model)


def test_a_chest_keeps_its_boxes_and_gets_no_class(model, tmp_path):
    femur, chest = (assessed(tmp_path, part, model) for part in ("FEMUR", "CHEST"))
    assert femur["lesions"] == chest["lesions"]
    assert femur["lesions"]
    assert not femur["diagnosis"]["out_of_distribution"]
    assert femur["notes"] == []
    assert chest["diagnosis"]["out_of_distribution"]
    assert chest["diagnosis"]["abstained"]
    assert "unlike those the model was trained on" in chest["diagnosis"]["reason"]
    assert chest["notes"] == ["an image is, as it says, CHEST: the model was not made for that"]


@pytest.mark.parametrize(("file", "kind"), [("CT_small.dcm", "CT"), ("MR_small.dcm", "MR")])
def test_a_real_slice_gets_no_class_from_a_model_of_radiographs(model, file, kind):
    row = assess_file(Path(get_testdata_file(file, download=False)), model)
    assert row["diagnosis"]["out_of_distribution"]
    assert row["diagnosis"]["abstained"]
    assert kind in row["notes"][0]


def test_a_bundle_may_say_what_it_was_not_made_for(bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(bundle.manifest.detector, "beyond", ["FEMUR"])
    model = load_model(bundle, device="cpu")
    femur, chest = (assessed(tmp_path, part, model) for part in ("FEMUR", "CHEST"))
    assert femur["diagnosis"]["out_of_distribution"]
    assert not chest["diagnosis"]["out_of_distribution"]
