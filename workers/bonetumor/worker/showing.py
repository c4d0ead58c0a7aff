"""What the demo leaves behind: pictures with boxes, JSON, and a page for people."""

import base64
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from jinja2 import Environment, PackageLoader

from bonetumor.dicom.inbox import Spool
from bonetumor.dicom.reader import SpooledStudies
from bonetumor.domain.assessment import Assessment, HeatMap
from bonetumor.domain.case import Evidence
from bonetumor.domain.errors import BoneTumorError
from bonetumor.domain.progress import StudyEvent, StudyState
from bonetumor.domain.study import Study, StudyHeader
from bonetumor.picture.overlay import draw

_MAX_OVERLAYS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One study and all that became of it; None where the walk ended before."""

    study: Study
    header: StudyHeader
    state: StudyState
    story: tuple[StudyEvent, ...]
    evidence: Evidence | None
    assessment: Assessment | None


def write_pages(
    out: Path,
    spool: Path,
    shown: Sequence[Shown],
    objects: Sequence[Path],
    posted: list[dict[str, Any]],
) -> None:
    """Writes sr.dcm, report.json, report.pdf, detections.json, overlay.png and index.html."""
    names = _copy_objects(out, objects)
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": r} for r in posted],
    }
    (out / "report.json").write_text(json.dumps(bundle, indent=2) + "\n")
    (out / "detections.json").write_text(json.dumps(_detections(shown), indent=2) + "\n")
    reader = SpooledStudies(Spool(spool, max_object_bytes=1, min_free_bytes=0))
    overlays: list[list[str]] = []
    for study in shown:
        overlays.append(_overlays(out, reader, study, sum(len(names) for names in overlays)))
    template = Environment(
        loader=PackageLoader("bonetumor.worker", "pages"), autoescape=True
    ).get_template("demo.html")
    page = template.render(
        studies=list(zip(shown, overlays, strict=True)),
        objects=names,
        posted=posted,
        pages=_write_pdfs(out, posted),
        trained_on=next(
            (s.assessment.algorithm.training_data for s in shown if s.assessment), None
        ),
    )
    (out / "index.html").write_text(page)


def _write_pdfs(out: Path, posted: list[dict[str, Any]]) -> list[str]:
    """The pages that the EHR got with its reports: report.pdf, report-2.pdf, …"""
    forms = [form for resource in posted for form in resource.get("presentedForm") or []]
    names = ["report.pdf" if n == 1 else f"report-{n}.pdf" for n in range(1, len(forms) + 1)]
    for name, form in zip(names, forms, strict=True):
        (out / name).write_bytes(base64.b64decode(form["data"]))
    return names


def _copy_objects(out: Path, objects: Sequence[Path]) -> list[str]:
    """The archive's objects under names that say what they are: sr.dcm, sr-2.dcm, …"""
    counts: dict[str, int] = {}
    names = []
    for path in objects:
        modality = str(pydicom.dcmread(path, stop_before_pixels=True).Modality).lower()
        counts[modality] = counts.get(modality, 0) + 1
        suffix = "" if counts[modality] == 1 else f"-{counts[modality]}"
        names.append(f"{modality}{suffix}.dcm")
        shutil.copyfile(path, out / names[-1])
    return names


def _detections(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """The detector's boxes, per lesion."""
    return [
        {
            "study_instance_uid": study.study.study_instance_uid,
            "sop_instance_uid": lesion.detection.image.sop_instance_uid,
            "frame": lesion.detection.image.frame_number,
            "box": list(lesion.detection.box.as_tuple()),
            "score": lesion.detection.score,
            "tracking_uid": lesion.tracking_uid,
        }
        for study in shown
        if study.assessment
        for lesion in study.assessment.lesions
    ]


def _overlays(out: Path, reader: SpooledStudies, shown: Shown, first: int) -> list[str]:
    """Pictures of the images with boxes; of the first image where there are none."""
    lesions = shown.assessment.lesions if shown.assessment else ()
    wanted = [lesion.detection.image for lesion in lesions]
    names: list[str] = []
    try:
        for image in reader.images(shown.study):
            if wanted and image.reference not in wanted:
                continue
            if len(names) >= (_MAX_OVERLAYS if wanted else 1):
                break
            number = first + len(names)
            name = "overlay.png" if number == 0 else f"overlay-{number + 1}.png"
            own = [x for x in lesions if x.detection.image == image.reference]
            heat = _heat(shown) if lesions and lesions[0] in own else None
            draw(image, own, heat).save(out / name)
            names.append(name)
    except BoneTumorError:
        return names  # a picture that cannot be read: the page says so by the study's problem
    return names


def _heat(shown: Shown) -> HeatMap | None:
    """The heat map, which lies on the image of the most certain detection."""
    return shown.assessment.diagnosis.heat_map if shown.assessment else None
