"""Pictures of the worst mistakes, for the page of `evaluate`.

They show patients: what is burned into a radiograph is in them too. They stay in the hospital.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bonetumor.cohort.record import Cohort, ImageRecord, PatientRecord
from bonetumor.domain.image import ClinicalImage, Corners, iou
from bonetumor.evaluation.detection import ScoredImage
from bonetumor.evaluation.mistakes import Kind, Mistake, worst_false_boxes, worst_misses
from bonetumor.worker.cohorts import load_images

FOLDER = "pictures"
_LONGEST_PX = 640
_TRUE, _FOUND = (60, 200, 60), (60, 60, 240)  # blue, green, red
_THIN, _THICK = 1, 3
_Shown = tuple[PatientRecord, ImageRecord]


def remove_pictures(out: Path) -> None:
    """Those of an earlier run, so that none is taken for one of this run; other files stay."""
    for kind in Kind:
        for path in (out / FOLDER).glob(f"*-{kind}-[0-9]*.png"):
            path.unlink()
    if (out / FOLDER).is_dir() and not any((out / FOLDER).iterdir()):
        (out / FOLDER).rmdir()


class Album:
    """Draws the worst mistakes on a cohort's patients of one origin."""

    def __init__(self, cohort: Cohort, out: Path, origin: str) -> None:
        self._cohort = cohort
        self._out = out
        self._origin = origin

    def draw(
        self, images: Sequence[ScoredImage], shown: Sequence[_Shown], threshold: float, most: int
    ) -> list[dict[str, Any]]:
        """At most `most` pictures of each kind of mistake, and what the page says of each.

        `shown`: for each of the images whose it is and where it lies.
        """
        mistakes = [
            *worst_misses(images, threshold, most),
            *worst_false_boxes(images, threshold, most, Kind.FALSE_ON_NORMAL),
            *worst_false_boxes(images, threshold, most, Kind.FALSE_ON_TUMOUR),
        ]
        said: list[dict[str, Any]] = []
        for mistake in mistakes:
            record, described = shown[mistake.image]
            number = 1 + sum(entry["kind"] == mistake.kind for entry in said)
            name = f"{FOLDER}/{self._origin}-{mistake.kind}-{number:02d}.png"
            picture = _draw(
                self._load(record, described), images[mistake.image], mistake, threshold
            )
            (self._out / FOLDER).mkdir(exist_ok=True)
            _, encoded = cv2.imencode(".png", picture)
            (self._out / name).write_bytes(encoded.tobytes())
            said.append({"file": name, **_caption(record, images[mistake.image], mistake)})
        return said

    def _load(self, record: PatientRecord, described: ImageRecord) -> ClinicalImage:
        alone = record.model_copy(update={"images": (described,)})
        [(_, image)] = load_images(self._cohort, alone, [])
        return image


def _caption(record: PatientRecord, image: ScoredImage, mistake: Mistake) -> dict[str, Any]:
    named = (record.tumour_type, record.tumour_class)
    return {
        "kind": str(mistake.kind),
        "patient": record.patient,
        "source": record.centre,
        "score": mistake.score,
        "box": list(mistake.box),
        "assessed": image.assessed,
        "truth": ", ".join(str(n) for n in named if n) or ("tumour" if image.truth else "normal"),
    }


def _draw(
    image: ClinicalImage, scored: ScoredImage, mistake: Mistake, threshold: float
) -> NDArray[np.uint8]:
    """The whole picture with the longer side at 640 px: true boxes green, found ones red with
    their score, the mistake thick. On a missed lesion the faint boxes that overlap it, too."""
    scale = _LONGEST_PX / max(image.pixels.shape)
    rows, columns = (max(1, round(n * scale)) for n in image.pixels.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grey = cv2.resize(image.pixels, (columns, rows), interpolation=how)
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    for box in scored.truth:
        _frame(picture, box, scale, _TRUE, _THICK if box == mistake.box else _THIN)
    for box, score in scored.found:
        overlaps = mistake.kind is Kind.MISSED and iou(box, mistake.box) > 0
        if score >= threshold or overlaps:
            _frame(picture, box, scale, _FOUND, _THICK if box == mistake.box else _THIN)
            place = (int(box[0] * scale), max(12, int(box[1] * scale) - 4))
            cv2.putText(picture, f"{score:.2f}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, _FOUND, 1)
    return np.asarray(picture, np.uint8)


def _frame(
    picture: Any, box: Corners, scale: float, colour: tuple[int, int, int], thickness: int
) -> None:
    x0, y0, x1, y1 = (round(v * scale) for v in box)
    cv2.rectangle(picture, (x0, y0), (x1, y1), colour, thickness)
