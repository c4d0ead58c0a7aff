"""The synthetic cohort: seeded, boxed, and readable by the product's own adapters."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.phantom import radiograph as drawing
from bonetumor.phantom.bones import to_scene
from bonetumor.phantom.dicom import to_dicom
from bonetumor.phantom.exposure import expose
from bonetumor.phantom.fhir import to_fhir
from bonetumor.phantom.lesion import LesionLook, paint_lesion
from bonetumor.phantom.limb import draw_limb
from bonetumor.phantom.normals import find_normals
from bonetumor.phantom.patient import draw_normal, draw_patient
from bonetumor.phantom.scene import Anchor, Scene, draw_anchors
from bonetumor.phantom.signs import Frame, exostosis
from bonetumor.phantom.tumour import TYPES
from bonetumor.phantom.visible import PAINTED, visible_box
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
            within = cv2.dilate((painted[1] > PAINTED).astype(np.uint8), np.ones((25, 25))) > 0
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


# On the hollow bone of the picture below.
ANCHOR = Anchor(row=300.0, column=230.0, axis=(1.0, 0.0), half_width_px=30.0)


def _limb_picture():
    """A thigh with a hollow bone, a thin bone beside it, a fold of skin and the rim of a table."""
    picture = np.full((640, 480), 20.0)
    cv2.rectangle(picture, (90, 0), (430, 640), 80, -1)  # soft tissue
    cv2.rectangle(picture, (200, 0), (260, 640), 190, -1)  # cortex
    cv2.rectangle(picture, (212, 0), (248, 640), 150, -1)  # marrow
    cv2.rectangle(picture, (330, 0), (350, 640), 170, -1)
    cv2.ellipse(picture, (130, 320), (12, 60), 0, 0, 360, 97, -1)
    cv2.rectangle(picture, (0, 620), (480, 640), 160, -1)
    noise = np.random.default_rng(5).normal(0, 3, picture.shape)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 2) + noise, 0, 255).astype(np.uint8)


def test_marrow_is_bone_and_the_gap_between_bones_folds_and_tables_are_none():
    bone = to_scene(_limb_picture()).bone
    assert bone[100:500, 225:235].mean() > 0.95  # marrow
    assert bone[100:500, 335:345].mean() > 0.95
    assert bone[100:500, 275:315].mean() < 0.05
    assert not bone[250:390, 115:145].any()
    assert not bone[625:, 20:180].any()


def test_only_the_bone_of_the_lesion_is_in_its_frame():
    scene = to_scene(_limb_picture())
    frame = Frame.around(scene, ANCHOR, (120.0, 80.0), np.random.default_rng(1))
    inside = frame.inside[:, 230 - frame.window[1].start :]
    assert inside[:, :25].min() > 0.5
    assert inside[:, 60:].max() < 0.5


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_no_tumour_is_cut_off_where_its_painter_stops(kind):
    scene = to_scene(_limb_picture())
    drawn = 0
    for attempt in range(12):
        rng = np.random.default_rng([3, attempt])
        size = (float(rng.uniform(40, 140)), float(rng.uniform(20, 60)))
        frame = Frame.around(scene, ANCHOR, size, np.random.default_rng([3, attempt]))
        painted = paint_lesion(scene, ANCHOR, size, kind, LesionLook.draw(kind, rng), rng)
        if painted is not None:
            drawn += 1
            mask = painted[1][frame.window] > PAINTED
            for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
                assert not side.any()
    assert drawn


def test_an_exostosis_grows_out_of_the_surface_of_its_bone():
    scene = to_scene(_limb_picture())
    grown = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        frame = Frame.around(scene, ANCHOR, (60.0, 30.0), rng)
        _, mask = exostosis(frame, rng)
        if mask.any():
            grown += 1
            count, _ = cv2.connectedComponents((mask > PAINTED).astype(np.uint8))
            assert count == 2  # background, and one piece
            assert frame.surface_px[mask > PAINTED].max() > 0
            assert (frame.surface_px[mask > PAINTED] < 0).mean() > 0.5
    assert grown
    filled = Scene(
        density=scene.density, floor=scene.floor, bone=np.ones_like(scene.bone), window=scene.window
    )
    frame = Frame.around(filled, ANCHOR, (60.0, 30.0), np.random.default_rng(0))
    assert not exostosis(frame, np.random.default_rng(0))[1].any()  # nowhere to grow out


def test_a_tumour_of_bone_that_would_fall_into_pieces_is_not_painted():
    scene = to_scene(_limb_picture())
    cyst = next(kind for kind in TYPES if kind.name == "simple bone cyst")
    look = replace(LesionLook.draw(cyst, np.random.default_rng(2)), eccentric=0.0, expansion=0.0)
    args = (ANCHOR, (90.0, 50.0), cyst, look)
    assert paint_lesion(scene, *args, np.random.default_rng(2)) is not None
    bone = scene.bone.copy()
    bone[200:400, 212:248] = False  # two cortices, far from each other
    broken = Scene(density=scene.density, floor=scene.floor, bone=bone, window=scene.window)
    assert paint_lesion(broken, *args, np.random.default_rng(2)) is None


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
