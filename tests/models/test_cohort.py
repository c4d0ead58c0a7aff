"""Cohorts: what is wrong in them is said, and the rest is used."""

import json

import numpy as np
import pytest
from PIL import Image

from bonetumor.cohort.grouping import find_copies, person_of
from bonetumor.cohort.importers import import_btxrd, import_coco, import_normals, import_yolo
from bonetumor.cohort.joining import join_cohorts
from bonetumor.cohort.record import ImageRecord, PatientRecord, read_cohort, write_cohort
from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput


def _picture(path, size=(100, 80)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size).save(path)


def _patient(name, **fields):
    return PatientRecord(patient=name, images=(ImageRecord(file="a.png"),), **fields)


def test_a_cohort_comes_back_as_it_was_written(tmp_path):
    _picture(tmp_path / "a.png")
    patients = [
        _patient("1", tumour_class=TumourClass.MALIGNANT, age_years=15, sex="F", split="test"),
        PatientRecord(
            patient="2", images=(ImageRecord(file="a.png", frame=2, boxes=((1, 2, 3.5, 4),)),)
        ),
    ]
    assert write_cohort(tmp_path, patients) == 2
    cohort = read_cohort(tmp_path)
    assert list(cohort.patients) == patients
    assert cohort.problems == ()
    assert [p.patient for p in cohort.of("test")] == ["1"] + [
        p.patient for p in patients[1:] if p.part == "test"
    ]


BROKEN = {
    "{": "line 2",
    '{"age_years": 3}': "line 2: patient: Field required",
    '{"patient": "x", "age_years": -3}': "line 2: age_years: ",
    '{"patient": "x", "tumour_class": "bad"}': "line 2: tumour_class: ",
    '{"patient": "x", "unknown": 1}': "line 2: unknown: ",
    '{"patient": "x", "origin": "drawn"}': "line 2: origin: ",
    '{"patient": "1"}': "line 2: expected each patient once",
    '{"patient": "x", "images": [{"file": "no.png"}]}': "line 2: no file no.png",
    '{"patient": "x", "images": [{"file": "a.png", "boxes": [[5, 5, 2, 9]]}]}': "expected a box",
    '{"patient": "x", "labs": [{"analyte": "alp", "value": NaN, "unit": "U/L"}]}': "line 2",
}


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_line_is_reported_and_the_rest_goes_on(tmp_path, line):
    _picture(tmp_path / "a.png")
    good = json.dumps({"patient": "1", "images": [{"file": "a.png"}]})
    last = json.dumps({"patient": "3"})
    (tmp_path / "cohort.jsonl").write_text(f"{good}\n{line}\n\n{last}\n")
    cohort = read_cohort(tmp_path)
    assert {"1", "3"} <= {p.patient for p in cohort.patients}
    assert len(cohort.problems) >= 1
    assert BROKEN[line] in cohort.problems[0]


def test_an_empty_or_absent_cohort_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"expected a readable cohort\.jsonl"):
        read_cohort(tmp_path)
    (tmp_path / "cohort.jsonl").write_text("\n")
    with pytest.raises(InvalidInput, match="expected patients"):
        read_cohort(tmp_path)


def test_one_group_never_lies_in_two_splits(tmp_path):
    _picture(tmp_path / "a.png")
    write_cohort(
        tmp_path, [_patient("1", group="g", split="train"), _patient("2", group="g", split="test")]
    )
    with pytest.raises(InvalidInput, match="expected each group in one split"):
        read_cohort(tmp_path)


def test_a_patient_counts_as_real_unless_it_says_that_it_is_synthetic():
    kinds = [_patient("1", origin=origin).is_synthetic for origin in ("synthetic", "real", None)]
    assert kinds == [True, False, False]


def test_splits_follow_from_the_group_and_have_their_shares():
    parts = [_patient(str(i)).part for i in range(20_000)]
    assert parts == [_patient(str(i)).part for i in range(20_000)]
    assert parts.count("train") / 20_000 == pytest.approx(0.7, abs=0.015)
    assert parts.count("test") / 20_000 == pytest.approx(0.15, abs=0.015)
    assert _patient("1", group="g").part == _patient("2", group="g").part


def test_cohorts_are_joined_where_they_lie(tmp_path):
    for name in ("north", "south"):
        _picture(tmp_path / name / "images" / "1.png")
        image = ImageRecord(file="images/1.png")
        first = PatientRecord(
            patient="P1", images=(image,), slides=("images/1.png",), group="family"
        )
        named = PatientRecord(patient="P2", centre="ward 7", fhir="fhir/2.json", origin="synthetic")
        write_cohort(tmp_path / name, [first, named])
    found = [read_cohort(tmp_path / name) for name in ("north", "south")]
    out = tmp_path / "elsewhere" / "both"
    assert write_cohort(out, join_cohorts(found, out)) == 4
    joined = read_cohort(out)
    assert joined.problems == ()
    first, second, third, _ = joined.patients
    assert (first.patient, first.group, first.centre) == ("north-P1", "north-family", "north")
    assert (second.patient, second.centre) == ("north-P2", "ward 7")
    assert second.fhir == "../../north/fhir/2.json"
    assert [p.origin for p in joined.patients] == [None, "synthetic"] * 2
    assert third.images[0].file == "../../south/images/1.png"
    assert [p.part for p in joined.patients] == [p.part for c in found for p in c.patients]
    with pytest.raises(InvalidInput, match="different names, got north twice"):
        join_cohorts([found[0], found[0]], out)
    with pytest.raises(InvalidInput, match="expected another folder"):
        join_cohorts(found, tmp_path / "north")  # whose cohort.jsonl would be lost


def _labelme(*shapes):
    return json.dumps(
        {"shapes": [{"shape_type": kind, "points": points} for kind, points in shapes]}
    )


def test_btxrd_is_read_with_proxy_patients_and_a_hold_out_by_centre(tmp_path):
    header = "image_id,center,age,gender,hand,femur,tumor,osteosarcoma,osteochondroma\n"
    rows = (
        "1.jpeg,1,15,M,0,1,1,1,0\n2.jpeg,1,15,M,0,1,1,1,0\n3.jpeg,2,40,F,1,0,1,0,1\n"
        "4.jpeg,1,30,F,1,0,0,0,0\n5.jpeg,1,31,F,1,0,1,0,1\n"
    )
    (tmp_path / "dataset.csv").write_text(header + rows)
    for number in range(1, 6):
        _picture(tmp_path / "images" / f"{number}.jpeg")
    labels = tmp_path / "Annotations"
    labels.mkdir()
    both = _labelme(
        ("rectangle", [[30, 40], [10, 20]]), ("polygon", [[11, 21], [29, 39], [15, 30]])
    )
    (labels / "1.json").write_text(both)
    (labels / "2.json").write_text(_labelme(("polygon", [[1, 2], [9, 4], [5, 8]])))
    (labels / "3.json").write_text(_labelme(("rectangle", [[1, 1], [9, 9]])))
    found = import_btxrd(tmp_path)
    assert [len(p.images) for p in found.patients] == [2, 1, 1]
    first, second, normal = found.patients
    assert first.tumour_class is TumourClass.MALIGNANT
    assert [i.boxes for i in first.images] == [((10, 20, 30, 40),), ((1, 2, 9, 8),)]
    assert (first.split, second.split) == (None, "test")
    assert normal.is_normal
    assert found.problems == ("5.jpeg: expected a box of its tumour, got none; image left out",)


def _drawn(path, seed, size=(120, 90), gain=1.0):
    """A picture of its own for each seed; sizes, formats and exposures of it are near copies."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    picture.point(lambda v: int(v * gain)).save(path)


def _btxrd(folder, rows, names=()):
    """BTXRD's layout. `rows`: image, centre, age, sex, tumour, and the seed of its picture."""
    table = ["image_id,center,age,gender,femur,tumor,osteosarcoma"]
    (folder / "Annotations").mkdir(parents=True)
    for image, centre, age, sex, tumour, seed in rows:
        table.append(f"{image},{centre},{age},{sex},{tumour},{tumour},{tumour}")
        _drawn(folder / "images" / image, seed)
        if tumour:
            shapes = _labelme(("rectangle", [[1, 1], [9, 9]]))
            (folder / "Annotations" / image).with_suffix(".json").write_text(shapes)
    (folder / "dataset.csv").write_text("\n".join(table))
    listed = ["Original Name,image_id,center", *(f"{name},{image},1" for image, name in names)]
    (folder / "names.csv").write_text("\n".join(listed), encoding="utf-8")
    return folder / "names.csv"


def _groups(found):
    return {i.file.removeprefix("images/"): p.group for p in found.patients for i in p.images}


def test_btxrd_patients_who_are_one_by_the_authors_names_are_a_group(tmp_path):
    names = _btxrd(
        tmp_path,
        [
            ("1.jpeg", 1, 15, "M", 1, 1),
            ("2.jpeg", 1, 40, "F", 1, 2),
            ("3.jpeg", 1, 15, "M", 1, 3),
            ("4.jpeg", 1, 15, "M", 0, 4),
        ],
        [
            ("1.jpeg", "b7-M-15-恶-骨肉瘤-股骨-1.jpeg"),
            ("2.jpeg", "b7-F-40-恶-骨肉瘤-股骨-1.jpeg"),
            ("3.jpeg", "b7-M-15-恶-骨肉瘤-胫骨-2.jpeg"),
            ("4.jpeg", "15m_1.jpeg"),
            ("another.jpeg", "b8-M-15-恶-骨肉瘤-股骨-1.jpeg"),
        ],
    )
    assert set(_groups(import_btxrd(tmp_path)).values()) == {None}
    found = import_btxrd(tmp_path, [names])
    assert _groups(found) == {
        "1.jpeg": "btxrd-00001",
        "2.jpeg": None,
        "3.jpeg": "btxrd-00001",
        "4.jpeg": None,
    }
    assert [p.patient for p in found.patients] == [f"btxrd-0000{n}" for n in range(1, 5)]
    assert len({p.part for p in found.patients if p.group}) == 1
    assert found.problems == ()


@pytest.mark.parametrize(
    ("one", "other", "centre", "same"),
    [
        ("b7-M-15-恶-骨肉瘤-股骨-1.jpeg", "b7-M-15-恶-骨肉瘤-胫骨-3.jpeg", "1", True),
        ("b7-M-15-恶-骨肉瘤-股骨-1.jpeg", "b7-M-51-良-骨软骨瘤-股骨-2.jpeg", "1", False),
        ("b7-M-15-恶-骨肉瘤-股骨-1.jpeg", "y7-M-15-恶-骨肉瘤-股骨-2.jpeg", "1", False),
        ("15m-osteosarcoma-6.jpeg", "15m-osteosarcoma-6 (2).png", "2", True),
        ("15m-osteosarcoma-6 (1).jpeg", "15m-osteosarcoma-60 (1).jpeg", "2", False),
        ("12w骨肉瘤1.jpeg", "12w骨肉瘤2.jpeg", "3", True),
        ("12w骨肉瘤1.jpeg", "13w骨肉瘤1.jpeg", "3", False),
    ],
)
def test_names_of_one_person_differ_in_the_view_alone(one, other, centre, same):
    assert (person_of(one, centre) == person_of(other, centre)) is same


@pytest.mark.parametrize("name", ["10m_1.jpeg", "f58_11.jpeg"])
def test_a_name_that_counts_pictures_of_an_age_means_nobody(name):
    assert person_of(name, "1") is None


def test_near_copies_are_found_whatever_their_size_format_and_exposure(tmp_path):
    files = [tmp_path / name for name in ("a.jpeg", "b.png", "c.png", "even.png", "absent.png")]
    _drawn(files[0], 1, size=(900, 700))
    _drawn(files[1], 1, size=(100, 80), gain=0.6)
    _drawn(files[2], 2)
    Image.new("L", (50, 50), 7).save(files[3])
    assert find_copies([*files, files[3]]) == [(0, 1)]
    assert find_copies([]) == []


def test_btxrd_patients_of_near_copies_are_a_group_and_one_that_is_tested_takes_all(tmp_path):
    rows = [
        ("1.jpeg", 1, 15, "M", 1, 1),
        ("2.jpeg", 1, 16, "M", 1, 2),
        ("3.jpeg", 1, 17, "M", 1, 1),
        ("4.jpeg", 1, 18, "M", 1, 3),
        ("5.jpeg", 2, 19, "M", 1, 3),
    ]
    _btxrd(tmp_path, rows)
    found = import_btxrd(tmp_path)
    assert [p.group for p in found.patients] == [
        *("btxrd-00001", None, "btxrd-00001"),
        *("btxrd-00004", "btxrd-00004"),
    ]
    assert [p.split for p in found.patients] == [None, None, None, "test", "test"]
    write_cohort(tmp_path, found.patients)
    assert len(read_cohort(tmp_path).patients) == len(rows)  # none of the groups is torn


def test_a_normal_of_btxrd_that_is_a_picture_of_a_tumour_is_left_out(tmp_path):
    """And the other normals of its run stay with the patient whom it shows."""
    names = _btxrd(
        tmp_path,
        [
            ("1.jpeg", 1, 15, "M", 1, 1),
            ("2.jpeg", 1, 16, "F", 0, 1),
            ("3.jpeg", 1, 16, "F", 0, 3),
            ("4.jpeg", 1, 17, "F", 0, 4),
            ("5.jpeg", 1, 18, "F", 0, 5),
        ],
        [("1.jpeg", "b7-M-15-恶-骨肉瘤-股骨-1.jpeg"), ("5.jpeg", "b7-M-15-恶-正常.jpeg")],
    )
    found = import_btxrd(tmp_path, [names])
    assert _groups(found) == {"1.jpeg": "btxrd-00001", "3.jpeg": "btxrd-00001", "4.jpeg": None}
    assert found.problems == (
        (
            "5.jpeg: expected a normal, got by its name the patient of 1.jpeg, who has a tumour; "
            "image left out"
        ),
        (
            "2.jpeg: expected a normal, got a near copy of 1.jpeg, which shows a tumour; "
            "image left out"
        ),
    )


def test_a_list_of_names_that_does_not_serve_is_refused(tmp_path):
    names = _btxrd(tmp_path, [("1.jpeg", 1, 15, "M", 1, 1)], [("2.jpeg", "b7-M-15-恶-1.jpeg")])
    with pytest.raises(InvalidInput, match="got names of none of its images"):
        import_btxrd(tmp_path, [names])
    names.write_text("image_id,name\n1.jpeg,x\n")
    with pytest.raises(InvalidInput, match=r"image_id and Original Name in names\.csv, got"):
        import_btxrd(tmp_path, [names])
    names.write_bytes("image_id,Original Name\n1.jpeg,b7-恶".encode("gb18030"))
    with pytest.raises(InvalidInput, match="CSV in UTF-8"):
        import_btxrd(tmp_path, [names])


def test_coco_and_yolo_layouts_give_the_same_boxes(tmp_path):
    for split in ("train", "val"):
        _picture(tmp_path / "images" / split / f"{split}.png")
        (tmp_path / "labels" / split).mkdir(parents=True)
        (tmp_path / "labels" / split / f"{split}.txt").write_text("0 0.5 0.5 0.2 0.25\n")
    content = {
        "images": [
            {"id": n, "file_name": f"images/{s}/{s}.png"} for n, s in enumerate(["train", "val"])
        ],
        "annotations": [{"image_id": n, "bbox": [40, 30, 20, 20]} for n in range(2)],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    coco, yolo = import_coco(tmp_path, tmp_path / "coco.json"), import_yolo(tmp_path)
    assert [p.images for p in coco.patients] == [p.images for p in yolo.patients]
    assert coco.patients[0].images[0].boxes == ((40, 30, 60, 50),)
    assert [p.split for p in yolo.patients] == ["train", "validation"]
    (tmp_path / "labels" / "val" / "val.txt").write_text("0 0.5 nonsense\n")
    assert len(import_yolo(tmp_path).problems) == 1


def test_a_polygon_of_yolo_becomes_its_box_and_other_counts_are_refused(tmp_path):
    for name, line in (
        ("polygon", "0 0.25 0.5 0.75 0.25 0.5 0.75"),
        ("certain", "0 0.5 0.5 0.2 0.2 0.9"),
        ("short", "0 0.5 0.5"),
    ):
        _picture(tmp_path / "images" / f"{name}.png")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{name}.txt").write_text(line)
    (tmp_path / "images" / "scan.dcm").write_bytes(b"x")
    found = import_yolo(tmp_path)
    (only,) = found.patients
    assert only.images[0].boxes == ((25, 20, 75, 60),)
    assert found.problems == (
        "scan.dcm: expected a JPEG, PNG or TIFF picture, got another file",
        "images/certain.png: expected a class and 4 numbers, or a polygon, in each line, got 5",
        "images/short.png: expected a class and 4 numbers, or a polygon, in each line, got 2",
    )


def _labelled(folder, picture, line="0 0.5 0.5 0.2 0.25\n"):
    """A picture and its label, where ultralytics looks for it. No line: no label file."""
    _picture(folder / picture)
    if line is not None:
        label = (folder / picture.replace("images", "labels")).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(line)


def test_an_image_without_a_label_file_is_no_normal_unless_one_says_so(tmp_path):
    _labelled(tmp_path, "images/tumour.png")
    _labelled(tmp_path, "images/normal.png", "")
    _labelled(tmp_path, "images/unlabelled.png", None)
    found = import_yolo(tmp_path)
    normal, tumour = found.patients
    assert (normal.patient, normal.is_normal) == ("images/normal.png", True)
    assert (tumour.patient, tumour.is_normal) == ("images/tumour.png", False)
    assert found.problems == (
        (
            "images/unlabelled.png: expected a label at labels/unlabelled.txt, got none; "
            "image left out"
        ),
    )
    found = import_yolo(tmp_path, unlabelled_are_normal=True)
    assert [p.is_normal for p in found.patients] == [True, False, True]
    assert found.problems == ()


@pytest.mark.parametrize(
    "description",
    [None, "path: /of/another/machine\ntrain: ../train/images\nval: ../valid/images\n"],
)
def test_roboflow_s_layout_is_read_and_versions_of_a_picture_are_a_group(tmp_path, description):
    for part in ("train", "valid"):
        _labelled(tmp_path, f"{part}/images/a_jpg.rf.0{part}.jpg")
    _labelled(tmp_path, "train/images/a_jpg.rf.11.jpg")
    _labelled(tmp_path, "train/images/b.jpg")
    if description:
        (tmp_path / "data.yaml").write_text(description)
    found = import_yolo(tmp_path)
    assert found.problems == ()
    assert [(p.patient, p.group, p.split) for p in found.patients] == [
        ("train/images/a_jpg.rf.0train.jpg", "train/images/a_jpg", "train"),
        ("train/images/a_jpg.rf.11.jpg", "train/images/a_jpg", "train"),
        ("train/images/b.jpg", None, "train"),
        ("valid/images/a_jpg.rf.0valid.jpg", "valid/images/a_jpg", "validation"),
    ]
    assert all(p.images[0].boxes == ((40, 30, 60, 50),) for p in found.patients)


def test_data_yaml_of_ultralytics_names_folders_and_lists(tmp_path):
    for picture in ("one/images/1.png", "two/images/2.png", "two/images/3.png"):
        _labelled(tmp_path / "set", picture)
    _labelled(tmp_path / "set", "flat/4.png")  # the label lies beside the picture
    _labelled(tmp_path / "set", "other/images/5.png")  # and this one nobody names
    (tmp_path / "set" / "val.txt").write_text("./two/images/3.png\n\ntwo/images/gone.png\n")
    (tmp_path / "own.yaml").write_text(
        "path: set\ntrain: [one/images, two/images]\nval: val.txt\ntest: flat\nextra: 1\n"
    )
    found = import_yolo(tmp_path)
    assert [(p.patient, p.split) for p in found.patients] == [
        ("set/one/images/1.png", "train"),
        ("set/two/images/2.png", "train"),
        ("set/two/images/3.png", "train"),
        ("set/flat/4.png", "test"),
    ]
    assert found.problems == (
        "two/images/gone.png: expected the picture that val.txt lists, got none",
        (
            "3.png: expected a picture in one split, got it in train and validation; "
            "taken for the first"
        ),
    )
    assert not any(p.is_normal for p in found.patients)


def test_a_data_yaml_that_names_nothing_that_is_there_gives_way_to_the_folders(tmp_path):
    _labelled(tmp_path, "images/val/1.png")
    (tmp_path / "data.yaml").write_text("train: elsewhere/images\n")
    found = import_yolo(tmp_path)
    assert [(p.patient, p.split) for p in found.patients] == [("images/val/1.png", "validation")]
    assert found.problems == (
        "elsewhere/images: expected a folder of pictures or a list of them, got none",
    )
    (tmp_path / "data.yaml").write_text("train: [")
    with pytest.raises(InvalidInput, match=r"expected readable YAML in data\.yaml"):
        import_yolo(tmp_path)


def test_of_a_coco_file_what_cannot_be_read_is_named_and_its_image_left_out(tmp_path):
    for name in ("a", "b", "c"):
        _picture(tmp_path / "images" / f"{name}.png")
    content = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in ("a", "b", "c", "gone")] + [7],
        "annotations": [
            {"image_id": "a", "bbox": [40, 30, 20, 20]},
            {"image_id": "b", "bbox": [40, 30, 20]},
            {"image_id": "unheard of", "bbox": [40, 30, 20, 20]},
            {"image_id": ["a"], "bbox": [40, 30, 20, 20]},
            None,
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    found = import_coco(tmp_path, tmp_path / "coco.json")
    assert [(p.patient, len(p.images[0].boxes)) for p in found.patients] == [
        ("images/a.png", 1),
        ("images/c.png", 0),
        ("gone.png", 0),
    ]
    said = " ".join(found.problems)
    for part in ("image 4:", "annotation 1:", "annotation 2:", "annotation 3:", "annotation 4:"):
        assert part in said
    assert "images/b.png: Value error, expected a box" in said
    assert found.problems[-1] == "gone.png: no such file"


def test_of_btxrd_what_cannot_be_read_is_named_and_its_image_left_out(tmp_path):
    """As a spreadsheet writes it: a mark before the first name, numbers with a point."""
    (tmp_path / "dataset.csv").write_text(
        "\ufeffimage_id,center,age,gender,femur,tumor,osteosarcoma\n"
        "1.jpeg,1.0,15.0,M,1.0,1.0,1.0\n2.jpeg,1.0,16.0,M,1.0,1.0,1.0\n3.jpeg,1\n,1,18,M,1,1,1\n"
        "4.jpeg,1,19,M,1,1,1\n"
    )
    (tmp_path / "Annotations").mkdir()
    for number in range(1, 5):
        _picture(tmp_path / "images" / f"{number}.jpeg")
    (tmp_path / "Annotations" / "1.json").write_text(_labelme(("rectangle", [[1, 1], [9, 9]])))
    (tmp_path / "Annotations" / "2.json").write_text("[]")
    (tmp_path / "Annotations" / "4.json").write_text('{"shapes": [{"points": []}]}')
    found = import_btxrd(tmp_path)
    (first,) = found.patients
    assert (first.tumour_class, first.split, first.site) == (TumourClass.MALIGNANT, None, "femur")
    said = " ".join(found.problems)
    for part in (
        "line 5: expected an image_id",
        "2.jpeg: cohort: expected a JSON",
        "3.jpeg: expected 0 or 1 as tumor, got none",
        "4.jpeg: label",
    ):
        assert part in said
    (tmp_path / "dataset.csv").write_text("image_id;center\n1.jpeg;1\n")
    with pytest.raises(InvalidInput, match=r"expected the column image_id in dataset\.csv, got"):
        import_btxrd(tmp_path)


def test_a_cohort_that_is_not_utf_8_says_so(tmp_path):
    line = '{"patient": "Größe"}'
    (tmp_path / "cohort.jsonl").write_bytes(line.encode("utf-8-sig"))
    assert read_cohort(tmp_path).patients[0].patient == "Größe"
    (tmp_path / "cohort.jsonl").write_bytes(line.encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"expected UTF-8 in cohort\.jsonl, got a byte"):
        read_cohort(tmp_path)


def test_a_folder_of_normals_is_a_test_split(tmp_path):
    _picture(tmp_path / "deep" / "a.JPG")
    _picture(tmp_path / "b.png")
    (tmp_path / "README").write_text("x")
    found = import_normals(tmp_path).patients
    assert [p.patient for p in found] == ["b.png", "deep/a.JPG"]
    assert {p.origin for p in found} == {"real"}
    assert all(p.is_normal and p.part == "test" for p in found)


def test_a_folder_in_another_layout_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"expected a readable dataset\.csv"):
        import_btxrd(tmp_path)
    with pytest.raises(InvalidInput, match="expected images with labels"):
        import_yolo(tmp_path)
    for text, said in (
        ('{"annotations": [{"image_id": 1}]}', "got none; first: annotation 0"),
        ('{"images": {}}', "expected lists of COCO's images and annotations"),
        ("[]", "expected a JSON object in coco.json"),
    ):
        (tmp_path / "coco.json").write_text(text)
        with pytest.raises(InvalidInput, match=said):
            import_coco(tmp_path, tmp_path / "coco.json")
