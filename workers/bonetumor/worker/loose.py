"""`assess`: loose DICOM, JPEG, PNG or TIFF files, without PACS or EHR."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from bonetumor.dicom.presentation import present, spread
from bonetumor.dicom.reader import read_file
from bonetumor.domain.assessment import Diagnosis
from bonetumor.domain.errors import (
    BoneTumorError,
    CorruptPixelData,
    InvalidInput,
    NotDicom,
    UnsupportedImage,
)
from bonetumor.domain.image import ClinicalImage, ImageReference
from bonetumor.domain.lesion import Detection
from bonetumor.domain.uid import UID
from bonetumor.service.assess import diagnose, look
from bonetumor.service.ports import Model
from bonetumor.slides.pictures import load_picture
from bonetumor.worker.settings import Settings
from bonetumor.worker.thinking import build_model

_SECONDARY_CAPTURE = UID("1.2.840.10008.5.1.4.1.1.7")
_NO_UID = UID("0")
_MAX_PIXELS = 512 * 1024 * 1024
_EIGHT_BITS = ("1", "L")
_DEEPER = ("I", "F")  # what modes of 16 and 32 bits begin with
_GREATEST_COLOUR_SPREAD = 6.0  # of 255; JPEG's rounding stays below 2


def assess_files(settings: Settings, files: Sequence[Path], out: Console, *, as_json: bool) -> bool:
    """Assesses each file and prints what was found; whether every file could be assessed."""
    model = build_model(settings)
    progress = track(files, "Assessing", console=Console(stderr=True), disable=len(files) < 2)
    rows = [assess_file(path, model) for path in progress]
    if as_json:
        print(json.dumps(rows, indent=2, allow_nan=False))  # noqa: T201 - plain JSON for programs
    else:
        for row in rows:
            out.print(_say(row), markup=False, highlight=False, soft_wrap=True)
    return not any("error" in row for row in rows)


def assess_file(path: Path, model: Model) -> dict[str, Any]:
    """One entry of the list: file, lesions and diagnosis, or the error."""
    try:
        looked = look(read_images(path), model.detector)
        diagnosis = diagnose(looked, None, None, model)
    except BoneTumorError as error:
        return {"file": str(path), "error": {"code": error.code, "message": str(error)}}
    return {
        "file": str(path),
        "lesions": [_lesion(d) for d in sorted(looked.detections, key=lambda d: -d.score)],
        "diagnosis": _diagnosis(diagnosis),
        "notes": list(looked.notes),
        "model": {
            "version": model.algorithm.bundle_version,
            "sha256": model.algorithm.bundle_sha256,
            "training_data": model.algorithm.training_data,
        },
    }


def read_images(path: Path) -> Iterator[ClinicalImage]:
    """The images of a DICOM, JPEG, PNG or TIFF file.

    Raises:
        InvalidInput: the file is absent, or nothing that we read.
    """
    if not path.is_file():
        raise InvalidInput("file: expected a readable file, got none")
    try:
        yield from present(read_file(path))
        return
    except NotDicom:
        pass  # then it may be a picture
    picture = load_picture(path, "file: expected DICOM, JPEG, PNG or TIFF", most_pixels=_MAX_PIXELS)
    if picture.mode.startswith(_DEEPER):  # as a DICOM image without a window is shown
        values = np.asarray(picture, np.float32)
        if not np.isfinite(values).all():
            raise CorruptPixelData("picture: expected finite values, got NaN or infinity")
        yield _picture(spread(values))
        return
    if picture.mode not in _EIGHT_BITS:
        _refuse_colour(np.asarray(picture.convert("RGB"), np.uint8))
    yield _picture(np.asarray(picture.convert("L"), np.uint8))


def _refuse_colour(pixels: "np.ndarray[Any, np.dtype[np.uint8]]") -> None:
    """A radiograph is grey; slides and photographs are not."""
    spread = float(np.ptp(pixels, axis=2).mean())
    if spread > _GREATEST_COLOUR_SPREAD:
        raise UnsupportedImage("picture: expected a grey radiograph, got a coloured picture")


def _picture(pixels: "np.ndarray[Any, np.dtype[np.uint8]]") -> ClinicalImage:
    rows, columns = pixels.shape
    reference = ImageReference(
        sop_instance_uid=_NO_UID,
        sop_class_uid=_SECONDARY_CAPTURE,
        series_instance_uid=_NO_UID,
        frame_number=None,
        rows=rows,
        columns=columns,
    )
    return ClinicalImage(reference=reference, pixels=pixels)


def _lesion(detection: Detection) -> dict[str, Any]:
    lesion: dict[str, Any] = {"box": list(detection.box.as_tuple()), "score": detection.score}
    if detection.image.frame_number is not None:
        lesion["frame"] = detection.image.frame_number
    return lesion


def _diagnosis(diagnosis: Diagnosis) -> dict[str, Any]:
    probabilities = diagnosis.probabilities
    return {
        "probabilities": {str(c): p for c, p in probabilities.items()} if probabilities else None,
        "prediction_set": [str(c) for c in diagnosis.prediction_set],
        "abstained": diagnosis.abstained,
        "out_of_distribution": diagnosis.out_of_distribution,
        "used": [str(m) for m in diagnosis.used],
        "reason": diagnosis.reason,
    }


def _say(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['file']}: {row['error']['code']}: {row['error']['message']}"
    trained_on = row["model"]["training_data"]
    lines = [f"{row['file']}: {len(row['lesions'])} lesion(s); trained on {trained_on}"]
    for lesion in row["lesions"]:
        x0, y0, x1, y1 = lesion["box"]
        lines.append(f"  box {x0:.1f}, {y0:.1f}, {x1:.1f}, {y1:.1f}  score {lesion['score']:.2f}")
    diagnosis = row["diagnosis"]
    if diagnosis["probabilities"]:
        said = ", ".join(f"P({c}) {p:.0%}" for c, p in diagnosis["probabilities"].items())
        lines.append(f"  {said}")
    if diagnosis["abstained"]:
        lines.append(f"  abstains: {diagnosis['reason']}")
    lines += [f"  {note}" for note in row["notes"]]
    return "\n".join(lines)
