"""The synthetic cohort: seeded, boxed, and readable by the product's own adapters."""

import cv2
import numpy as np
import pytest

from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.phantom.dicom import to_dicom
from bonetumor.phantom.fhir import to_fhir
from bonetumor.phantom.lesion import LesionLook, paint_lesion
from bonetumor.phantom.limb import draw_limb
from bonetumor.phantom.normals import find_normals, to_scene
from bonetumor.phantom.patient import draw_normal, draw_patient
from bonetumor.phantom.scene import draw_anchors
from bonetumor.phantom.tumour import TYPES


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
        assert radiograph.boxes
        for x0, y0, x1, y1 in radiograph.boxes:
            assert 0 <= x0 < x1 <= columns
            assert 0 <= y0 < y1 <= rows
    assert draw_normal(3, 0, longest_px=320).boxes == ()


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_every_type_of_tumour_can_be_drawn_and_changes_the_picture_inside_its_box(kind):
    drawn = 0
    for attempt in range(6):
        rng = np.random.default_rng([8, attempt])
        scene = draw_limb("femur", (320, 240), 14, rng)
        for anchor in draw_anchors(scene, kind.place, 4, rng):
            look = LesionLook.draw(kind, rng)
            painted = paint_lesion(scene, anchor, (48.0, 32.0), kind, look, rng)
            if painted is None:
                continue
            drawn += 1
            change = np.abs(painted[0].density - scene.density)
            within = cv2.dilate((painted[1] > 0.35).astype(np.uint8), np.ones((25, 25))) > 0
            assert change[within].max() > 0.05
            assert change[within].sum() > 0.6 * change.sum()
    assert drawn


def test_real_normals_are_used_where_they_are_given(tmp_path):
    rng = np.random.default_rng(0)
    bone = np.full((700, 500), 30, np.uint8)
    cv2.rectangle(bone, (120, 0), (380, 700), 90, -1)
    cv2.rectangle(bone, (210, 0), (290, 700), 190, -1)
    noise = rng.normal(0, 4, bone.shape)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.clip(bone + noise, 0, 255).astype(np.uint8))
    logo = "file,logo_box_xywh\na.png,10 10 60 40\n"
    (tmp_path / "manifest.csv").write_text(logo)
    normals = find_normals(tmp_path, share=1.0)
    assert normals.blanks == {"a.png": (10, 10, 60, 40)}
    first = draw_patient(1, 1, normals=normals).radiograph
    assert first.source in ("a.png", "b.png")
    assert first.boxes
    again = draw_patient(1, 1, normals=normals).radiograph
    assert np.array_equal(first.pixels, again.pixels)
    scene = to_scene(cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_GRAYSCALE))
    inside = scene.bone[200:500, 225:275]
    assert inside.mean() > 0.95
    assert scene.bone[200:500, 20:100].mean() < 0.05
    anchor = draw_anchors(scene, 0.5, 1, rng)[0]
    assert abs(anchor.axis[0]) > 0.95  # the bone runs down the picture
    assert anchor.half_width_px == pytest.approx(40, abs=12)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="expected PNG or JPEG"):
        find_normals(tmp_path)


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
