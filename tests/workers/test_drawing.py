"""Cohorts drawn and checked from the command line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom

from bonetumor.cohort.record import ImageRecord, read_cohort
from bonetumor.dicom.reader import read_file
from kit.cohorts import SMALL, copied, run
from kit.servers import wait_until


def test_a_cohort_is_dicom_slides_and_fhir_with_the_truth(made):
    cohort = read_cohort(made)
    assert len(cohort.patients) == 13
    assert sum(p.is_normal for p in cohort.patients) == 3
    drawn = next(p for p in cohort.patients if not p.is_normal)
    image = pydicom.dcmread(made / drawn.images[0].file)
    bundle = json.loads((made / drawn.fhir).read_text())
    patient = next(
        e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Patient"
    )
    assert patient["identifier"][0]["value"] == image.PatientID
    kinds = [e["resource"]["resourceType"] for e in bundle["entry"]]
    assert kinds.count("Media") == len(drawn.slides)
    assert kinds.count("Observation") == len(drawn.labs)
    uids = [read_file(made / i.file).SOPInstanceUID for p in cohort.patients for i in p.images]
    assert len(set(uids)) == len(uids)


def test_the_same_seed_makes_the_same_cohort(made, tmp_path):
    assert run("cohort", "make", tmp_path, *SMALL).exit_code == 0
    for path in sorted(p for p in made.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / path.relative_to(made)).read_bytes(), path.name


def test_without_slides_all_else_is_the_same(made, tmp_path):
    assert run("cohort", "make", tmp_path / "own", *SMALL, "--no-slides").exit_code == 0
    full, bare = read_cohort(made).patients, read_cohort(tmp_path / "own").patients
    assert any(p.slides for p in full)
    assert bare == tuple(p.model_copy(update={"slides": ()}) for p in full)
    for record in full[:2]:
        for image in record.images:
            pixels = [pydicom.dcmread(f / image.file).pixel_array for f in (made, tmp_path / "own")]
            assert np.array_equal(*pixels)


def test_who_draws_ends_with_who_asked_for_it(tmp_path):
    many = ("--patients", "5000", "--longest-px", "320", "--no-slides")
    command = [sys.executable, "-m", "bonetumor.worker", "cohort", "make", str(tmp_path), *many]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as asking:
        wait_until(lambda: any((tmp_path / "images").glob("*.dcm")), 60, "a first picture")
        tasks = Path(f"/proc/{asking.pid}/task").glob("*/children")
        drawing = [int(pid) for task in tasks for pid in task.read_text().split()]
        assert drawing
        asking.kill()
    wait_until(lambda: not any(_runs(pid) for pid in drawing), 20, "who draws to end")


def _runs(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_check_names_what_cannot_be_used(made, tmp_path):
    assert "0 problems" in run("cohort", "check", made).stdout

    def spoil(records):
        first = records[0].images[0]
        outside = ImageRecord(file=first.file, boxes=((10, 10, 9000, 9000),))
        return [records[0].model_copy(update={"images": (outside,)}), *records[1:]]

    folder = copied(made, tmp_path, spoil)
    (folder / read_cohort(folder).patients[1].images[0].file).write_bytes(b"no image")
    (folder / read_cohort(folder).patients[2].images[0].file).unlink()
    said = run("cohort", "check", folder)
    assert said.exit_code == 1
    assert "expected boxes inside" in said.stdout
    assert "expected DICOM, JPEG, PNG or TIFF" in said.stdout
    assert "no file images/" in said.stdout
