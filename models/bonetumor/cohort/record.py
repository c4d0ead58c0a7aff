"""The cohort format: a folder with `cohort.jsonl`, one patient a line.

    {"patient": "P0001", "tumour_class": "malignant", "tumour_type": "osteosarcoma",
     "age_years": 15, "sex": "M", "site": "femur", "split": "train", "group": null,
     "images": [{"file": "images/P0001-1.dcm", "boxes": [[310.0, 420.5, 402.0, 530.0]]}],
     "slides": ["slides/P0001-1.png"],
     "labs": [{"analyte": "alp", "value": 310.0, "unit": "U/L", "low": 40, "high": 129}],
     "fhir": "fhir/P0001.json"}

Paths are relative to the folder. Only `patient` is compulsory; what is not known is left out.
`tumour_class` null with images and without boxes is a normal patient. Boxes are (x0, y0, x1, y1)
in pixel edges of the stored image (PS3.3 C.18.6.1.2). Images are DICOM, JPEG, PNG or TIFF. `group`
keeps patients together that may be one person; `split` fixes the part, which otherwise follows from
the group. `origin` says whether the patient is real or synthetic, so that figures of the two are
never pooled; where it is left out, the patient counts as real. `drawn` names the evidence of a real
patient that a phantom drew: "pathology", "labs". `fractured` says whether a bone is broken, with or
without a tumour: false boxes are counted apart there.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.image import Corners
from bonetumor.domain.labs import Analyte

FILE = "cohort.jsonl"
Split = Literal["train", "validation", "test"]
Origin = Literal["real", "synthetic"]
_Path = Annotated[str, Field(min_length=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageRecord(_Record):
    """One image, or one frame of it (`frame` counts from 1), with the boxes of its tumours."""

    file: _Path
    frame: int | None = Field(default=None, ge=1)
    boxes: tuple[Corners, ...] = ()

    @model_validator(mode="after")
    def _boxes_have_an_area(self) -> "ImageRecord":
        for x0, y0, x1, y1 in self.boxes:
            if not (0 <= x0 < x1 and 0 <= y0 < y1):
                raise ValueError(f"expected a box 0 <= x0 < x1, 0 <= y0 < y1, got {x0, y0, x1, y1}")
        return self


class LabRecord(_Record):
    """One blood marker with the reference range it came with."""

    analyte: Analyte
    value: float = Field(allow_inf_nan=False)
    unit: str
    low: float | None = Field(default=None, allow_inf_nan=False)
    high: float | None = Field(default=None, allow_inf_nan=False)


class PatientRecord(_Record):
    """One patient, pseudonymous."""

    patient: Annotated[str, Field(min_length=1)]
    group: str | None = None
    split: Split | None = None
    centre: str | None = None
    origin: Origin | None = None
    tumour_class: TumourClass | None = None
    tumour_type: str | None = None
    age_years: float | None = Field(default=None, ge=0, le=130)
    sex: Literal["M", "F", "O"] | None = None
    site: str | None = None
    fractured: bool | None = None
    images: tuple[ImageRecord, ...] = ()
    slides: tuple[_Path, ...] = ()
    labs: tuple[LabRecord, ...] = ()
    fhir: str | None = None
    drawn: tuple[Literal["pathology", "labs"], ...] = ()

    @property
    def is_normal(self) -> bool:
        """Images without any tumour."""
        return self.tumour_class is None and not any(i.boxes for i in self.images)

    @property
    def is_synthetic(self) -> bool:
        """Drawn by a phantom. A patient that does not say what it is counts as real."""
        return self.origin == "synthetic"

    @property
    def part(self) -> Split:
        """The split: as stated, else 70/15/15 by a hash of the group, the same everywhere."""
        if self.split is not None:
            return self.split
        key = hashlib.sha256((self.group or self.patient).encode()).digest()
        place = int.from_bytes(key[:8], "big") / 2**64
        return "train" if place < 0.7 else "validation" if place < 0.85 else "test"


class Cohort:
    """The patients of a folder, and what was wrong with the lines that could not be used."""

    def __init__(
        self, folder: Path, patients: tuple[PatientRecord, ...], problems: tuple[str, ...]
    ) -> None:
        self.folder = folder
        self.patients = patients
        self.problems = problems

    def of(self, part: Split) -> Iterator[PatientRecord]:
        """The patients of one split."""
        return (p for p in self.patients if p.part == part)


def read_cohort(folder: Path) -> Cohort:
    """Reads a cohort. Lines that cannot be used are reported, the rest goes on.

    Raises:
        InvalidInput: no `cohort.jsonl`, or no line of it can be used, or a group is torn apart.
    """
    path = folder / FILE
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise InvalidInput(
            f"cohort: expected a readable {FILE} in {folder}, got {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"cohort: expected UTF-8 in {FILE}, got a byte that is not at {error.start}"
        ) from error
    patients: dict[str, PatientRecord] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = PatientRecord.model_validate_json(line)
        except ValidationError as error:
            problems += [f"line {number}: {_place(e['loc'])}{e['msg']}" for e in error.errors()]
            continue
        if record.patient in patients:
            problems.append(f"line {number}: expected each patient once, got a second line")
            continue
        problems += _missing_files(folder, record, number)
        patients[record.patient] = record
    if not patients:
        said = f"; first: {problems[0]}" if problems else ""
        raise InvalidInput(f"cohort: expected patients in {path}, got none{said}")
    _refuse_torn_groups(patients.values())
    return Cohort(folder, tuple(patients.values()), tuple(problems))


def write_cohort(folder: Path, patients: Iterable[PatientRecord]) -> int:
    """Writes `cohort.jsonl`; answers the number of patients."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with (folder / FILE).open("w", encoding="utf-8") as out:
        for count, record in enumerate(patients, start=1):  # noqa: B007 - the number is answered
            out.write(json.dumps(record.model_dump(mode="json", exclude_defaults=True)) + "\n")
    return count


def _missing_files(folder: Path, record: PatientRecord, number: int) -> list[str]:
    files = [i.file for i in record.images] + list(record.slides)
    return [f"line {number}: no file {f}" for f in files if not (folder / f).is_file()]


def _refuse_torn_groups(patients: Iterable[PatientRecord]) -> None:
    parts: dict[str, Split] = {}
    for record in patients:
        group = record.group or record.patient
        if parts.setdefault(group, record.part) != record.part:
            raise InvalidInput(
                f"cohort: expected each group in one split, got {group} in "
                f"{parts[group]} and {record.part}"
            )


def _place(location: tuple[int | str, ...]) -> str:
    return "".join(f"{part}: " for part in location)
