"""Other layouts read as cohorts: BTXRD (LabelMe), COCO, YOLO, plain normals.

Files stay where they are. Each importer answers patient records whose paths are relative to the
folder it was given, and what it could not use. None of these layouts names patients: see each
importer for the proxy.
"""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from pydantic import ValidationError

from bonetumor.cohort.record import ImageRecord, PatientRecord, Split
from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.image import Corners

BTXRD_CLASSES = {
    # WHO 2020 table, version 1. Intermediate: locally aggressive or rarely metastasising.
    "osteochondroma": TumourClass.BENIGN,
    "multiple osteochondromas": TumourClass.BENIGN,
    "simple bone cyst": TumourClass.BENIGN,
    "giant cell tumor": TumourClass.INTERMEDIATE,
    "osteofibroma": TumourClass.BENIGN,
    "synovial osteochondroma": TumourClass.INTERMEDIATE,
    "other bt": TumourClass.BENIGN,
    "osteosarcoma": TumourClass.MALIGNANT,
    "other mt": TumourClass.MALIGNANT,
}
BTXRD_CLASSES_VERSION = "WHO 2020, table 1"
_T = TypeVar("_T")
_PICTURES = (".jpeg", ".jpg", ".png")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an importer made of a folder."""

    patients: tuple[PatientRecord, ...]
    problems: tuple[str, ...]


def import_btxrd(folder: Path) -> Imported:
    """BTXRD: `dataset.csv`, `images/`, `Annotations/*.json` (LabelMe).

    Runs of consecutive images with the same centre, age, sex and site are taken for one patient.
    Centre 1 is for training and validation, centres 2 and 3 are the test.
    """
    rows = _read_table(folder / "dataset.csv")
    problems: list[str] = []
    patients = []
    key = lambda row: tuple(row.get(k, "") for k in ("center", "age", "gender", "_site"))  # noqa: E731
    for row in rows:
        row["_site"] = ",".join(s for s in _SITES if row.get(s) == "1")
    for number, (_, group) in enumerate(groupby(rows, key=key), start=1):
        try:
            patients.append(_btxrd_patient(folder, list(group), number, problems))
        except (ValueError, ValidationError) as error:
            problems.append(f"patient {number}: {str(error).splitlines()[0]}")
    return _answer(patients, problems, folder)


def import_coco(folder: Path, annotations: Path) -> Imported:
    """COCO: every box of every category is a tumour; each image is taken for one patient."""
    content = _read_json(annotations)
    boxes: dict[Any, list[Corners]] = {}
    problems: list[str] = []
    sources: list[tuple[str, list[Corners], Split | None]]
    try:
        for entry in content.get("annotations") or []:
            x, y, width, height = (float(v) for v in entry["bbox"])
            boxes.setdefault(entry["image_id"], []).append((x, y, x + width, y + height))
        sources = [
            (str(image["file_name"]), boxes.get(image["id"], []), None)
            for image in content.get("images") or []
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"cohort: expected COCO's images and annotations in {annotations.name}, got an entry "
            f"with {type(error).__name__}: {error}"
        ) from error
    return _answer(_single_images(sources, problems), problems, folder)


def import_yolo(folder: Path) -> Imported:
    """YOLO: `images/` and `labels/`, perhaps with `train`, `val`, `test` below them.

    Each image is taken for one patient.
    """
    problems: list[str] = []
    sources = []
    for image in sorted(p for p in (folder / "images").rglob("*") if p.suffix.lower() in _PICTURES):
        inner = image.relative_to(folder / "images")
        label = (folder / "labels" / inner).with_suffix(".txt")
        try:
            found = _yolo_boxes(label, image)
        except (ValueError, OSError) as error:
            problems.append(f"{inner}: {error}")
            continue
        sources.append((str(image.relative_to(folder)), found, _SPLITS.get(inner.parts[0])))
    return _answer(_single_images(sources, problems), problems, folder)


def import_normals(folder: Path) -> Imported:
    """A folder of pictures without any tumour: each is taken for one patient, all for the test."""
    problems: list[str] = []
    sources: list[tuple[str, list[Corners], Split | None]] = [
        (str(path.relative_to(folder)), [], "test")
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _PICTURES
    ]
    return _answer(_single_images(sources, problems), problems, folder)


_SPLITS: Mapping[str, Split] = {
    "train": "train", "val": "validation", "valid": "validation", "test": "test",
}  # fmt: skip
_SITES = (
    "hand", "ulna", "radius", "humerus", "foot", "tibia", "fibula", "femur", "hip bone",
    "ankle-joint", "knee-joint", "hip-joint", "wrist-joint", "elbow-joint", "shoulder-joint",
)  # fmt: skip


def _btxrd_patient(
    folder: Path, rows: list[dict[str, str]], number: int, problems: list[str]
) -> PatientRecord:
    first = rows[0]
    kinds = [k for k in BTXRD_CLASSES if first.get(k) == "1"]
    images = []
    for row in rows:
        name = row["image_id"]
        label = folder / "Annotations" / f"{Path(name).stem}.json"
        boxes = _labelme_boxes(label) if label.is_file() else []
        if not boxes and row.get("tumor") == "1":
            problems.append(f"{name}: expected a box of its tumour, got none; image left out")
            continue
        images.append(ImageRecord(file=f"images/{name}", boxes=tuple(boxes)))
    sex = {"M": "M", "F": "F", "male": "M", "female": "F"}.get(first.get("gender", ""))
    centre = first.get("center", "")
    return PatientRecord.model_validate(
        {
            "patient": f"btxrd-{number:05d}",
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
    rectangles = [s for s in shapes if s.get("shape_type") == "rectangle"]
    boxes = []
    for shape in rectangles or shapes:
        xs, ys = zip(*shape["points"], strict=True)
        boxes.append((float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys))))
    return boxes


def _yolo_boxes(label: Path, image: Path) -> list[Corners]:
    if not label.is_file():
        return []
    with Image.open(image) as picture:
        width, height = picture.size
    boxes = []
    for line in label.read_text().splitlines():
        if line.strip():
            _, x, y, w, h = (float(v) for v in line.split()[:5])
            boxes.append(
                ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width,
                 (y + h / 2) * height)
            )  # fmt: skip
    return boxes


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
    kept = tuple(p for p in patients if p.images)
    if not kept:
        raise InvalidInput(f"cohort: expected images with labels in {folder}, got none")
    return Imported(patients=kept, problems=tuple(problems))


def _read_table(path: Path) -> list[dict[str, str]]:
    return _reading(path, lambda: list(csv.DictReader(path.read_text("utf-8").splitlines())))


def _read_json(path: Path) -> dict[str, Any]:
    return _reading(path, lambda: dict(json.loads(path.read_text("utf-8"))))


def _reading(path: Path, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"cohort: expected a readable {path.name}, got {type(error).__name__}"
        ) from error
