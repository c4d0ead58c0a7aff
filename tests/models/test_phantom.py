"""The synthetic cohort: seeded, boxed, and readable by the product's own adapters."""

import numpy as np
import pytest

from bonetumor.domain.assessment import TumourClass
from bonetumor.phantom.dicom import to_dicom
from bonetumor.phantom.fhir import to_fhir
from bonetumor.phantom.patient import draw_normal, draw_patient


def test_the_same_seed_draws_the_same_patient():
    first, second = draw_patient(1, 2, longest_px=320), draw_patient(1, 2, longest_px=320)
    assert np.array_equal(first.radiograph.pixels, second.radiograph.pixels)
    assert all(np.array_equal(a, b) for a, b in zip(first.slides, second.slides, strict=True))
    assert (first.blood, first.age_years, first.sex) == (second.blood, second.age_years, second.sex)
    assert not np.array_equal(
        first.radiograph.pixels, draw_patient(1, 3, longest_px=320).radiograph.pixels
    )


def test_boxes_lie_inside_their_images_and_normals_have_none():
    for number in range(12):
        radiograph = draw_patient(3, number, longest_px=320).radiograph
        rows, columns = radiograph.pixels.shape
        x0, y0, x1, y1 = radiograph.box
        assert 0 <= x0 < x1 <= columns
        assert 0 <= y0 < y1 <= rows
    assert draw_normal(3, 0, longest_px=320).box is None


def test_all_classes_occur():
    drawn = [draw_patient(4, n, longest_px=96).tumour_class for n in range(40)]
    assert set(drawn) == set(TumourClass)


def test_nobody_real_is_in_it():
    image = to_dicom(draw_patient(1, 2, longest_px=96))
    assert str(image.PatientName).startswith("Phantom^")
    assert str(image.PatientID).startswith("PHANTOM-")
    bundle = to_fhir(draw_patient(1, 2, longest_px=96))
    kinds = {e["resource"]["resourceType"] for e in bundle["entry"]}
    assert kinds >= {"Patient", "Media", "DiagnosticReport"}


@pytest.mark.parametrize("number", range(3))
def test_its_dicom_passes_dciodvfy(number, tmp_path):
    import subprocess

    from kit.servers import need

    path = tmp_path / "phantom.dcm"
    to_dicom(draw_patient(1, number, longest_px=320)).save_as(path, enforce_file_format=True)
    said = subprocess.run(
        [need("dciodvfy"), "-new", str(path)], capture_output=True, text=True, check=False
    ).stderr
    assert "Error" not in said, said
