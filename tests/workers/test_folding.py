"""A detector by cross-fitting: nobody answers for a picture that was learned from."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from bonetumor.cohort.record import ImageRecord, PatientRecord, read_cohort, write_cohort
from bonetumor.detection.train import DetectorTraining
from bonetumor.detection.yolo import YoloDetector
from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.evaluation.detection import ScoredImage, operating_point
from bonetumor.evaluation.folds import HeldImage, summarise_folds
from bonetumor.fusion.train import FusionTraining
from bonetumor.weights.bundle import open_bundle, synthetic_bundle
from bonetumor.worker import bundling, evaluating, finishing
from bonetumor.worker.evaluating import EvaluationPlan
from bonetumor.worker.finishing import BundleText
from bonetumor.worker.folding import (
    Fold,
    bundles_of,
    choose_threshold,
    convert_folds,
    fit_fold,
    fit_fusion_folds,
    folds_of,
)
from bonetumor.worker.loose import read_images

SIDE = 128
PLAN = DetectorTraining(
    image_size_px=64, content_px=SIDE, window_px=64, epochs=1, batch=4, normals=0.5
)
TEXT = BundleText(version="folds", training_data="made pictures", limits="none")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Sixteen tumours and sixteen normals of two centres, pairs of which are one group."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(0)
    records = []
    for number in range(32):
        pixels = rng.integers(20, 90, (SIDE, SIDE), np.uint8)
        boxes = ()
        if number % 2:
            pixels[40:70, 50:90] = 240
            boxes = ((50.0, 40.0, 90.0, 70.0),)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
        records.append(
            PatientRecord(
                patient=f"p{number}",
                group=f"c{number // 2}",
                split="test" if number // 2 % 8 == 7 else "train",
                centre="north" if number < 16 else "south",
                tumour_class=list(TumourClass)[number // 2 % 3] if boxes else None,
                images=(ImageRecord(file=f"{number}.png", boxes=boxes),),
            )
        )
    write_cohort(folder, records)
    return read_cohort(folder)


@pytest.fixture(scope="module")
def made(cohort, tmp_path_factory):
    """The bundle of two folds, what each said of what it had not seen, and the folder."""
    work = tmp_path_factory.mktemp("work")
    folds = folds_of(2, ["south"], cohort)
    trained = [(fold, fit_fold(cohort, fold, PLAN, work, None, lambda _: None)) for fold in folds]
    base = open_bundle(synthetic_bundle())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finishing, "_TRUNKS", 20)  # to draw hundreds takes longer than all else
        held = convert_folds(work / "out", cohort, trained, base, TEXT, lambda _: None)
    return work / "out", held, work


@pytest.fixture(scope="module")
def fused(cohort, made):
    """The fusion network for the bundle, those of its folds, and what was said."""
    out, _, work = made
    said = []
    plan = FusionTraining(epochs=1, batch=4, wordings=1)
    folds = folds_of(2, ["south"], cohort)
    trained = fit_fusion_folds(cohort, folds, out, plan, work / "fusion", said.append)
    return trained, said


def test_each_patient_is_held_by_one_fold_and_groups_stay_together(cohort):
    folds = folds_of(3, [], cohort)
    holders = {r.patient: [f.number for f in folds if f.holds(r)] for r in cohort.patients}
    assert all(len(numbers) == 1 for numbers in holders.values())
    for record in cohort.patients:
        twins = [r.patient for r in cohort.patients if r.group == record.group]
        assert len({holders[name][0] for name in twins}) == 1


def test_a_fold_holds_all_normals_of_the_source_that_it_leaves_out(cohort):
    fold = Fold(number=0, count=2, unseen="south")
    southern = [r for r in cohort.patients if r.centre == "south"]
    assert all(fold.holds(r) for r in southern if r.is_normal)
    assert not all(fold.holds(r) for r in southern if not r.is_normal)


@pytest.mark.parametrize(
    ("count", "unseen", "said"),
    [
        (1, [], "at least two"),
        (2, ["north", "south", "north"], "got 2 for 3"),
        (2, ["west"], r"\['north', 'south'\], got west"),
    ],
)
def test_folds_that_cannot_be_are_refused_in_words(cohort, count, unseen, said):
    with pytest.raises(InvalidInput, match=said):
        folds_of(count, unseen, cohort)


@pytest.mark.parametrize(
    "wrong", [{"folds": 3}, {"unseen": ("north",), "cohort": Path("anywhere")}]
)
def test_folds_want_a_cohort_and_sources_left_out_want_folds(tmp_path, wrong):
    plan = bundling.BundlePlan(out=tmp_path / "out", work=tmp_path, **wrong)
    with pytest.raises(InvalidInput, match="--cohort with --folds"):
        bundling.make_bundle(plan, lambda _: None)


def test_a_network_learns_from_nothing_that_its_fold_holds(cohort, made):
    *_, work = made
    for fold in folds_of(2, ["south"], cohort):
        index = (work / fold.name / "data" / "train" / "pictures.jsonl").read_text()
        learned = [r for r in cohort.patients if r.part != "test" and not fold.holds(r)]
        assert len(index.splitlines()) == len(learned)
        assert ('"source": "south"' in index) == any(r.centre == "south" for r in learned)


def test_every_picture_that_is_no_test_is_answered_by_who_has_not_seen_it(cohort, made):
    _, held, _ = made
    own = [h.image.patient for h in held if not h.unseen]
    pool = [r for r in cohort.patients if r.part != "test"]
    left_out = Fold(number=0, count=2, unseen="south")
    twice = [r for r in pool if r.is_normal and r.centre == "south" and left_out.is_apart(r)]
    assert sorted(own) == sorted(r.images[0].file for r in pool if r not in twice)


def test_the_bundle_answers_by_both_networks_and_says_so(cohort, made):
    out, held, _ = made
    bundle = open_bundle(out)
    entry = bundle.manifest.detector
    assert (entry["networks"], entry["content_px"]) == (2, SIDE)
    assert bundle.manifest.metrics["detection"]["pictures"]["unseen"] == sum(h.unseen for h in held)
    [image] = read_images(cohort.folder / "1.png")
    both = YoloDetector(bundle, device="cpu", least_score=0.001).detect(image)
    alone = [
        YoloDetector(open_bundle(out.with_name(f"out-fold{n}")), device="cpu", least_score=0.001)
        for n in range(2)
    ]
    tops = [max((d.score for d in a.detect(image).detections), default=0) for a in alone]
    assert max((d.score for d in both.detections), default=0) <= max(tops) + 1e-6


def _held(fold, score, *, truth=(), unseen=False, centre="north", number=0):
    found = (((10.0, 10.0, 30.0, 30.0), score),)
    image = ScoredImage(patient=f"{number}", truth=truth, found=found, longest_px=256)
    return HeldImage(
        fold=fold,
        unseen=unseen,
        group=f"{fold}-{number}",
        labels={"centre": centre, "class": "malignant"} if truth else {"centre": centre},
        measures=(0.0, 0.0),
        image=image,
    )


def test_a_source_left_out_moves_the_operating_point_if_it_must():
    known = [_held(0, 0.1, number=n) for n in range(200)]
    strange = [_held(0, 0.4, unseen=True, centre="south", number=n) for n in range(200)]
    assert choose_threshold(known) == pytest.approx(operating_point([h.image for h in known], 0.1))
    assert choose_threshold([*known, *strange]) > 0.4


def test_figures_of_a_fold_use_its_own_operating_point_and_unseen_sources_stand_apart():
    box = ((10.0, 10.0, 30.0, 30.0),)
    held = [
        *(_held(n % 2, 0.5, truth=box, number=n) for n in range(20)),
        *(_held(n % 2, 0.5, number=100 + n) for n in range(20)),
        *(_held(0, 0.5, unseen=True, centre="south", number=200 + n) for n in range(5)),
    ]
    figures = summarise_folds(held, {0: 0.4, 1: 0.6})
    assert figures["found"]["value"] == 0.5
    assert figures["false_boxes_per_normal"] == {
        "value": 0.5, "ci95": figures["false_boxes_per_normal"]["ci95"], "n": 20
    }  # fmt: skip
    assert list(figures["false_boxes_by_centre"]) == ["north"]
    assert figures["false_boxes_on_unseen"]["south"]["value"] == 1
    assert figures["found_by_class"]["malignant"]["n"] == 20


def test_a_fusion_network_learns_from_all_and_is_calibrated_on_answers_of_those_that_did_not(
    cohort, made, fused
):
    trained, said = fused
    tumours = [r for r in cohort.patients if r.part != "test" and r.tumour_class]
    assert f"fusion, all: {len(tumours)} cases to learn from" in said
    for fold in folds_of(2, ["south"], cohort):
        others = [r for r in tumours if not fold.is_apart(r)]
        assert f"fusion, {fold.name}: {len(others)} cases to learn from" in said
    assert trained.metrics["image"]["n"] <= len(tumours)
    assert trained.config["content_px"] == SIDE


def test_evaluate_asks_of_each_patient_the_network_that_has_not_seen_the_patient(
    cohort, made, fused, tmp_path, monkeypatch
):
    out, *_ = made
    asked = []

    def noted(_cohort, record, model, *_rest):
        asked.append((record, model.algorithm.bundle_sha256))

    monkeypatch.setattr(evaluating, "predict", noted)
    plan = EvaluationPlan(cohort=cohort, bundle=out, out=tmp_path, part="test", pictures=0, folds=2)
    evaluating.evaluate_bundle(plan, iter)
    hashes = {f: open_bundle(path).manifest.sha256 for f, path in bundles_of(out, 2)}
    assert len(asked) == sum(r.part != "test" for r in cohort.patients)
    for record, sha256 in asked:
        [own] = [f for f in hashes if f.is_apart(record)]
        assert sha256 == hashes[own]
    assert len(set(hashes.values())) == 2


@pytest.mark.parametrize("count", [1, 3])
def test_a_bundle_of_another_number_of_folds_is_refused(made, fused, count):
    out, *_ = made
    with pytest.raises(InvalidInput, match=f"expected fold 0 of {count}"):
        bundles_of(out, count)
