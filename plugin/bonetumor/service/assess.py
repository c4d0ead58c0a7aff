"""Assessing: from images and evidence to lesions and a diagnosis."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from bonetumor.domain.assessment import Assessment, Diagnosis, Modality
from bonetumor.domain.case import Evidence, describe_evidence
from bonetumor.domain.errors import CorruptPixelData, UnsupportedImage
from bonetumor.domain.image import ClinicalImage
from bonetumor.domain.labs import BloodText, LabPanel
from bonetumor.domain.lesion import Detection, name_lesions
from bonetumor.domain.pathology import Pathology, SlideTiles
from bonetumor.domain.study import Study
from bonetumor.service.ports import Clock, Detector, FusionInput, Model, SlideReader, StudyReader
from bonetumor.service.texts import Texts, text_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looked:
    """What looking at all images gave.

    `surest` is the most certain detection on an image like those trained on, else on any, and
    `best` its image: the class is read there. `out_of_distribution` is of that image; without a
    detection, of all images. `notes` are what a reader must know of single images, each once.
    """

    detections: tuple[Detection, ...]
    surest: Detection | None
    best: ClinicalImage | None
    images: int
    out_of_distribution: bool
    notes: tuple[str, ...] = ()


def assess(
    study: Study,
    evidence: Evidence,
    *,
    reader: StudyReader,
    slides: SlideReader,
    model: Model,
    texts: Texts,
    clock: Clock,
) -> Assessment:
    """One assessment of a study. The same input gives the same result, identities included.

    `texts` keeps the text of the blood markers, which is written only if it is read.

    Raises:
        UnsupportedImage: the study holds no image that can be assessed.
        CorruptPixelData: an image cannot be decoded.
        ModelFault: the model's answer cannot be trusted.
    """
    looked = look(reader.images(study), model.detector)
    if looked.images == 0:
        raise UnsupportedImage(
            f"study: expected at least one radiograph, CT or MR image, got none in "
            f"{len(study.instances)} instances"
        )
    tiles, notes = _read_slides(evidence.pathology, slides)
    text = None
    if can_be_classified(looked, tiles):
        text = text_of(study.study_instance_uid, evidence, model.writer, texts)
    diagnosis = diagnose(looked, tiles, evidence.labs, model, text)
    read = diagnosis.blood_text
    return Assessment(
        run_key=_run_key(study, evidence, model, read),
        lesions=name_lesions(model.algorithm.bundle_sha256, looked.detections),
        diagnosis=diagnosis,
        algorithm=model.algorithm,
        completeness=study.completeness,
        missing=tuple(m for m in Modality if m not in diagnosis.used),
        images_assessed=looked.images,
        assessed_at=clock(),
        notes=(
            *looked.notes,
            *describe_evidence(evidence, reader.header(study).acquired_at),
            *notes,
            *([read.note] if read and read.note else []),
        ),
    )


def look(images: Iterable[ClinicalImage], detector: Detector) -> Looked:
    """Detects on every image; the images may be many, so only the best is kept."""
    detections: list[Detection] = []
    notes: dict[str, None] = {}
    surest, best, best_rank, count, strange = None, None, (False, -1.0), 0, 0
    for image, findings in detector.detect_all(images):
        count += 1
        strange += findings.out_of_distribution
        detections.extend(findings.detections)
        if findings.note:
            notes[findings.note] = None
        top = max(findings.detections, key=lambda d: d.score, default=None)
        if top is not None:
            rank = rank_of(top, is_strange=findings.out_of_distribution)
            if rank > best_rank:
                surest, best, best_rank = top, image, rank
    return Looked(
        detections=tuple(detections),
        surest=surest,
        best=best,
        images=count,
        out_of_distribution=not best_rank[0] if surest else 0 < count == strange,
        notes=tuple(notes),
    )


def rank_of(detection: Detection, *, is_strange: bool) -> tuple[bool, float]:
    """The class is read at the detection of the greatest rank: `is_strange` of its image, then its
    score."""
    return not is_strange, detection.score


def can_be_classified(looked: Looked, tiles: tuple[SlideTiles, ...] | None) -> bool:
    """Whether there is a lesion or a slide.

    Blood alone never makes a diagnosis: it says nothing of a tumour that nobody has seen.
    """
    return looked.best is not None or bool(tiles)


def diagnose(
    looked: Looked,
    tiles: tuple[SlideTiles, ...] | None,
    labs: LabPanel | None,
    model: Model,
    text: BloodText | None = None,
) -> Diagnosis:
    """The diagnosis of the surest lesion; without lesion and slides there is none.

    `text`: the blood markers in words; without it the template's are read.
    """
    if not can_be_classified(looked, tiles):
        return Diagnosis(
            probabilities=None,
            prediction_set=(),
            abstained=True,
            out_of_distribution=looked.out_of_distribution,
            used=(),
            reason="no tumour localised and no pathology: nothing to classify",
        )
    return model.fusion.diagnose(
        FusionInput(
            image=looked.best,
            box=looked.surest.box if looked.surest else None,
            slides=tiles or None,
            labs=labs,
            out_of_distribution=looked.out_of_distribution,
            text=text,
        )
    )


def _read_slides(
    pathology: Pathology | None, slides: SlideReader
) -> tuple[tuple[SlideTiles, ...] | None, tuple[str, ...]]:
    """Tiles of every slide that can be read, and a note for each that cannot."""
    if pathology is None:
        return None, ()
    tiles, notes = [], []
    for slide in pathology.slides:
        try:
            tiles.append(slides.tiles(slide))
        except (UnsupportedImage, CorruptPixelData) as error:
            notes.append(f"slide not used: {error}")
    return tuple(tiles) or None, tuple(notes)


def _run_key(study: Study, evidence: Evidence, model: Model, read: BloodText | None) -> str:
    """SHA-256 over the instances, the evidence used, its text and the model: one key, one result.

    The texts of two writers are two results, and so are those of one text that the template wrote
    because it was asked, or because a language model failed.
    """
    algorithm = model.algorithm
    parts = [study.digest, algorithm.version, algorithm.bundle_sha256, evidence.digest]
    parts.append(read.digest if read else "")
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
