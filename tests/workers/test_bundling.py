"""The whole of training from seeds, at a size that says nothing of how well it works."""

import json
from dataclasses import replace
from functools import partial

import pytest
from PIL import Image

from bonetumor.cohort.fingerprint import fingerprint_files
from bonetumor.cohort.record import read_cohort
from bonetumor.cohort.sources import SOURCES, CohortSource, read_sources, write_sources
from bonetumor.detection.train import DetectorTraining
from bonetumor.domain.errors import InvalidInput
from bonetumor.weights.bundle import open_bundle
from bonetumor.weights.intended_use import IntendedUse
from bonetumor.worker import bundling
from bonetumor.worker.bundling import BundlePlan, Round, make_bundle
from bonetumor.worker.drawing import CohortPlan, make_cohort
from bonetumor.worker.thinking import verify_bundle
from bonetumor.worker.training import Start, TrainedParts


@pytest.fixture
def small(monkeypatch):
    """Two rounds of small pictures."""
    training = DetectorTraining(image_size_px=160, epochs=1, batch=8)
    rounds = tuple(
        Round(
            cohort=CohortPlan(
                patients=12, normals=4, seed=seed, longest_px=240, validation_share=0.25
            ),
            training=replace(training, seed=seed),
        )
        for seed in (1, 2)
    )
    monkeypatch.setattr(bundling, "ROUNDS", rounds)
    for name in ("CASES", "APART", "NORMALS"):
        monkeypatch.setattr(bundling, name, replace(getattr(bundling, name), longest_px=240))


def test_everything_from_seeds_and_nothing_twice(tmp_path, small):
    plan, said = BundlePlan(out=tmp_path / "out", work=tmp_path / "work", scale=0.001), []
    make_bundle(plan, said.append)
    assert "networks run" in verify_bundle(plan.out)
    made = open_bundle(plan.out).manifest
    assert made.detector["training"]["cohort"] == "phantom-2"
    assert made.detector["training"]["started_from"] == "phantom-1"
    assert made.version == "synthetic-unnamed"
    assert made.intended_use == "research"
    assert "synthetic patients only" in made.training_data
    untuned = open_bundle(plan.work / "untuned").manifest
    assert untuned.files["detector.safetensors"] == made.files["detector.safetensors"]
    assert untuned.files["fusion.safetensors"] != made.files["fusion.safetensors"]
    assert made.fusion["calibrated_on"] == f"phantom-{bundling.APART.seed}"
    seeds = (1, 2, bundling.CASES.seed, bundling.APART.seed, bundling.NORMALS.seed)
    _states_its_recipe(made, plan, seeds)
    assert sorted(plan.work.glob("phantom-*")) == sorted(
        plan.work / f"phantom-{seed}" for seed in seeds
    )
    before = {f: f.stat().st_mtime_ns for f in plan.work.rglob("best.pt")}
    said.clear()
    make_bundle(plan, said.append)
    assert {f: f.stat().st_mtime_ns for f in plan.work.rglob("best.pt")} == before
    assert sum("trained already" in text for text in said) == 2
    assert open_bundle(plan.out).manifest.files == made.files


def _states_its_recipe(made, plan, seeds):
    """Every cohort that was learnt from stands in it by seed and hashes, and is a source."""
    recipe = made.recipe
    assert recipe["drawn"].keys() == {f"phantom-{seed}" for seed in seeds}
    assert recipe["drawn"]["phantom-2"]["patients"] == 12
    steps = [
        *recipe["detector"],
        *(recipe[k] for k in ("operating_point", "fusion", "calibration")),
    ]
    assert [step["cohort"] for step in steps] == [
        "phantom-1",
        "phantom-2",
        *(f"phantom-{getattr(bundling, name).seed}" for name in ("NORMALS", "CASES", "APART")),
    ]
    assert [step["training"]["seed"] for step in recipe["detector"]] == [1, 2]
    for step in steps:
        folder = plan.work / step["cohort"]
        files = [p for name in ("images", "slides", "fhir") for p in (folder / name).iterdir()]
        assert step["files_sha256"] == fingerprint_files(files)
    assert {s.name for s in made.sources} == {f"phantom, seed {seed}" for seed in seeds}
    assert {s.files_sha256 for s in made.sources} == {step["files_sha256"] for step in steps}
    assert all(s.licence_confirmed and s.kind == "synthetic" for s in made.sources)
    assert str(plan.work) not in json.dumps(recipe)


def test_weights_of_a_cohort_name_its_sources_and_say_which_differs(tmp_path, monkeypatch):
    small = partial(DetectorTraining, image_size_px=160, epochs=1, batch=8)
    monkeypatch.setattr(bundling, "DetectorTraining", small)
    folder, said = tmp_path / "hospital", []
    list(
        make_cohort(
            CohortPlan(patients=24, normals=8, seed=5, longest_px=240, validation_share=0.25),
            folder,
        )
    )
    source = CohortSource(
        name="Hospital A",
        kind="real",
        credit="A. Author, 2024",
        licence="CC-BY-4.0",
        licence_confirmed=True,
        changes="reduced",
        files_sha256="0" * 64,
    )
    write_sources(folder, [source])
    plan = BundlePlan(
        out=tmp_path / "out",
        work=tmp_path / "work",
        cohort=folder,
        version="own-1",
        training_data="patients of hospital A",
        intended_use=IntendedUse.CLINICAL,
        scale=0.01,
    )
    make_bundle(plan, said.append)
    assert any(
        text.startswith("source differs: Hospital A: expected files_sha256") for text in said
    )
    bundle = open_bundle(plan.out)
    [ours] = bundle.manifest.sources
    assert (ours.name, ours.credit, ours.changes) == ("Hospital A", "A. Author, 2024", "reduced")
    assert ours.files_sha256 == bundle.manifest.recipe["fusion"]["files_sha256"] != "0" * 64
    assert ours.counts["patients"] == 32
    assert "Hospital A" in bundle.manifest.recipe["fusion"]["differing"][0]
    assert "A. Author, 2024" in bundle.text("CREDITS.md")
    assert bundle.manifest.intended_use is IntendedUse.CLINICAL
    assert "Not validated for clinical use" not in bundle.manifest.limits


def test_synthetic_weights_are_never_claimed_for_clinical_use(tmp_path):
    plan = BundlePlan(out=tmp_path, work=tmp_path, intended_use=IntendedUse.CLINICAL)
    with pytest.raises(InvalidInput, match="expected --cohort with patients"):
        make_bundle(plan, print)


def test_a_cohort_that_was_drawn_with_other_normals_is_named(tmp_path, small, monkeypatch):
    normals, said = tmp_path / "normals", []
    normals.mkdir()
    for number in range(3):
        Image.effect_noise((300, 300), 60).save(normals / f"{number}.png")
    plan = BundlePlan(
        out=tmp_path / "out", work=tmp_path / "work", scale=0.001, real_normals=normals
    )

    def stop(*_):
        raise InvalidInput("seen enough")

    monkeypatch.setattr(bundling.training, "fit_detector", stop)
    for differing in (0, 2):
        with pytest.raises(InvalidInput, match="seen enough"):
            make_bundle(plan, said.append)
        assert sum("source differs: phantom-1: drawn with" in text for text in said) == differing
        (normals / "1.png").unlink(missing_ok=True)
    phantom, pictures = read_sources(plan.work / "phantom-1")
    assert (phantom.kind, phantom.licence_confirmed) == ("synthetic", True)
    assert (pictures.name, pictures.licence_confirmed, pictures.files) == ("normals", False, ())
    assert pictures.counts == {"pictures": 3}
    (tmp_path / SOURCES).write_text(
        json.dumps([pictures.model_dump(mode="json", exclude_none=True) | {"files": ["normals/*"]}])
    )
    with pytest.raises(InvalidInput, match="seen enough"):
        make_bundle(plan, said.append)
    assert any(text.startswith("source differs: normals: expected files_sha256") for text in said)


def test_rounds_go_on_from_the_width_of_what_they_start_from(tmp_path, monkeypatch):
    drawn = []

    def stop(_plan, size, _say):
        drawn.append(size.seed)
        raise InvalidInput("seen enough")

    monkeypatch.setattr(bundling, "_drawn", stop)
    starts = {"yolov5n.yaml": 808, "yolov5s.yaml": 1414, None: 7}
    for architecture, seed in starts.items():
        start = architecture and Start(name="own", architecture=architecture, weights={})
        monkeypatch.setattr(bundling.training, "detector_of", lambda _, start=start: start)
        with pytest.raises(InvalidInput, match="seen enough"):
            make_bundle(BundlePlan(out=tmp_path, work=tmp_path), print)
        assert drawn.pop() == seed
    other = Start(name="own", architecture="yolov5x.yaml", weights={})
    monkeypatch.setattr(bundling.training, "detector_of", lambda _: other)
    with pytest.raises(InvalidInput, match=r"yolov5s.yaml'\], got yolov5x.yaml"):
        make_bundle(BundlePlan(out=tmp_path, work=tmp_path), print)


def _stopped(monkeypatch, start):
    """The plan and weights that the detector's training is asked for first."""
    asked = []

    def stop(_cohort, plan, _work, start, _say):
        asked.append((plan, start))
        raise InvalidInput("seen enough")

    monkeypatch.setattr(bundling, "_drawn", lambda *_: None)
    monkeypatch.setattr(bundling.training, "open_cohort", lambda *_: None)
    monkeypatch.setattr(bundling.training, "fit_detector", stop)
    monkeypatch.setattr(bundling.training, "detector_of", lambda _: start)
    return asked


@pytest.mark.parametrize("width", ["n", "s", "x"])
def test_weights_of_others_begin_the_first_round_in_their_width(tmp_path, monkeypatch, width):
    wide = f"yolov5{width}.yaml"
    start = Start(name="coco", architecture=wide, weights={}, goes_on=False)
    asked = _stopped(monkeypatch, start)
    with pytest.raises(InvalidInput, match="seen enough"):
        make_bundle(BundlePlan(out=tmp_path, work=tmp_path), print)
    assert asked == [(replace(bundling.ROUNDS[0].training, architecture=wide), start)]
    widths = {each.training.architecture for each in bundling._rounds_from(start)}
    assert widths == ({"yolov5n.yaml", "yolov5s.yaml"} if width == "n" else {wide})


@pytest.mark.parametrize(("goes_on", "rate"), [(True, 0.0005), (False, 0.0015)])
def test_a_new_head_learns_at_the_rate_of_a_beginning(tmp_path, monkeypatch, goes_on, rate):
    start = Start(name="own", architecture="yolov5m.yaml", weights={}, goes_on=goes_on)
    asked = _stopped(monkeypatch, start)
    named = {"version": "own-1", "training_data": "nobody"}
    with pytest.raises(InvalidInput, match="seen enough"):
        make_bundle(BundlePlan(out=tmp_path, work=tmp_path, cohort=tmp_path, **named), print)
    plan = replace(DetectorTraining(), architecture="yolov5m.yaml", learning_rate=rate)
    assert asked == [(plan, start)]


def test_trained_parts_are_read_first_and_reach_the_fusion_network(tmp_path, monkeypatch):
    absent = TrainedParts(biobert=tmp_path / "absent")
    plan = BundlePlan(out=tmp_path, work=tmp_path, parts=absent)
    asked = _stopped(monkeypatch, None)
    with pytest.raises(InvalidInput, match="--biobert: expected a BERT"):
        make_bundle(plan, print)
    assert not asked
    monkeypatch.setattr(bundling, "open_bundle", lambda _: None)
    monkeypatch.setattr(bundling, "join", lambda *_: None)
    monkeypatch.setattr(bundling.training, "fit_fusion", lambda *_told, parts: asked.append(parts))
    bundling._join(plan, None, tmp_path, tmp_path, bundling.SYNTHETIC, print)
    assert asked == [absent]


def test_validation_is_spread_evenly(tmp_path):
    plan = CohortPlan(patients=10, normals=4, seed=3, longest_px=160, validation_share=0.5)
    assert list(make_cohort(plan, tmp_path))[-1] == 14
    records = read_cohort(tmp_path).patients
    assert [r.split for r in records] == ["train", "validation"] * 7
