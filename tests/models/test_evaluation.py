"""The figures: known cases, and properties that wrong code would break."""

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from bonetumor.domain.image import iou
from bonetumor.evaluation import classification as classes
from bonetumor.evaluation.cases import ClassifiedCase, probed
from bonetumor.evaluation.curves import confusion, precision_recall, roc, thin
from bonetumor.evaluation.detection import (
    IOUS,
    ScoredImage,
    average_precision,
    false_positives,
    froc,
    is_of_size,
    operating_point,
    sensitivity,
    size_of,
)
from bonetumor.evaluation.mistakes import Kind, worst_false_boxes, worst_misses
from bonetumor.evaluation.properties import PROPERTIES
from bonetumor.evaluation.ratios import rates, shares
from bonetumor.evaluation.sources import summarise_centres, summarise_sources
from bonetumor.evaluation.summary import summarise_classes, summarise_detection

RIGHT, WRONG = (0.0, 0.0, 40.0, 40.0), (50.0, 50.0, 60.0, 60.0)


def _image(truth, *found, patient="p", longest=640):
    return ScoredImage(patient=patient, truth=truth, found=found, longest_px=longest)


def test_average_precision_of_known_cases():
    perfect = [_image((RIGHT,), (RIGHT, 0.9))] * 3
    assert average_precision(perfect, 0.5) == pytest.approx(1.0)
    half = [_image((RIGHT,), (RIGHT, 0.9), (RIGHT, 0.8)), _image((RIGHT,), (WRONG, 0.7))]
    assert average_precision(half, 0.5) == pytest.approx(0.5)
    assert average_precision([_image((RIGHT,))], 0.5) == 0.0
    assert math.isnan(average_precision([_image(())], 0.5))
    late = [_image((RIGHT,), (RIGHT, 0.5)), _image((), (WRONG, 0.9))]
    assert average_precision(late, 0.5) == pytest.approx(0.5)
    both = [_image((RIGHT, WRONG), (RIGHT, 0.9), (WRONG, 0.8))]
    assert average_precision(both, 0.5) == pytest.approx(1.0)


def test_average_precision_by_size_leaves_other_sizes_out():
    small, large = (0.0, 0.0, 20.0, 20.0), (100.0, 100.0, 300.0, 300.0)
    images = [_image((small, large), (large, 0.9), (small, 0.5))]
    assert size_of(small, 640) == "small"
    assert size_of(small, 320) == "medium"
    assert average_precision(images, 0.5, size="small") == pytest.approx(1.0)
    assert math.isnan(average_precision(images, 0.5, size="medium"))
    missed = [_image((small, large), (large, 0.9))]
    assert average_precision(missed, 0.5, size="small") == 0.0


def test_tiny_boxes_are_told_apart_and_are_small_ones_too():
    """Under 8 px at 256 px: under 20 px at 640 px."""
    tiny, small = (0.0, 0.0, 16.0, 24.9), (100.0, 100.0, 116.0, 125.1)
    assert is_of_size(tiny, 640, "tiny")
    assert is_of_size(tiny, 640, "small")
    assert not is_of_size(small, 640, "tiny")
    assert not is_of_size(tiny, 512, "tiny")
    images = [_image((tiny, small), (small, 0.9))]
    by_size = summarise_detection(images, 0.5)
    assert by_size["map50_by_size"]["tiny"]["value"] == 0.0
    assert by_size["map50_by_size"]["small"]["value"] == pytest.approx(0.5)
    assert by_size["sensitivity_by_size"]["tiny"]["n"] == 1
    assert by_size["sensitivity_by_size"]["small"]["n"] == 2


def test_an_image_that_was_not_assessed_counts_as_missed_and_stays_in_every_denominator():
    seen = _image((RIGHT,), (RIGHT, 0.9))
    strange = replace(seen, assessed=False, patient="q")
    normals = [_image((), (WRONG, 0.8)), replace(_image((), (WRONG, 0.8)), assessed=False)]
    found = summarise_detection([seen, strange, *normals], 0.5)
    assert found["not_assessed"] == {"with_tumour": 1, "normal": 1}
    assert found["sensitivity"]["value"] == found["sensitivity_at_iou_0.3"]["value"] == 0.5
    assert (found["sensitivity"]["n"], found["images_with_tumour"]) == (2, 2)
    assert found["map50"]["value"] == pytest.approx(0.5)
    assert found["froc"][-1]["sensitivity"] == 0.5
    assert found["false_positives_per_normal"]["value"] == 0.5
    assert found["false_positives_per_normal"]["n"] == 2


def test_a_case_whose_image_was_not_assessed_is_abstained_from():
    cases = [_case(i, i % 3, np.random.default_rng(i)) for i in range(12)]
    sure = [replace(c, sets=dict.fromkeys(c.sets, (True, False, False))) for c in cases]
    strange = [replace(c, assessed=False) for c in sure[:3]]
    assert summarise_classes(sure)["served"]["abstained"] == 0
    summary = summarise_classes([*strange, *sure[3:]])
    assert summary["served"]["abstained"] == pytest.approx(0.25)
    assert summary["not_assessed"] == 3
    assert summary["served"]["n"] == 12


def test_figures_of_a_slice_are_those_of_its_images_alone():
    images = [
        replace(_image((RIGHT,), *found), labels={"site": site, "age": age}, patient=patient)
        for patient, site, age, found in (
            ("a", "femur", "under 18", [(RIGHT, 0.9)]),
            ("b", "femur", "18 and more", []),
            ("c", "tibia", "under 18", [(RIGHT, 0.9)]),
        )
    ]
    normals = [
        replace(_image((), *[(WRONG, 0.9)] * number), labels={"fracture": kind}, patient=kind)
        for number, kind in ((2, "fractured"), (0, "fractured"), (0, "unfractured"))
    ]
    found = summarise_detection(images + normals, 0.5)
    sites, ages = found["sensitivity_by_site"], found["sensitivity_by_age"]
    assert {site: s["value"] for site, s in sites.items()} == {"femur": 0.5, "tibia": 1.0}
    assert (ages["under 18"]["value"], ages["under 18"]["n"]) == (1.0, 2)
    fractures = found["false_positives_by_fracture"]
    assert (fractures["fractured"]["value"], fractures["fractured"]["n"]) == (1.0, 2)
    assert fractures["unfractured"]["value"] == 0.0
    assert found["false_positives_by_age"] == {}


def test_mean_average_precision_falls_with_loose_boxes():
    loose = (0.0, 0.0, 40.0, 52.0)
    images = [_image((RIGHT,), (loose, 0.9))]
    assert iou(RIGHT, loose) == pytest.approx(0.769, abs=1e-3)
    mean = np.mean([average_precision(images, least) for least in IOUS])
    assert mean == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("images", "kept"), [(10, 0), (29, 0), (30, 0), (48, 1), (1000, 83), (1200, 101)]
)
def test_the_operating_point_leaves_room_for_chance(images, kept):
    """Of 83 false boxes the upper 95 % bound is 99.6, of 84 it is 100.7; of none it is 3.0."""
    normals = [_image((), (WRONG, 0.2 + s / 2 / images)) for s in range(images)]
    assert sum(false_positives(normals, operating_point(normals, 0.1))) == kept


def test_sensitivity_and_false_positives():
    normals = [_image((), (WRONG, s / 10)) for s in range(10)]
    assert sum(false_positives(normals, 0.75)) == 2
    tumours = [_image((RIGHT,), (RIGHT, 0.9)), _image((RIGHT,), (RIGHT, 0.3)), _image((RIGHT,))]
    assert sensitivity(tumours, 0.5) == (1, 3)
    assert sensitivity(tumours, 0.2) == (2, 3)
    assert sensitivity(tumours, 0.2, size="small") == (0, 0)
    assert froc(tumours + normals)[-1] == (0.0, pytest.approx(10 / 13), pytest.approx(2 / 3))


def test_scores_of_known_cases():
    truth = np.array([0, 1, 2, 0, 1, 2])
    sure = np.eye(3)[truth]
    assert classes.scores(sure, truth) == pytest.approx(
        {"precision": 1, "recall": 1, "f1": 1, "auc": 1, "accuracy": 1}
    )
    assert classes.macro_auc(np.full((6, 3), 1 / 3), truth) == pytest.approx(0.5)
    assert math.isnan(classes.macro_auc(sure[:1], truth[:1]))


@pytest.mark.parametrize("drawn_from", [(0, 1, 2), (0, 2), (1,)])
def test_scores_are_those_of_scikit_learn(drawn_from):
    rng = np.random.default_rng(4)
    for _ in range(20):
        truth = rng.choice(drawn_from, 60)
        probabilities = rng.dirichlet((1, 1, 1), 60).round(1)  # with ties
        ours = classes.scores(probabilities, truth)
        told = precision_recall_fscore_support(
            truth, probabilities.argmax(axis=1), labels=[0, 1, 2], average="macro", zero_division=0
        )
        assert (ours["precision"], ours["recall"], ours["f1"]) == pytest.approx(told[:3])
        occur = drawn_from if len(drawn_from) > 1 else ()
        areas = [roc_auc_score(truth == label, probabilities[:, label]) for label in occur]
        expected = np.mean(areas) if areas else math.nan
        assert ours["auc"] == pytest.approx(expected, nan_ok=True)


def test_calibration_error_of_the_overconfident():
    truth = np.array([0] * 60 + [1] * 40)
    said = np.tile([0.9, 0.05, 0.05], (100, 1))
    assert classes.calibration_error(said, truth) == pytest.approx(0.3)
    assert classes.calibration_error(np.tile([0.6, 0.2, 0.2], (100, 1)), truth) < 1e-9


def test_probabilities_that_are_right_have_a_calibration_error_by_chance():
    few, many = (
        classes.chance_calibration_error(np.tile([0.6, 0.2, 0.2], (n, 1))) for n in (100, 10_000)
    )
    # The mean distance of a normal variable of that share from its mean: all are in one bin.
    spread = (2 / np.pi * 0.6 * 0.4) ** 0.5
    assert few == pytest.approx(spread / 100**0.5, rel=0.15)
    assert many == pytest.approx(spread / 10_000**0.5, rel=0.15)
    assert classes.chance_calibration_error(np.tile([0.0, 1.0, 0.0], (50, 1))) == 0


def test_intervals_resample_patients_not_rows():
    rng = np.random.default_rng(0)
    per_patient = rng.normal(0, 1, 40)
    values = np.repeat(per_patient, 25)
    alone = classes.interval(lambda r: values[r].mean(), [str(i) for i in range(1000)], rounds=300)
    grouped = classes.interval(lambda r: values[r].mean(), [str(i // 25) for i in range(1000)],
                               rounds=300)  # fmt: skip
    assert (grouped[1] - grouped[0]) > 3 * (alone[1] - alone[0])


def test_the_bootstrap_interval_covers_as_it_says():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        sample = rng.normal(0, 1, 50)
        low, high = classes.interval(lambda r, s=sample: s[r].mean(), list(range(50)), rounds=200)
        held += low <= 0 <= high
    assert held >= 85


def test_shares_and_rates_resample_patients_and_have_bounds_at_the_ends():
    hits, one = [1.0, 0.0] * 50, [1.0] * 100
    alone = shares({"": (hits, one)}, [str(i) for i in range(100)])[""]
    paired = shares({"": (sorted(hits), one)}, [str(i // 25) for i in range(100)])[""]
    assert alone["value"] == paired["value"] == 0.5
    assert (alone["n"], paired["n"]) == (100, 100)
    assert alone["ci95"] == pytest.approx([0.4, 0.6], abs=0.03)
    assert paired["ci95"] == [0.0, 1.0]  # of four patients who are all or nothing
    # Wilson's interval of 0 of 20, and the exact Poisson bound of none in 20: textbook values.
    none = [0.0] * 20
    groups = [str(i) for i in range(20)]
    assert shares({"": (none, one[:20])}, groups)[""]["ci95"] == pytest.approx([0, 0.161], abs=1e-3)
    assert shares({"": (one[:20], one[:20])}, groups)[""]["ci95"] == pytest.approx(
        [0.839, 1], abs=1e-3
    )
    assert rates({"": (none, one[:20])}, groups)[""]["ci95"] == pytest.approx(
        [0, 3.689 / 20], abs=1e-3
    )
    assert rates({"": (one[:20], one[:20])}, groups)[""]["ci95"] == [1.0, 1.0]
    apart = shares({"": (none, [0.0] * 20)}, groups)[""]
    assert apart == {"value": None, "ci95": [None, None], "n": 0}


def test_coverage_risk_and_net_benefit():
    truth = np.array([0, 1, 2, 2])
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, 0]], bool)
    said = classes.coverage(sets, truth)
    assert said["covered"] == 0.75
    assert said["by_class"]["2"]["covered"] == 0.5
    assert said["mean_size"] == 1.5
    probabilities = np.array([[0.9, 0.05, 0.05], [0.2, 0.5, 0.3], [0.0, 0.1, 0.9], [0.5, 0.3, 0.2]])
    curve = classes.risk_coverage(probabilities, truth)
    assert curve[1] == (0.5, 0.0)
    assert curve[-1] == (1.0, 0.25)
    decision = {round(d["threshold"], 2): d for d in classes.decision_curve(probabilities, truth)}
    assert decision[0.5]["model"] == pytest.approx(0.25)
    assert decision[0.5]["all"] == pytest.approx(0.0)


def test_a_probe_finds_a_leak_and_stays_at_chance_without_one():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 240)
    groups = [str(i) for i in range(240)]
    leak = np.stack([truth + rng.normal(0, 0.2, 240), rng.normal(0, 1, 240)], axis=1)
    assert classes.probe_auc(leak, truth, groups)[0] > 0.95
    value, low, high = classes.probe_auc(rng.normal(0, 1, (240, 2)), truth, groups)
    assert 0.35 < value < 0.65
    assert low < 0.5 < high


def _case(number, truth, rng):
    sharp = np.full(3, 0.15)
    sharp[truth] += 0.55
    sharp = np.clip(sharp + rng.normal(0, 0.15, 3), 0.01, None)
    said = tuple(float(p) for p in sharp / sharp.sum())
    return ClassifiedCase(
        patient=str(number),
        truth=truth,
        probabilities={"image": (0.4, 0.3, 0.3), "labs": said, "image+labs": said},
        sets={name: tuple(p > 0.3 for p in said) for name in ("image", "labs", "image+labs")},
        served="image+labs",
        image_size=[640.0, 480.0],
        metadata=[float(number % 70), 0.0],
        labels={"sex": "MF"[number % 2]},
    )


def test_the_summary_says_more_evidence_is_better_when_it_is():
    rng = np.random.default_rng(3)
    summary = summarise_classes([_case(i, i % 3, rng) for i in range(120)])
    subsets = summary["subsets"]
    assert subsets["image+labs"]["auc"]["ci95"][0] > subsets["image"]["auc"]["ci95"][1]
    assert subsets["image"]["auc"]["value"] == pytest.approx(0.5)
    gains = subsets["image+labs"]["gains"]
    gained = subsets["image+labs"]["auc"]["value"] - 0.5
    assert gains["labs"]["auc"]["value"] == pytest.approx(gained)
    assert gains["labs"]["auc"]["ci95"][0] > 0.2
    assert gains["image"]["auc"] == {"value": 0.0, "ci95": [0.0, 0.0]}  # paired: the same answers
    assert subsets["labs"]["gains"] == {}
    assert summary["probes"]["image_size_only"]["auc"]["value"] == pytest.approx(0.5, abs=0.12)
    assert set(summary["served"]["slices"]["sex"]) == {"M", "F"}


def test_each_centre_has_its_own_figures_and_their_range():
    rng = np.random.default_rng(3)
    images = [
        replace(_image((RIGHT,), found, patient=f"{centre}{n}"), labels={"centre": centre})
        for centre, found in (("a", (RIGHT, 0.9)), ("b", (WRONG, 0.9)))
        for n in range(4)
    ]
    cases = [
        replace(_case(i, i % 3, rng), labels={"centre": "ab"[i % 2]}, patient=str(i))
        for i in range(60)
    ]
    without = [replace(c, probabilities={"labs": c.probabilities["labs"]}) for c in cases[1::2]]
    centres = summarise_centres(images, cases[::2] + without, 0.5)
    assert list(centres["each"]) == ["a", "b"]
    a, b = centres["each"].values()
    assert (a["mAP@0.5"]["value"], b["mAP@0.5"]["value"]) == (pytest.approx(1.0), 0.0)
    assert centres["range"]["mAP@0.5"] == [0.0, pytest.approx(1.0)]
    assert centres["range"]["false boxes per normal image"] is None  # no normals anywhere
    own = summarise_classes(cases[::2])["subsets"]
    assert a["auc, labs"] == own["labs"]["auc"]
    assert "auc, image" not in b
    assert centres["range"]["auc, image"] == [own["image"]["auc"]["value"]] * 2
    assert summarise_centres(images[:4], cases[::2], 0.5) == {}  # one centre is the whole
    unseen = summarise_centres(images[:4], cases, 0.5)  # of one centre no images
    assert unseen["each"]["b"]["auc, labs"] == b["auc, labs"]
    assert math.isnan(unseen["each"]["b"]["mAP@0.5"]["value"])


def test_a_summary_of_nothing_is_empty_not_an_error():
    assert summarise_classes([])["patients"] == 0
    detection = summarise_detection([_image((), (WRONG, 0.9))], 0.5)
    assert detection["false_positives_per_normal"]["value"] == 1.0
    assert detection["boxes"] == 0
    assert summarise_detection([], 0.5)["normal_images"] == 0


def test_a_source_has_its_own_figures_with_their_numbers_even_alone():
    rng = np.random.default_rng(5)
    seen = replace(_image((RIGHT,), (RIGHT, 0.9)), labels={"centre": "a", "site": "femur"})
    strange = replace(seen, assessed=False, patient="q")
    normal = replace(_image((), (WRONG, 0.9)), labels={"centre": "b"}, patient="n")
    unnamed = _image((), patient="u")
    cases = [replace(_case(i, i % 3, rng), labels={"centre": "a"}) for i in range(30)]
    sources = summarise_sources([seen, strange, normal, unnamed], cases, 0.5)
    assert list(sources) == ["a", "b", "not named"]
    found = sources["a"]["detection"]
    assert (found["sensitivity"]["value"], found["sensitivity"]["n"]) == (0.5, 2)
    assert found["not_assessed"] == {"with_tumour": 1, "normal": 0}
    assert found["sensitivity_by_site"]["femur"]["n"] == 2
    assert sources["b"]["detection"]["false_positives_per_normal"]["value"] == 1.0
    assert sources["not named"]["detection"]["false_positives_per_normal"]["value"] == 0.0
    told = sources["a"]["classification"]
    assert (told["patients"], told["subsets"]["labs"]["n"]) == (30, 30)
    assert told["subsets"]["labs"]["auc"] == summarise_classes(cases)["subsets"]["labs"]["auc"]
    assert sources["b"]["classification"]["subsets"] == {}
    assert list(summarise_sources([seen], [], 0.5)) == ["a"]


def test_a_roc_curve_has_the_area_of_its_ranks_and_an_interval_over_patients():
    rng = np.random.default_rng(2)
    positive = rng.random(600) < 0.4
    scores = rng.normal(0, 1, 600) + positive
    curve = roc(scores, positive, [str(i) for i in range(600)])
    assert curve["auc"]["value"] == pytest.approx(roc_auc_score(positive, scores))
    assert curve["auc"]["ci95"][0] < curve["auc"]["value"] < curve["auc"]["ci95"][1]
    assert (curve["n"], curve["positive"]) == (600, int(positive.sum()))
    points = [(p["false_positive_rate"], p["sensitivity"]) for p in curve["points"]]
    assert (points[0], points[-1]) == ((0, 0), (1, 1))
    assert 50 < len(points) <= 200
    area = np.trapezoid([y for _, y in points], [x for x, _ in points])
    assert area == pytest.approx(curve["auc"]["value"], abs=0.01)
    assert roc(scores[:3], np.ones(3, bool), list("abc"))["points"] == []


def test_images_are_told_apart_by_their_most_certain_box_if_they_were_assessed():
    tumours = [_image((RIGHT,), (RIGHT, 0.4), (WRONG, 0.9), patient=str(n)) for n in range(3)]
    normals = [_image((), (WRONG, 0.6), patient="n"), _image((), patient="m")]
    assert summarise_detection(tumours + normals, 0.5)["image_roc"]["auc"]["value"] == 1.0
    strange = [replace(t, assessed=False) for t in tumours]
    curve = summarise_detection(strange + normals, 0.5)["image_roc"]
    assert curve["auc"]["value"] == pytest.approx(0.25)  # below one normal, level with the other
    assert curve["n"] == 5


def test_precision_and_recall_follow_the_boxes_from_the_most_certain():
    images = [_image((RIGHT,), (RIGHT, 0.9), (WRONG, 0.7)), _image((RIGHT,), (RIGHT, 0.5))]
    assert precision_recall(images, 0.5) == [
        {"threshold": 0.9, "recall": 0.5, "precision": 1.0},
        {"threshold": 0.7, "recall": 0.5, "precision": 0.5},
        {"threshold": 0.5, "recall": 1.0, "precision": pytest.approx(2 / 3)},
    ]
    assert precision_recall([_image((), (WRONG, 0.9))], 0.5) == []
    assert len(precision_recall(images * 300, 0.5)) == 200
    assert thin(range(1000), 5) == [0, 250, 500, 749, 999]


def test_the_confusion_has_true_classes_in_rows():
    said = np.eye(3)[[0, 1, 1, 2, 0]]
    assert confusion(said, np.array([0, 1, 2, 2, 0])) == [[2, 0, 0], [0, 1, 0], [0, 1, 1]]
    summary = summarise_classes([_case(i, i % 3, np.random.default_rng(i)) for i in range(30)])
    for figures in (summary["served"], *summary["subsets"].values()):
        assert sum(map(sum, figures["confusion"])) == figures["n"]
        assert set(figures["roc"]) == {"benign", "intermediate", "malignant"}
    mean = np.mean([c["auc"]["value"] for c in summary["served"]["roc"].values()])
    assert mean == pytest.approx(summary["served"]["auc"]["value"])


def _blood_alone(case):
    return replace(
        case,
        probabilities={"labs": case.probabilities["labs"]},
        sets={"labs": case.sets["labs"]},
        served="labs",
    )


def test_what_properties_of_the_picture_reach_stands_beside_every_class_figure():
    rng = np.random.default_rng(6)

    def cases(leak):
        return [
            replace(
                _blood_alone(_case(i, i % 3, rng)),
                picture=tuple(rng.normal(leak * (i % 3 == 2), 0.3, len(PROPERTIES))),
                labels={"centre": "ab"[i % 2]},
            )
            for i in range(90)
        ]

    leaking = probed(cases(1.0))
    summary = summarise_classes(leaking)
    for figures in (summary["served"], *summary["subsets"].values()):
        assert figures["picture_properties_auc"]["ci95"][0] > 0.8
        assert figures["malignant_auc"]["value"] == figures["roc"]["malignant"]["auc"]["value"]
    assert summary["probes"]["picture_properties"]["auc"]["value"] > 0.7
    for source in summarise_sources([], leaking, 0.5).values():
        assert source["classification"]["subsets"]["labs"]["picture_properties_auc"]["value"] > 0.8
    noise = np.random.default_rng(0).normal(0, 0.3, (300, len(PROPERTIES)))
    alike = [replace(_case(i, i % 3, rng), picture=tuple(row)) for i, row in enumerate(noise)]
    scores = np.array([c.property_score for c in probed(alike)])
    assert 0.4 < classes.binary_auc(scores, np.arange(300) % 3 == 2) < 0.6
    blind = [replace(c, picture=(), property_score=math.nan) for c in leaking[:40]]
    few = [replace(c, property_score=math.nan) for c in leaking[:39]]
    assert all(math.isnan(c.property_score) for c in probed([*few, *blind]))  # 39 pictures
    some = probed([*leaking, *blind])
    assert [math.isfinite(c.property_score) for c in some] == [True] * 90 + [False] * 40


def test_a_probe_has_seen_no_other_picture_of_the_same_patient():
    """A patient's pictures share their property, which says nothing of other patients' class."""
    rng = np.random.default_rng(7)
    marks = rng.permutation(60).astype(float)
    cases = [
        replace(_case(n // 3, n // 3 % 3, rng), picture=(marks[n // 3],) * len(PROPERTIES))
        for n in range(180)
    ]
    scores = np.array([c.property_score for c in probed(cases)])
    assert classes.binary_auc(scores, np.array([c.truth == 2 for c in cases])) < 0.7


def test_the_worst_misses_are_those_that_nothing_overlaps_the_greatest_first():
    large, off = (0.0, 0.0, 80.0, 80.0), (30.0, 30.0, 75.0, 75.0)
    images = [
        _image((RIGHT,), (RIGHT, 0.9)),
        _image((RIGHT,), (RIGHT, 0.3)),
        _image((RIGHT,)),
        _image((large,), (off, 0.8)),
        replace(_image((large,), (large, 0.9)), assessed=False),
        _image((RIGHT,), longest=320),
    ]
    worst = worst_misses(images, 0.5, 12)
    assert [(m.image, m.score) for m in worst] == [(4, 0), (5, 0), (2, 0), (1, 0.3), (3, 0.8)]
    assert [m.image for m in worst_misses(images, 0.5, 2)] == [4, 5]
    assert worst[0].box == large


def test_the_worst_false_boxes_are_the_most_certain_and_normals_stand_apart():
    images = [
        _image((), (WRONG, 0.6), (RIGHT, 0.8)),
        _image((), (WRONG, 0.4)),
        _image((RIGHT,), (RIGHT, 0.9), (WRONG, 0.7)),
        replace(_image((), (WRONG, 0.9)), assessed=False),
    ]
    normal, tumour = (
        worst_false_boxes(images, 0.5, 12, kind)
        for kind in (Kind.FALSE_ON_NORMAL, Kind.FALSE_ON_TUMOUR)
    )
    assert [(m.image, m.box, m.score) for m in normal] == [(0, RIGHT, 0.8), (0, WRONG, 0.6)]
    assert [(m.image, m.box, m.score) for m in tumour] == [(2, WRONG, 0.7)]
    assert len(worst_false_boxes(images, 0.5, 1, Kind.FALSE_ON_NORMAL)) == 1
