"""The synthetic cohort: seeded, boxed, and readable by the product's own adapters."""

import cv2
import numpy as np
import pytest

from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.phantom import radiograph as drawing
from bonetumor.phantom.dicom import to_dicom
from bonetumor.phantom.exposure import expose
from bonetumor.phantom.fhir import to_fhir
from bonetumor.phantom.lesion import LesionLook, paint_lesion
from bonetumor.phantom.limb import draw_limb
from bonetumor.phantom.normals import find_normals, to_scene
from bonetumor.phantom.patient import draw_normal, draw_patient
from bonetumor.phantom.scene import draw_anchors
from bonetumor.phantom.tumour import TYPES
from bonetumor.phantom.visible import visible_box
from kit.validators import dciodvfy


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


def test_a_box_bounds_what_can_be_seen_and_not_what_was_painted():
    bare = np.full((100, 120), 1000, np.uint16)
    mask = np.zeros((100, 120), np.float32)
    mask[20:60, 30:80] = 1.0
    painted = bare.copy()
    painted[mask > 0] = 1600
    assert visible_box(mask, painted, bare) == (30.0, 20.0, 80.0, 60.0)
    collimated, without = painted.copy(), bare.copy()
    collimated[45:], without[45:] = 0, 0
    assert visible_box(mask, collimated, without) == (30.0, 20.0, 80.0, pytest.approx(45, abs=2))
    assert visible_box(mask, painted, painted) is None
    collimated[24:], without[24:] = 4095, 4095  # a tenth of it is left
    assert visible_box(mask, collimated, without) is None
    faint = np.where(mask > 0, bare + 40, bare).astype(np.uint16)  # a hundredth of the range
    assert visible_box(mask, faint, bare) is None


def test_what_the_exposure_hides_is_in_no_box(monkeypatch):
    def expose_upper_half(density, rng):
        pixels = expose(density, rng)
        pixels[len(pixels) // 2 :] = 0
        return pixels

    whole = [draw_patient(3, n, longest_px=320).radiograph for n in range(12)]
    monkeypatch.setattr(drawing, "expose", expose_upper_half)
    halved = [draw_patient(3, n, longest_px=320).radiograph for n in range(12)]
    reach = [max(box[3] / len(r.pixels) for box in r.boxes) for r in whole]
    assert sum(r > 0.55 for r in reach) > 3  # or nothing would be hidden
    for radiograph in halved:
        assert radiograph.boxes  # drawn again until something of it can be seen
        assert max(box[3] for box in radiograph.boxes) <= len(radiograph.pixels) / 2 + 2


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
    path = tmp_path / "phantom.dcm"
    to_dicom(draw_patient(1, number, longest_px=320)).save_as(path, enforce_file_format=True)
    said = dciodvfy(path)
    assert "Error" not in said, said
