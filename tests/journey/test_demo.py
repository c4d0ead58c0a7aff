"""What a newcomer runs: `demo` and `assess`."""

import json
import os
import subprocess
import sys

import pydicom
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from typer.testing import CliRunner

from bonetumor.weights.installed import synthetic_bundle
from bonetumor.worker.cli import app
from kit import studies

PHANTOMS = {"BONETUMOR_MODEL__BUNDLE": str(synthetic_bundle())}  # weights that find their tumours


def run(*arguments, timeout=300, **environment):
    return subprocess.run(
        [sys.executable, "-m", "bonetumor.worker", *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    finished = run("demo", "--out", out)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return out, finished.stdout


def test_the_demo_shows_each_step_and_leaves_everything(demo):
    out, said = demo
    for step in ("receiving", "complete", "gathered", "assessed", "confirmed", "done"):
        assert step in said
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF")
    report = pydicom.dcmread(out / "sr.dcm")
    assert report.Modality == "SR"
    bundle = json.loads((out / "report.json").read_text())
    kinds = [e["resource"]["resourceType"] for e in bundle["entry"]]
    assert kinds.count("DiagnosticReport") == 1
    assert set(kinds) >= {"Device", "ImagingStudy", "Observation", "Provenance"}
    with Image.open(out / "overlay.png") as overlay:
        assert overlay.size[0] > 300
    page = (out / "index.html").read_text()
    assert "not for primary diagnosis" in page
    assert "synthetic" in page
    assert 'src="overlay.png"' in page


def test_the_demos_boxes_are_those_in_its_sr(demo):
    out, _ = demo
    detections = json.loads((out / "detections.json").read_text())
    report = pydicom.dcmread(out / "sr.dcm")
    measurements = next(
        i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"
    )
    regions = [
        item
        for group in measurements.ContentSequence
        for item in group.ContentSequence
        if item.ValueType == "SCOORD"
    ]
    found = [(min(r.GraphicData[0::2]), min(r.GraphicData[1::2])) for r in regions]
    assert found == [pytest.approx(d["box"][:2], abs=0.01) for d in detections]
    assert len(found) >= 1


def test_a_study_of_ones_own_in_three_syntaxes(tmp_path):
    """The same image in three lossless syntaxes, as three studies: same boxes, one result each."""
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "notes.txt").write_text("not an image")
    for number, syntax in enumerate((RLELossless, JPEGLSLossless, JPEG2000Lossless), start=1):
        image = studies.dataset(3)
        image.compress(syntax, generate_instance_uid=False)
        image.StudyInstanceUID = f"1.2.3.{number}"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}.1"
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    finished = run("demo", "--out", tmp_path / "out", "--study", folder, **PHANTOMS)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert len(list((tmp_path / "out").glob("sr*.dcm"))) == 3
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    by_study = {}
    for detection in found:
        by_study.setdefault(detection["study_instance_uid"], []).append(detection["box"])
    boxes = list(by_study.values())
    assert len(boxes) == 3
    assert boxes[0] == boxes[1] == boxes[2]


def test_a_demo_with_a_patient_whom_the_bundle_does_not_know_says_so(tmp_path):
    studies.write(tmp_path / "study", 3)
    bundle = tmp_path / "bundle.json"
    bundle.write_text(json.dumps(studies.record(4)))
    finished = run(
        "demo", "--out", tmp_path / "out", "--study", tmp_path / "study", "--fhir", bundle
    )
    assert finished.returncode == 2
    assert "held" in finished.stdout
    assert "PatientNotMatched" in finished.stdout


def test_assess_gives_one_entry_per_file_and_an_error_for_each_that_is_none(tmp_path):
    [dicom] = studies.write(tmp_path, 3)
    image = studies.dataset(3)
    png = tmp_path / "picture.png"
    Image.fromarray((image.pixel_array >> 4).astype("uint8")).save(png)
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(dicom.read_bytes()[:5000])
    note = tmp_path / "note.txt"
    note.write_text("hello")
    files = (dicom, png, broken, note, tmp_path / "absent.dcm")
    finished = run("assess", "--json", *files, **PHANTOMS)
    assert finished.returncode == 1
    rows = json.loads(finished.stdout)
    assert [r["file"] for r in rows] == [
        str(p) for p in (dicom, png, broken, note, tmp_path / "absent.dcm")
    ]
    for row in rows[:2]:
        assert row["lesions"]
        for lesion in row["lesions"]:
            x0, y0, x1, y1 = lesion["box"]
            assert 0 <= x0 < x1 <= image.Columns
            assert 0 <= y0 < y1 <= image.Rows
            assert 0 < lesion["score"] <= 1
        diagnosis = row["diagnosis"]
        assert sum(diagnosis["probabilities"].values()) == pytest.approx(1)
        assert set(diagnosis) >= {"prediction_set", "abstained", "out_of_distribution"}
    assert [r["error"]["code"] for r in rows[2:]] == [
        "CorruptPixelData",
        "UnsupportedImage",
        "InvalidInput",
    ]


def test_help_and_wrong_settings_are_plain(monkeypatch, tmp_path):
    help_text = CliRunner().invoke(app, ["--help"]).stdout
    for command in ("demo", "serve", "listen", "worker", "status", "replay", "doctor", "assess"):
        assert command in help_text
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[listener]\nport = "many"\nspeed = 3\n')
    finished = run("status", "--settings", wrong)
    assert finished.returncode == 2
    assert "Misconfigured: settings:" in finished.stderr
    assert "listener.port" in finished.stderr
    assert "listener.speed" in finished.stderr
    absent = run("status", "--settings", tmp_path / "absent.toml")
    assert absent.returncode == 2
    assert "expected a readable file" in absent.stderr


def test_a_folder_that_cannot_be_written_is_one_plain_line():
    finished = run("cohort", "make", "/proc/nowhere", "--patients", 1, "--normals", 0)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.splitlines()[-1] == (
        "StorageUnavailable: expected to use /proc/nowhere, got No such file or directory"
    )
    assert "Traceback" not in finished.stderr
