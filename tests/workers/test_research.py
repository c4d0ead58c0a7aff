"""Training, evaluation and bundles from the command line, as a researcher would use them."""

import csv
import hashlib
import json
import math
import shutil

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bonetumor.cohort.record import ImageRecord, PatientRecord, read_cohort, write_cohort
from bonetumor.detection.train import (
    DetectorTraining,
    LabelledPicture,
    read_checkpoint,
    train_detector,
)
from bonetumor.detection.vision import load_ultralytics
from bonetumor.detection.yolo import YoloDetector
from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.weights.bundle import open_bundle, synthetic_bundle
from bonetumor.worker import bundling, training
from bonetumor.worker.evaluating import Predictions, predict
from bonetumor.worker.finishing import BundleText
from bonetumor.worker.loose import assess_file, read_images
from bonetumor.worker.thinking import load_model
from kit.cohorts import copied, run

SYNTHETIC = ("--bundle", synthetic_bundle())


def test_evaluation_writes_figures_page_and_card(made, tmp_path):
    def all_test(records):
        return [r.model_copy(update={"split": "test"}) for r in records]

    folder = copied(made, tmp_path, all_test)
    other_seed = tmp_path / "other-seed"
    few = ("--patients", "2", "--normals", "0", "--seed", "5", "--longest-px", "320")
    assert run("cohort", "make", other_seed, *few, "--validation-share", "0").exit_code == 0
    other_test = read_cohort(other_seed).patients
    write_cohort(other_seed, all_test(other_test))
    both = tmp_path / "both"
    said = run("cohort", "join", both, folder, other_seed)
    assert "15 patients of 2 cohorts" in said.output
    (folder / read_cohort(folder).patients[0].images[0].file).write_bytes(b"corrupt")
    strange = tmp_path / "strange"
    strange.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(strange / "coloured.png")
    Image.fromarray(noise[..., 0]).save(strange / "grey.png")
    named = ("--version", "other-1", "--training-data", "nobody", *SYNTHETIC)
    shipped = open_bundle(synthetic_bundle())
    (tmp_path / "work").mkdir()
    weights = {k: t * 0 for k, t in shipped.tensors("fusion.safetensors").items()}
    save_file(weights, tmp_path / "work" / "fusion.safetensors")
    config = {**shipped.manifest.fusion, "training": {"seed": 5}}
    kept = {"vocabulary": shipped.text("vocabulary.txt"), "config": config, "metrics": {}}
    (tmp_path / "work" / "fusion.json").write_text(json.dumps(kept))
    other = tmp_path / "other"
    assert run("models", "join", tmp_path / "work", other, *named).exit_code == 0
    said = run(
        *("evaluate", "--cohort", both, "--out", tmp_path / "out", "--strange", strange),
        *("--compare", other, *SYNTHETIC),
    )
    assert said.exit_code == 0, said.output
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert result["cohort"]["patients"] == 15
    assert result["origin"] == "synthetic"
    assert set(result["centres"]["each"]) == {"phantom, seed 4", "phantom, seed 5"}
    assert set(result["sources"]) == {"phantom, seed 4", "phantom, seed 5"}
    normals = [s["detection"]["normal_images"] for s in result["sources"].values()]
    assert sum(normals) == result["detection"]["normal_images"]
    assert any("expected DICOM" in p for p in result["cohort"]["not_used"])
    assert result["detection"]["normal_images"] == 3
    assert 0 <= result["detection"]["map50"]["value"] <= 1
    assert "pathology" in result["classification"]["subsets"]
    comparison = result["classification"]["comparison"]
    assert [m["version"] for m in comparison["models"]] == [shipped.manifest.version, "other-1"]
    for name, subset in comparison["subsets"].items():
        first, second = subset["models"]
        measured = result["classification"]["subsets"][name]
        assert first["auc"]["value"] == pytest.approx(measured["auc"]["value"])
        assert second["auc"]["value"] == 0.5  # all weights zero: every case alike
        assert second["auc"]["from_first"]["value"] == pytest.approx(0.5 - first["auc"]["value"])
        assert subset["designs"]["tokens"]["models"] == 2
    assert result["out_of_distribution"]["refused_by_rule"] == 1
    assert result["out_of_distribution"]["auroc"] == 1.0
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("data:image/png") >= 1
    assert "synthetic" in page
    assert "Fusion networks beside each other" in page
    assert "phantom, seed 5" in page
    assert "Trained on: synthetic" in (tmp_path / "out" / "model-card.md").read_text()


def test_a_class_that_no_patient_has_is_named_and_the_rest_is_measured(made, tmp_path):
    def without(records):
        kept = [r for r in records if r.tumour_class != "malignant"]
        return [r.model_copy(update={"split": "test"}) for r in kept]

    folder = copied(made, tmp_path, without)
    said = run("evaluate", "--cohort", folder, "--out", tmp_path / "out", *SYNTHETIC)
    assert said.exit_code == 0, said.output
    assert "no synthetic patient is malignant" in said.output
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    counts = result["classification"]["by_class"]
    assert list(counts) == ["benign", "intermediate", "malignant"]
    assert min(counts["benign"], counts["intermediate"]) > counts["malignant"] == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert "malignant 0." in page
    assert "A class without patients counts with nought" in page


def test_an_empty_split_and_an_absent_cohort_say_so(made, tmp_path):
    with pytest.raises(InvalidInput, match="expected a readable"):
        run("evaluate", "--cohort", tmp_path, "--out", tmp_path / "out")

    def none_in_test(records):
        return [r.model_copy(update={"split": "train"}) for r in records]

    folder = copied(made, tmp_path, none_in_test)
    with pytest.raises(InvalidInput, match="expected patients in the test split"):
        run("evaluate", "--cohort", folder, "--out", tmp_path / "out")


def test_evaluation_and_loose_files_give_the_same_boxes_and_probabilities(made):
    cohort = read_cohort(made)
    bundle = open_bundle(synthetic_bundle())
    measuring = load_model(bundle, device="cpu", least_score=0.01)
    serving = load_model(bundle, device="cpu")
    threshold = float(bundle.manifest.detector["score_threshold"])
    compared = 0
    for record in cohort.patients:
        if len(record.images) != 1 or record.is_normal:
            continue
        predictions = Predictions()
        alone = record.model_copy(update={"slides": (), "labs": ()})
        predict(cohort, alone, measuring, threshold, predictions)
        row = assess_file(made / record.images[0].file, serving)
        ours = sorted(f for f in predictions.images[0].found if f[1] >= threshold)
        served = sorted((tuple(r["box"]), r["score"]) for r in row["lesions"])
        assert [tuple(o) for o in ours] == served
        if served:
            said = row["diagnosis"]["probabilities"]
            ours = predictions.cases[0].probabilities["image"]
            assert ours == tuple(said[str(c)] for c in TumourClass)
            compared += 1
    assert compared


def _pictures(count, side=160):
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 60, (side, side)).astype(np.uint8)
        x, y = (int(v) for v in rng.integers(10, side - 60, 2))
        pixels[y : y + 40, x : x + 40] = 220
        box = (float(x), float(y), float(x + 40), float(y + 40))
        yield LabelledPicture(name=str(number), pixels=pixels, boxes=(box,) if number % 4 else ())


def test_a_detector_is_trained_and_a_finished_run_is_not_repeated(tmp_path):
    plan = DetectorTraining(image_size_px=160, epochs=1, batch=8, augmentation=0.5)
    said, threads = [], torch.get_num_threads()
    best = train_detector(plan, _pictures(16), _pictures(8), tmp_path, said.append)
    assert best.is_file()
    varied = torch.load(best, weights_only=False)["train_args"]
    assert (varied["degrees"], varied["mosaic"], varied["fliplr"]) == (6.0, 0.15, 0.5)
    assert torch.get_num_threads() == threads
    assert any("epoch 1 of 1" in text for text in said)
    again = []
    assert train_detector(plan, iter(()), iter(()), tmp_path, again.append) == best
    assert "trained already" in again[0]


def test_the_rate_falls_with_every_step_and_the_last_weights_are_averaged(tmp_path, monkeypatch):
    load_ultralytics()
    from bonetumor.detection.trainer import BoneTrainer

    steps, step = [], BoneTrainer.optimizer_step
    monkeypatch.setattr(
        BoneTrainer, "optimizer_step", lambda trainer: (steps.append(trainer), step(trainer))
    )
    plan = DetectorTraining(image_size_px=160, epochs=2, batch=2, learning_rate=0.001)
    train_detector(plan, _pictures(20), _pictures(4), tmp_path, lambda _: None)
    with (tmp_path / "run" / "results.csv").open() as results:
        rates = [float(row["lr/pg0"]) for row in csv.DictReader(results)]
    # At the last of ten steps an epoch; in the end the parent would be at 0.000505.
    assert rates == pytest.approx([0.001 * (0.99 * (1 - k / 20) + 0.01) for k in (9, 19)])
    assert [steps[-1].ema.decay(n) for n in (1, 2, 20)] == [0.5, 0.5, 0.5]  # two steps of twenty


def test_training_begins_with_the_tensors_of_a_file(made, tmp_path):
    load_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    state = DetectionModel("yolov5n.yaml", ch=3, nc=80, verbose=False).state_dict()
    floats = {k: v for k, v in state.items() if v.is_floating_point() and ".24." not in k}
    save_file(floats, tmp_path / "coco.safetensors")
    cohort = copied(
        made,
        tmp_path,
        lambda records: [
            r.model_copy(update={"split": "validation" if n % 2 else "train"})
            for n, r in enumerate(records)
        ],
    )
    wanted = ("train", "detector", "--cohort", cohort, "--work", tmp_path / "work", "--epochs", "1")
    wanted = (*wanted, "--image-size", "64", "--batch", "2", "--learning-rate", "1e-9")
    said = run(*wanted, "--start-from", tmp_path / "coco.safetensors")
    assert said.exit_code == 0, said.output
    assert "taken: 285 of 285 tensors; head starts new" in said.output
    noted = json.loads((tmp_path / "work" / "training.json").read_text())
    assert (noted["architecture"], noted["started_from"]) == ("yolov5n.yaml", "coco.safetensors")
    best = read_checkpoint(tmp_path / "work" / "run" / "weights" / "best.pt")
    stem = floats["model.0.conv.weight"].sum(dim=1, keepdim=True)
    assert torch.allclose(best["model.0.conv.weight"], stem, atol=1e-3)


def test_a_narrower_network_cannot_start_from_a_wider_one(tmp_path):
    plan = DetectorTraining(image_size_px=160, epochs=1, batch=8)
    wider = {"model.0.conv.weight": torch.zeros(32, 1, 6, 6)}
    with pytest.raises(InvalidInput, match=r"expected weights of yolov5n\.yaml, or of a narrower"):
        train_detector(plan, _pictures(2), _pictures(1), tmp_path, print, start_from=wider)


def test_a_checkpoint_becomes_a_bundle_with_its_detector(made, tmp_path):
    plan = DetectorTraining(image_size_px=160, epochs=1, batch=8)
    best = train_detector(plan, _pictures(16), _pictures(8), tmp_path / "work", lambda _: None)
    note = tmp_path / "work" / "training.json"
    note.write_text(json.dumps({"image_size_px": 160, "architecture": "yolov5n.yaml"}))
    cohort = copied(
        made,
        tmp_path,
        lambda records: [
            r.model_copy(update={"split": "validation" if n % 2 else "train"})
            for n, r in enumerate(records)
        ],
    )
    trained_on = next(r for r in read_cohort(cohort).patients if r.split == "train")
    chest = pydicom.dcmread(cohort / trained_on.images[0].file)
    chest.BodyPartExamined = "CHEST"
    chest.save_as(cohort / trained_on.images[0].file)
    named = ("--cohort", cohort, "--version", "own-1", "--training-data", "squares", *SYNTHETIC)
    assert run("models", "convert", best, tmp_path / "bundle", *named).exit_code == 0
    bundle, shipped = open_bundle(tmp_path / "bundle"), open_bundle(synthetic_bundle())
    assert bundle.manifest.detector["image_size_px"] == 160
    assert bundle.manifest.detector["mirrored"]
    beyond = bundle.manifest.detector["beyond"]
    assert "CHEST" not in beyond
    assert {"SKULL", "CT"} <= set(beyond)
    assert "detector: squares; all else: synthetic" in bundle.manifest.training_data
    assert bundle.manifest.intended_use == "research"
    sources = {s.name: s for s in bundle.manifest.sources}
    before = {s.name for s in shipped.manifest.sources}
    assert sources.keys() == before | {"checkpoint best.pt", "phantom, seed 4"}
    assert [n for n, s in sources.items() if not s.licence_confirmed] == ["checkpoint best.pt"]
    assert bundle.manifest.recipe["base"]["sha256"] == shipped.manifest.sha256
    for name, tensor in shipped.tensors("fusion.safetensors").items():
        assert np.array_equal(bundle.tensors("fusion.safetensors")[name], tensor)
    assert "networks run" in run("models", "verify", tmp_path / "bundle").stdout
    no_checkpoint = tmp_path / "no.pt"
    no_checkpoint.write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidInput, match="expected one of ultralytics"):
        run("models", "convert", no_checkpoint, tmp_path / "other", *named)
    with pytest.raises(InvalidInput, match="expected images in the validation split"):
        run("models", "convert", best, tmp_path / "other", "--cohort", made, *named[2:])


def _all_validate(records):
    return [r.model_copy(update={"split": "validation"}) for r in records]


def test_the_operating_point_is_set_anew_on_another_cohort(made, tmp_path):
    out, shipped = tmp_path / "tuned", open_bundle(synthetic_bundle())
    cohort = copied(made, tmp_path, _all_validate)
    named = ("--cohort", cohort, "--version", "own-2", *SYNTHETIC)
    assert run("models", "tune", out, *named, "--intended-use", "clinical").exit_code == 0
    tuned = open_bundle(out)
    assert tuned.manifest.intended_use == "clinical"
    assert BundleText.of(tuned, "own-3").intended_use == "research"  # it is claimed anew, or not
    assert tuned.manifest.version == "own-2"
    assert tuned.manifest.training_data == shipped.manifest.training_data
    assert tuned.manifest.fusion == shipped.manifest.fusion
    assert tuned.manifest.metrics == shipped.manifest.metrics
    for name in ("detector.safetensors", "fusion.safetensors"):
        ours, theirs = (b.tensors(name) for b in (tuned, shipped))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    changed = {k for k, v in tuned.manifest.detector.items() if v != shipped.manifest.detector[k]}
    assert changed == {"score_threshold"}
    detector = YoloDetector(tuned, device="cpu")
    normals = [r for r in read_cohort(made).patients if r.is_normal]
    images = [i for r in normals for i in read_images(made / r.images[0].file)]
    assert sum(len(detector.detect(i).detections) for i in images) <= 0.1 * len(images)


def test_probabilities_are_calibrated_anew_on_another_cohort(made, tmp_path):
    out, shipped = tmp_path / "calibrated", open_bundle(synthetic_bundle())
    folder = copied(made, tmp_path, _all_validate)
    named = ("--cohort", folder, "--version", "own-4", *SYNTHETIC)
    assert run("models", "calibrate", out, *named).exit_code == 0
    calibrated = open_bundle(out)
    assert calibrated.manifest.version == "own-4"
    assert calibrated.manifest.intended_use == "research"
    assert "phantom, seed 4" in calibrated.text("CREDITS.md")
    assert calibrated.manifest.detector == shipped.manifest.detector
    for name in ("detector.safetensors", "fusion.safetensors", "vocabulary.txt"):
        assert calibrated.manifest.files[name] == shipped.manifest.files[name]
    ours, theirs = calibrated.manifest.fusion, shipped.manifest.fusion
    assert {k for k, v in ours.items() if v != theirs.get(k)} == {
        "temperatures",
        "biases",
        "least_probabilities",
        "greatest_energies",
        "calibrated_on",
    }
    # Of ten patients no class has the nine that a set of 90 % needs to leave it out.
    assert {p for least in ours["least_probabilities"].values() for p in least.values()} == {0.0}
    assert _surprise(folder, calibrated) <= _surprise(folder, shipped)
    write_cohort(
        folder, [r.model_copy(update={"split": "train"}) for r in read_cohort(folder).patients]
    )
    with pytest.raises(InvalidInput, match="expected patients to calibrate with, got none"):
        run("models", "calibrate", out, *named)


def _surprise(folder, bundle):
    """The negative log-likelihood of the truth over every pattern and patient."""
    model, predictions = load_model(bundle, device="cpu"), Predictions()
    cohort = read_cohort(folder)
    threshold = float(bundle.manifest.detector["score_threshold"])
    for record in cohort.patients:
        predict(cohort, record, model, threshold, predictions)
    return -sum(
        math.log(probabilities[case.truth])
        for case in predictions.cases
        for probabilities in case.probabilities.values()
    )


def test_no_operating_point_without_normals(made, tmp_path):
    def tumours_validate(records):
        return [
            r.model_copy(update={"split": "train" if r.is_normal else "validation"})
            for r in records
        ]

    folder = copied(made, tmp_path, tumours_validate)
    with pytest.raises(InvalidInput, match="expected normal patients in the validation split"):
        run("models", "tune", tmp_path / "out", "--cohort", folder, "--version", "own-3")


def test_training_a_detector_on_nothing_says_so(tmp_path):
    with pytest.raises(InvalidInput, match="expected pictures for train, got none"):
        train_detector(DetectorTraining(), iter(()), _pictures(1), tmp_path, lambda _: None)


@pytest.mark.parametrize(
    ("flags", "frozen"), [((), None), (("--freeze",), True), (("--fine-tune",), False)]
)
def test_both_commands_take_trained_parts_of_the_fusion_network(
    made, tmp_path, monkeypatch, flags, frozen
):
    asked = []

    class Fitted:
        metrics = "fitted"

    def fit(*_told, parts):
        asked.append(parts)
        return Fitted

    monkeypatch.setattr(training, "fit_fusion", fit)
    monkeypatch.setattr(bundling, "make_bundle", lambda plan, _say: asked.append(plan.parts))
    trained = ("--biobert", tmp_path / "biobert", "--resnet-weights", tmp_path / "a.pth", *flags)
    assert run("train", "fusion", "--cohort", made, "--work", tmp_path, *trained).exit_code == 0
    assert run("train", "bundle", tmp_path / "out", *trained).exit_code == 0
    parts = training.TrainedParts(
        biobert=tmp_path / "biobert", resnet=tmp_path / "a.pth", frozen=frozen
    )
    assert asked == [parts, parts]


def test_a_real_cohort_must_say_what_it_is(made, tmp_path):
    with pytest.raises(InvalidInput, match="--training-data"):
        run("train", "bundle", tmp_path / "b", "--cohort", made, "--work", tmp_path / "w")


def test_drawn_patients_say_that_they_are_synthetic(made):
    assert all(record.is_synthetic for record in read_cohort(made).patients)


def test_an_imported_cohort_can_be_checked(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.new("L", (60, 60)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    Image.new("L", (60, 60)).save(tmp_path / "images" / "b.png")
    said = run("cohort", "import", "yolo", tmp_path, "--unlabelled-are-normal").output
    assert "2 patients, 0 problems" in said
    assert "1 patients, 1 problems" in run("cohort", "import", "yolo", tmp_path).output
    assert read_cohort(tmp_path).patients == (
        PatientRecord(
            patient="images/a.png",
            origin="real",
            images=(ImageRecord(file="images/a.png", boxes=((15, 15, 45, 45),)),),
        ),
    )
    assert "1 images, 0 problems" in run("cohort", "check", tmp_path).stdout
    assert run("cohort", "import", "dicomdir", tmp_path).exit_code == 2


def test_lists_of_btxrd_s_names_are_given_to_its_import(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "dataset.csv").write_text("image_id,center,age,tumor\n1.png,1,5,0\n2.png,1,6,0\n")
    lists = []
    for number in (1, 2):
        Image.new("L", (60, 60)).save(tmp_path / "images" / f"{number}.png")
        names = tmp_path / f"{number}.csv"
        names.write_text(f"image_id,Original Name\n{number}.png,b1-M-5-x-{number}.jpeg\n")
        lists += ["--names", names]
    assert run("cohort", "import", "btxrd", tmp_path, *lists).exit_code == 0
    assert [r.group for r in read_cohort(tmp_path).patients] == ["btxrd-00001"] * 2


def test_models_are_listed_shown_and_verified(tmp_path):
    shutil.copytree(synthetic_bundle(), tmp_path / "spoilt")
    (tmp_path / "spoilt" / "vocabulary.txt").write_text("x")
    listed = run("models", "list", tmp_path).stdout
    assert "synthetic" in listed
    assert "research" in listed
    assert "not usable" in listed
    shown = run("models", "show", synthetic_bundle())
    assert json.loads(shown.stdout)["intended_use"] == "research"
    assert "Abedeen et al., Scientific Data 10, 521, 2023" in shown.stderr
    manifest = tmp_path / "spoilt" / "manifest.json"
    older = json.loads(manifest.read_text()) | {"intended_use": "Clinical trials."}
    older["files"]["vocabulary.txt"] = hashlib.sha256(b"x").hexdigest()
    manifest.write_text(json.dumps(older))
    shown = json.loads(run("models", "show", tmp_path / "spoilt").stdout)
    assert shown["intended_use"] == "research"
    assert shown["intended_use_statement"] == "Clinical trials."
    assert "networks run" in run("models", "verify").stdout
