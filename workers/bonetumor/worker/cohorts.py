"""Cohorts checked and loaded: what training and evaluation read."""

from collections.abc import Iterator

from bonetumor.cohort.record import Cohort, ImageRecord, PatientRecord, Split
from bonetumor.domain.errors import BoneTumorError, InvalidInput
from bonetumor.domain.image import ClinicalImage
from bonetumor.domain.labs import LabPanel, LabResult
from bonetumor.domain.pathology import PathologySlide, SlideTiles
from bonetumor.service.ports import SlideReader
from bonetumor.worker.loose import read_images

_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
}


def load_images(
    cohort: Cohort, record: PatientRecord, problems: list[str]
) -> Iterator[tuple[ImageRecord, ClinicalImage]]:
    """The patient's images; what cannot be read, or has a box outside, is reported and left out."""
    for image in record.images:
        try:
            frames = list(read_images(cohort.folder / image.file))
        except BoneTumorError as error:
            problems.append(f"{record.patient}: {image.file}: {error}")
            continue
        number = (image.frame or 1) - 1
        if number >= len(frames):
            problems.append(
                f"{record.patient}: {image.file}: expected frame {number + 1}, got {len(frames)}"
            )
            continue
        found = frames[number]
        rows, columns = found.pixels.shape
        outside = [b for b in image.boxes if b[2] > columns + 1 or b[3] > rows + 1]
        if outside:
            problems.append(
                f"{record.patient}: {image.file}: expected boxes inside {columns} x {rows}, "
                f"got {outside[0]}"
            )
            continue
        yield image, found


def load_slides(
    cohort: Cohort, record: PatientRecord, reader: SlideReader, problems: list[str]
) -> tuple[SlideTiles, ...]:
    """Tiles of the patient's slides."""
    tiles = []
    for name in record.slides:
        path = cohort.folder / name
        try:
            kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
            slide = PathologySlide(source=name, content_type=kind, data=path.read_bytes())
            tiles.append(reader.tiles(slide))
        except (BoneTumorError, OSError) as error:
            problems.append(f"{record.patient}: {name}: {error}")
    return tuple(tiles)


def panel_of(record: PatientRecord) -> LabPanel | None:
    """The patient's blood as the FHIR adapter would read it; None where there is none."""
    if not record.labs:
        return None
    return LabPanel(
        results=tuple(
            LabResult(**lab.model_dump(), taken_at=None, source="cohort") for lab in record.labs
        )
    )


def need_patients(cohort: Cohort, part: Split) -> None:
    """Raises InvalidInput if a split holds nobody."""
    if not any(True for _ in cohort.of(part)):
        raise InvalidInput(f"cohort: expected patients in the {part} split, got none")


def need_normals(cohort: Cohort) -> None:
    """Raises InvalidInput if the validation split holds no images, or no normal ones: without
    them there is no operating point."""
    shown = [record for record in cohort.of("validation") if record.images]
    if not shown:
        raise InvalidInput(
            "cohort: expected images in the validation split to set the operating point, got none"
        )
    if not any(record.is_normal for record in shown):
        raise InvalidInput(
            "cohort: expected normal patients in the validation split, to count false boxes on, "
            "got none"
        )
