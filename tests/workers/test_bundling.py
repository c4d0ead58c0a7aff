"""The whole of training from seeds, at a size that says nothing of how well it works."""

from dataclasses import replace

import pytest

from bonetumor.cohort.record import read_cohort
from bonetumor.detection.train import DetectorTraining
from bonetumor.domain.errors import InvalidInput
from bonetumor.weights.bundle import open_bundle
from bonetumor.worker import bundling
from bonetumor.worker.bundling import BundlePlan, Round, make_bundle
from bonetumor.worker.drawing import CohortPlan, make_cohort
from bonetumor.worker.thinking import verify_bundle
from bonetumor.worker.training import Start


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
    assert "synthetic patients only" in made.training_data
    untuned = open_bundle(plan.work / "untuned").manifest
    assert untuned.files["detector.safetensors"] == made.files["detector.safetensors"]
    assert untuned.files["fusion.safetensors"] != made.files["fusion.safetensors"]
    assert made.fusion["calibrated_on"] == f"phantom-{bundling.APART.seed}"
    seeds = (1, 2, bundling.CASES.seed, bundling.APART.seed, bundling.NORMALS.seed)
    assert sorted(plan.work.glob("phantom-*")) == sorted(
        plan.work / f"phantom-{seed}" for seed in seeds
    )
    before = {f: f.stat().st_mtime_ns for f in plan.work.rglob("best.pt")}
    said.clear()
    make_bundle(plan, said.append)
    assert {f: f.stat().st_mtime_ns for f in plan.work.rglob("best.pt")} == before
    assert sum("trained already" in text for text in said) == 2
    assert open_bundle(plan.out).manifest.files == made.files


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


def test_validation_is_spread_evenly(tmp_path):
    plan = CohortPlan(patients=10, normals=4, seed=3, longest_px=160, validation_share=0.5)
    assert list(make_cohort(plan, tmp_path))[-1] == 14
    records = read_cohort(tmp_path).patients
    assert [r.split for r in records] == ["train", "validation"] * 7
