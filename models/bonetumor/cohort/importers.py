"""Other layouts read as cohorts: BTXRD (LabelMe), COCO, YOLO, plain normals.

Files stay where they are. Each importer answers patient records whose paths are relative to the
folder it was given, and what it could not use. An image whose label is known to be unreadable is
left out: it must not pass for a normal one. None of these layouts names patients: see each importer
for the proxy. All of them are taken to hold real patients.
"""

import csv
import json
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from pydantic import ValidationError

from bonetumor.cohort.classes import BTXRD_CLASSES
from bonetumor.cohort.grouping import find_copies, join_places, person_of, read_names
from bonetumor.cohort.layouts import PICTURES, find_pictures, label_of
from bonetumor.cohort.record import ImageRecord, PatientRecord, Split
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.image import Corners

_T = TypeVar("_T")
_MALFORMED = (AttributeError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an importer made of a folder."""

    patients: tuple[PatientRecord, ...]
    problems: tuple[str, ...]


def import_btxrd(folder: Path, names: Sequence[Path] = ()) -> Imported:
    """BTXRD: `dataset.csv`, `images/`, `Annotations/*.json` (LabelMe).

    Runs of consecutive images with the same centre, age, sex and site are taken for one patient.
    Patients of whom two pictures are near copies, or share a person by the authors' own file
    names, are one group. Normals that are a near copy of a picture with a tumour, or that by
    their name show a patient with one, are left out.
    Centre 1 is for training and validation, centres 2 and 3 are the test, with whoever shares a
    group with them.

    `names`: CSV files with the authors' names (`grouping.read_names`).

    Raises:
        InvalidInput: `dataset.csv` or one of the lists cannot be read, or lacks a column, or the
            lists name none of the images.
    """
    table = _read_table(folder / "dataset.csv", ("image_id", "center", "tumor"))
    rows = [row for row in table if row["image_id"]]
    problems = [
        f"line {line}: expected an image_id, got none"
        for line, row in enumerate(table, start=2)
        if not row["image_id"]
    ]
    for row in rows:
        row["_site"] = ",".join(s for s in _SITES if row.get(s) == "1")
    copies = find_copies([folder / "images" / row["image_id"] for row in rows])
    persons = _persons(rows, read_names(names)) if names else {}
    left_out = _contradicted(rows, copies, persons)
    problems += left_out.values()
    joins = [*copies, *((own[0], place) for own in persons.values() for place in own[1:])]
    patients, members = [], []
    for number, places in enumerate(_runs(rows), start=1):
        members.append(places)
        kept = [rows[place] for place in places if place not in left_out]
        if not kept:
            continue
        try:
            patients.append(_btxrd_patient(folder, kept, number, problems))
        except (ValueError, ValidationError) as error:
            problems.append(f"patient {number}: {str(error).splitlines()[0]}")
    return _answer(_grouped(patients, members, joins), problems, folder)


def import_coco(folder: Path, annotations: Path) -> Imported:
    """COCO: every box of every category is a tumour; each image is taken for one patient."""
    content = _read_json(annotations)
    images, labels = (content.get(key, []) for key in ("images", "annotations"))
    if not isinstance(images, list) or not isinstance(labels, list):
        raise InvalidInput(
            f"cohort: expected lists of COCO's images and annotations in {annotations.name}"
        )
    problems: list[str] = []
    names: dict[Any, str] = {}
    for number, image in enumerate(images):
        with _naming(f"image {number}", "id and file_name", problems):
            names[image["id"]] = _located(folder, str(image["file_name"]))
    boxes: dict[Any, list[Corners]] = {key: [] for key in names}
    for number, entry in enumerate(labels):
        with _naming(f"annotation {number}", "the image_id of one of the images", problems):
            own = boxes[entry["image_id"]]
            own.append(_NOWHERE)  # so that the image is left out if the box cannot be read
            with _naming(f"annotation {number}", "a bbox of four numbers", problems):
                x, y, width, height = (float(v) for v in entry["bbox"])
                own[-1] = (x, y, x + width, y + height)
    sources = [(name, boxes[key], None) for key, name in names.items()]
    return _answer(_single_images(sources, problems), problems, folder)


def import_yolo(folder: Path, *, unlabelled_are_normal: bool = False) -> Imported:
    """YOLO as ultralytics and Roboflow lay it out (`layouts`).

    Every box of every class is a tumour. Each image is taken for one patient; those that Roboflow
    made of one picture are a group. An image with an empty label is a normal. One without any
    label may as well be one that nobody has labelled yet: it is left out, unless
    `unlabelled_are_normal`.

    Raises:
        InvalidInput: there is no image with a label.
    """
    problems: list[str] = []
    sources: list[tuple[str, list[Corners], Split | None]] = []
    for image, split in find_pictures(folder, problems):
        file = Path(os.path.relpath(image, folder)).as_posix()
        label = label_of(image)
        if not label.is_file() and not unlabelled_are_normal:
            problems.append(
                f"{file}: expected a label at {Path(os.path.relpath(label, folder)).as_posix()}, "
                "got none; image left out"
            )
            continue
        try:
            found = _yolo_boxes(label, image)
        except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            problems.append(f"{file}: {error}")
            continue
        sources.append((file, found, split))
    patients = [_of_one_picture(p) for p in _single_images(sources, problems)]
    return _answer(patients, problems, folder)


def import_normals(folder: Path) -> Imported:
    """A folder of pictures without any tumour: each is taken for one patient, all for the test."""
    problems: list[str] = []
    sources: list[tuple[str, list[Corners], Split | None]] = [
        (str(path.relative_to(folder)), [], "test")
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in PICTURES
    ]
    return _answer(_single_images(sources, problems), problems, folder)


# No box: refused like any other that has no area, and its image with it.
_NOWHERE = (0.0, 0.0, 0.0, 0.0)
_SITES = (
    "hand", "ulna", "radius", "humerus", "foot", "tibia", "fibula", "femur", "hip bone",
    "ankle-joint", "knee-joint", "hip-joint", "wrist-joint", "elbow-joint", "shoulder-joint",
)  # fmt: skip


def _runs(rows: Sequence[dict[str, str]]) -> Iterator[list[int]]:
    """The places of the rows of each patient, by the proxy."""

    def proxy(place: int) -> tuple[str, ...]:
        return tuple(rows[place].get(k, "") for k in ("center", "age", "gender", "_site"))

    return (list(places) for _, places in groupby(range(len(rows)), key=proxy))


def _persons(
    rows: Sequence[dict[str, str]], names: Mapping[str, Iterable[str]]
) -> dict[Hashable, list[int]]:
    """The places of the rows of each person that the authors' names tell of."""
    if not any(Path(row["image_id"]).stem in names for row in rows):
        raise InvalidInput(
            "names: expected image_id as in dataset.csv, got names of none of its images"
        )
    found: dict[Hashable, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        for name in sorted(names.get(Path(row["image_id"]).stem, ())):
            person = person_of(name, row["center"])
            if person is not None:
                found[person].append(place)
    return found


def _contradicted(
    rows: Sequence[dict[str, str]],
    copies: Iterable[tuple[int, int]],
    persons: Mapping[Hashable, list[int]],
) -> dict[int, str]:
    """The places of normals that cannot be such, and why."""
    found: dict[int, str] = {}
    for own in persons.values():
        ill = [place for place in own if rows[place]["tumor"] == "1"]
        found |= {
            place: f"{rows[place]['image_id']}: expected a normal, got by its name the patient of "
            f"{rows[ill[0]]['image_id']}, who has a tumour; image left out"
            for place in own
            if ill and rows[place]["tumor"] == "0"
        }
    for pair in copies:
        normal, ill_one = sorted(pair, key=lambda place: rows[place]["tumor"])
        if (rows[normal]["tumor"], rows[ill_one]["tumor"]) == ("0", "1"):
            found[normal] = (
                f"{rows[normal]['image_id']}: expected a normal, got a near copy of "
                f"{rows[ill_one]['image_id']}, which shows a tumour; image left out"
            )
    return found


def _grouped(
    patients: Iterable[PatientRecord],
    members: Sequence[Sequence[int]],
    joins: Iterable[tuple[int, int]],
) -> list[PatientRecord]:
    """The patients with their groups: `members` are the places of the rows of each run, and
    `joins` the pairs of places that may show one person."""
    run_of = {place: run for run, places in enumerate(members) for place in places}
    first = join_places(len(members), ((run_of[a], run_of[b]) for a, b in joins))
    names = [_btxrd_name(run + 1) for run in first]
    by_patient = {_btxrd_name(run + 1): name for run, name in enumerate(names)}
    shared = {name for name in names if names.count(name) > 1}
    patients = list(patients)
    tested = {by_patient[p.patient] for p in patients if p.split == "test"}
    return [
        p.model_copy(update={"group": group, "split": "test" if group in tested else p.split})
        if (group := by_patient[p.patient]) in shared
        else p
        for p in patients
    ]


def _btxrd_name(number: int) -> str:
    return f"btxrd-{number:05d}"


def _btxrd_patient(
    folder: Path, rows: list[dict[str, str]], number: int, problems: list[str]
) -> PatientRecord:
    first = rows[0]
    kinds = [k for k in BTXRD_CLASSES if first.get(k) == "1"]
    images = []
    for row in rows:
        name = row["image_id"]
        label = folder / "Annotations" / f"{Path(name).stem}.json"
        try:
            boxes = _labelme_boxes(label) if label.is_file() else []
        except InvalidInput as error:
            problems.append(f"{name}: {error}; image left out")
            continue
        if row["tumor"] not in ("0", "1"):
            problems.append(f"{name}: expected 0 or 1 as tumor, got {row['tumor'] or 'none'}")
            continue
        if not boxes and row["tumor"] == "1":
            problems.append(f"{name}: expected a box of its tumour, got none; image left out")
            continue
        images.append(ImageRecord(file=f"images/{name}", boxes=tuple(boxes)))
    sex = {"M": "M", "F": "F", "male": "M", "female": "F"}.get(first.get("gender", ""))
    centre = first.get("center", "")
    return PatientRecord.model_validate(
        {
            "patient": _btxrd_name(number),
            "centre": centre,
            "split": None if centre == "1" else "test",
            "tumour_class": BTXRD_CLASSES[kinds[0]] if kinds else None,
            "tumour_type": kinds[0] if kinds else None,
            "age_years": first.get("age") or None,
            "sex": sex,
            "site": first["_site"] or None,
            "images": images,
        }
    )


def _labelme_boxes(path: Path) -> list[Corners]:
    """BTXRD draws a lesion as a rectangle, a polygon or both: rectangles are taken if there are."""
    shapes = _read_json(path).get("shapes") or []
    try:
        rectangles = [s for s in shapes if s.get("shape_type") == "rectangle"]
        return [_around(shape["points"]) for shape in rectangles or shapes]
    except _MALFORMED as error:
        raise InvalidInput(
            f"label: expected shapes with points in {path.name}, got {type(error).__name__}"
        ) from error


def _around(points: Iterable[tuple[float, float]]) -> Corners:
    """The box around points; ValueError if there are none."""
    xs, ys = zip(*((float(x), float(y)) for x, y in points), strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _of_one_picture(record: PatientRecord) -> PatientRecord:
    """With its group, if Roboflow made it: `name.rf.…` is a version of the picture `name`."""
    source, made, _ = record.patient.partition(".rf.")
    return record.model_copy(update={"group": source}) if made else record


def _yolo_boxes(label: Path, image: Path) -> list[Corners]:
    if not label.is_file():
        return []
    with Image.open(image) as picture:
        width, height = picture.size
    boxes = []
    for line in label.read_text().splitlines():
        if line.strip():
            x0, y0, x1, y1 = _yolo_box([float(v) for v in line.split()[1:]])
            boxes.append((x0 * width, y0 * height, x1 * width, y1 * height))
    return boxes


def _yolo_box(numbers: list[float]) -> Corners:
    """What follows the class in a line: centre and size, or the corners of a polygon."""
    if len(numbers) == 4:
        x, y, w, h = numbers
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(
            f"expected a class and 4 numbers, or a polygon, in each line, got {len(numbers)}"
        )
    return _around(zip(numbers[::2], numbers[1::2], strict=True))


def _single_images(
    sources: Iterable[tuple[str, list[Corners], Split | None]], problems: list[str]
) -> list[PatientRecord]:
    patients = []
    for file, boxes, split in sources:
        try:
            image = ImageRecord(file=file, boxes=tuple(boxes))
        except ValidationError as error:
            problems.append(f"{file}: {error.errors()[0]['msg']}")
            continue
        patients.append(PatientRecord(patient=file, split=split, images=(image,)))
    return patients


def _answer(patients: list[PatientRecord], problems: list[str], folder: Path) -> Imported:
    kept = tuple(p.model_copy(update={"origin": "real"}) for p in patients if p.images)
    if not kept:
        first = f"; first: {problems[0]}" if problems else ""
        raise InvalidInput(f"cohort: expected images with labels in {folder}, got none{first}")
    absent = [
        f"{i.file}: no such file" for p in kept for i in p.images if not (folder / i.file).is_file()
    ]
    return Imported(patients=kept, problems=(*problems, *absent))


def _located(folder: Path, name: str) -> str:
    """Where a picture lies: some files name it from the folder, some from `images/` in it."""
    below = Path("images") / name
    return str(below) if not (folder / name).is_file() and (folder / below).is_file() else name


@contextmanager
def _naming(what: str, expected: str, problems: list[str]) -> Iterator[None]:
    """An entry that cannot be read is named, and the others go on."""
    try:
        yield
    except _MALFORMED as error:
        problems.append(f"{what}: expected {expected}, got {type(error).__name__}: {error}")


def _read_table(path: Path, needed: Iterable[str]) -> list[dict[str, str]]:
    """The rows; spreadsheets write a mark before the first column's name, and 1 as 1.0."""
    table = _reading(path, lambda: list(csv.DictReader(path.read_text("utf-8-sig").splitlines())))
    named = list(table[0]) if table else ["no row"]
    absent = [name for name in needed if name not in named]
    if absent:
        raise InvalidInput(
            f"cohort: expected the column {absent[0]} in {path.name}, "
            f"got {', '.join(map(str, named))}"
        )
    return [
        {k: (v or "").strip().removesuffix(".0") for k, v in row.items() if k is not None}
        for row in table
    ]


def _read_json(path: Path) -> dict[str, Any]:
    content = _reading(path, lambda: json.loads(path.read_text("utf-8-sig")))
    if not isinstance(content, dict):
        raise InvalidInput(f"cohort: expected a JSON object in {path.name}, got another value")
    return content


def _reading(path: Path, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidInput(
            f"cohort: expected a readable {path.name}, got {type(error).__name__}"
        ) from error
