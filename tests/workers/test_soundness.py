"""`cohort check`: what training would refuse after hours is refused at once."""

import json

import pytest
from PIL import Image

from bonetumor.cohort.record import ImageRecord, PatientRecord, read_cohort, write_cohort
from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.weights.bundle import open_bundle, synthetic_bundle
from bonetumor.worker import finishing
from kit.cohorts import run
from kit.slides import tissue

BOX = (5.0, 5.0, 20.0, 20.0)


def _sound():
    """Enough of everything: nine patients of each class to calibrate with, and a normal."""
    records = [
        PatientRecord(
            patient=f"{kind}-{number}",
            centre="north" if number else "south",
            origin="real" if number else "synthetic",
            split="validation" if number else "train",
            tumour_class=kind,
            images=(ImageRecord(file="a.png", boxes=(BOX,)),),
        )
        for kind in TumourClass
        for number in range(10)
    ]
    normal = PatientRecord(
        patient="normal", split="validation", images=(ImageRecord(file="a.png"),)
    )
    return [*records, normal]


def _written(folder, records):
    Image.new("L", (40, 30)).save(folder / "a.png")
    Image.fromarray(tissue(1)).save(folder / "slide.png")
    (folder / "corrupt.png").write_bytes(b"no picture")
    write_cohort(folder, records)
    return folder


def _checked(folder, *options):
    said = run("cohort", "check", folder, *options)
    return said.exit_code, " ".join(said.output.split())


def test_a_sound_cohort_passes_and_its_patients_are_counted(tmp_path):
    code, said = _checked(_written(tmp_path, _sound()))
    assert code == 0, said
    assert "31 patients, 31 images, 0 problems" in said
    rows = " ".join("".join(c if c.isalnum() else " " for c in said).split())  # without lines
    assert "source class train validation test all" in rows
    for row in (
        *(f"north {kind} 0 9 0 9" for kind in TumourClass),
        *(f"south synthetic {kind} 1 0 0 1" for kind in TumourClass),
        "no centre normal 0 1 0 1",
    ):
        assert row in rows


def _moved(part, chosen):
    return lambda records: [
        r.model_copy(update={"split": part}) if chosen(r) else r for r in records
    ]


def _with(name, **fields):
    return lambda records: [
        r.model_copy(update=fields) if r.patient == name else r for r in records
    ]


SPOILT = {
    "refused: cohort: expected pictures for val, got none": _moved("train", lambda _: True),
    "refused: cohort: expected pictures for train, got none":
        _moved("test", lambda r: r.part == "train"),
    "refused: cohort: expected patients of every class to train on, got none that is malignant":
        _moved("test", lambda r: r.patient == "malignant-0"),
    "to calibrate with, got none that is benign":
        _moved("train", lambda r: r.tumour_class is TumourClass.BENIGN),
    "refused: cohort: expected normal patients in the validation split":
        _moved("train", lambda r: r.is_normal),
    "the model abstains, got 8 intermediate":
        _moved("test", lambda r: r.patient == "intermediate-5"),
    "refused: cohort: expected each group in one split": lambda records: [
        r.model_copy(update={"group": "g"}) if r.patient in ("benign-0", "benign-1") else r
        for r in records
    ],
    "not used: benign-1: a.png: expected boxes inside 40 x 30": _with(
        "benign-1", images=(ImageRecord(file="a.png", boxes=((5, 5, 20, 45),)),)
    ),
    "not used: benign-1: corrupt.png: file: expected": _with(
        "benign-1", images=(ImageRecord(file="corrupt.png", boxes=(BOX,)),)
    ),
    "not used: benign-1: corrupt.png: slide: expected":
        _with("benign-1", slides=("slide.png", "corrupt.png")),
}  # fmt: skip


@pytest.mark.parametrize("said", SPOILT)
def test_what_training_would_refuse_is_refused(tmp_path, said):
    code, output = _checked(_written(tmp_path, SPOILT[said](_sound())))
    assert code == 1
    assert said in output


def test_the_only_normal_that_cannot_be_read_is_none(tmp_path):
    spoilt = _with("normal", images=(ImageRecord(file="corrupt.png"),))
    _, said = _checked(_written(tmp_path, spoilt(_sound())))
    assert "refused: cohort: expected normal patients in the validation split" in said


def test_a_cohort_is_checked_for_what_it_is_meant(tmp_path):
    """Boxes without a class serve to train a detector, and normals alone to tune."""
    records = [r.model_copy(update={"tumour_class": None}) for r in _sound()]
    folder = _written(tmp_path, records)
    codes = {aim: _checked(folder, "--for", aim)[0] for aim in ("bundle", "detector", "tune")}
    assert codes == {"bundle": 1, "detector": 0, "tune": 0}
    code, said = _checked(folder, "--for", "evaluate")
    assert (code, "expected patients in the test split, got none" in said) == (1, True)
    write_cohort(folder, [r.model_copy(update={"split": "test"}) for r in records])
    assert _checked(folder, "--for", "evaluate")[0] == 0
    assert _checked(folder, "--for", "tune")[0] == 1
    assert run("cohort", "check", folder, "--for", "nothing").exit_code == 2


def test_a_folder_without_a_cohort_is_refused(tmp_path):
    code, said = _checked(tmp_path)
    assert code == 1
    assert said.startswith("refused: cohort: expected a readable cohort.jsonl in")


def test_a_checkpoint_gets_no_operating_point_without_normals(tmp_path):
    folder = _written(tmp_path, [r for r in _sound() if not r.is_normal])
    base = open_bundle(synthetic_bundle())
    text = finishing.BundleText.of(base, "own-1")
    with pytest.raises(InvalidInput, match="expected normal patients in the validation split"):
        finishing.convert(
            tmp_path / "out", read_cohort(folder), tmp_path / "best.pt", base, text, print
        )


def test_a_broken_line_ends_the_check_with_1(tmp_path):
    folder = _written(tmp_path, _sound())
    with (folder / "cohort.jsonl").open("a") as out:
        out.write(json.dumps({"patient": "x", "age_years": -1}) + "\n")
    code, said = _checked(folder)
    assert code == 1
    assert "not used: line 32: age_years:" in said
