"""Results of any shape, and the images they are about."""

import random
from dataclasses import replace
from datetime import UTC, datetime

from bonetumor.domain.assessment import (
    Algorithm,
    Assessment,
    Diagnosis,
    HeatMap,
    Modality,
    TumourClass,
)
from bonetumor.domain.case import Evidence
from bonetumor.domain.image import BoundingBox, ImageReference
from bonetumor.domain.labs import Analyte, BloodText, LabPanel, LabResult, Writer
from bonetumor.domain.lesion import Detection, name_lesions
from bonetumor.domain.pathology import Pathology
from bonetumor.domain.study import Instance, InstanceKeys, PatientIdentity, Study, StudyHeader
from bonetumor.service.ports import Result

HEAT_MAP = HeatMap(region=BoundingBox(x0=-5, y0=-5, x1=20, y1=20), values=((0.0, 1.0), (0.5, 0.25)))

TEXTS = (
    None,
    BloodText(
        text="alkaline phosphatase is high at 512 U/L 4.0 times the limit.",
        writer=Writer(name="template", version="1", is_language_model=False),
    ),
    BloodText(
        text="Elevated alkaline phosphatase of 512 U/L; hemoglobin is reduced: 9.5 g/dL.",
        writer=Writer(name="small-model", version="b" * 64, is_language_model=True),
    ),
)


def blood(source: str) -> LabPanel:
    """One blood marker."""
    marker = LabResult(
        analyte=Analyte.ALP, value=1, unit="U/L", low=None, high=None, taken_at=None, source=source
    )
    return LabPanel(results=(marker,), considered=(source,))


def result(seed: int) -> Result:
    """A result of any shape: lesions or none, evidence or none, abstained or not."""
    chance = random.Random(seed)
    keys = InstanceKeys(
        study_instance_uid=f"1.2.{seed}",
        series_instance_uid=f"1.2.{seed}.1",
        sop_instance_uid=f"1.2.{seed}.1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
    )
    instance = Instance(
        keys=keys,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        size=1,
        sha256="a" * 64,
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
        calling_ae_title="X",
    )
    run = f"{seed:064x}"
    frame = chance.choice([None, 3])
    image = ImageReference(
        sop_instance_uid=keys.sop_instance_uid,
        sop_class_uid=keys.sop_class_uid,
        series_instance_uid=keys.series_instance_uid,
        frame_number=frame,
        rows=100,
        columns=100,
    )
    # Boxes on two neighbouring frames may be one lesion, with one identity.
    images = [image] if frame is None else [image, replace(image, frame_number=4)]
    found = tuple(
        Detection(
            image=chance.choice(images),
            box=BoundingBox(x0=i, y0=1.25, x1=i + 5.5, y1=9),
            score=chance.random(),
        )
        for i in range(chance.randrange(4))
    )
    weights = [chance.random() for _ in TumourClass]
    probabilities = {c: w / sum(weights) for c, w in zip(TumourClass, weights, strict=True)}
    nothing = chance.random() < 0.2
    labs = blood("Observation/7")
    return Result(
        study=Study(
            study_instance_uid=keys.study_instance_uid, instances=(instance,), completeness="quiet"
        ),
        header=StudyHeader(
            study_instance_uid=keys.study_instance_uid,
            patient=PatientIdentity(patient_id="P", issuer=None, birth_date=None, sex=None),
            accession_number=chance.choice([None, "A1"]),
            acquired_at=chance.choice([None, datetime(2026, 1, 1, tzinfo=UTC)]),
            modality="DX",
            body_part=chance.choice([None, "FEMUR"]),
            laterality=None,
        ),
        evidence=Evidence(
            patient="Patient/1",
            labs=chance.choice([None, labs]),
            pathology=chance.choice([None, Pathology(slides=(), reports=("DiagnosticReport/9",))]),
            order=chance.choice([None, "ServiceRequest/1"]),
        ),
        assessment=Assessment(
            run_key=run,
            lesions=name_lesions(run, found),
            diagnosis=Diagnosis(
                probabilities=None if nothing else probabilities,
                prediction_set=() if nothing else (TumourClass.BENIGN,),
                abstained=nothing or chance.random() < 0.3,
                out_of_distribution=chance.random() < 0.3,
                used=(),
                reason="for a reason",
                contributions={} if nothing else dict.fromkeys(Modality, -0.125),
                heat_map=None if nothing else HEAT_MAP,
                blood_text=None if nothing else TEXTS[seed % len(TEXTS)],
            ),
            algorithm=Algorithm(
                name="bonetumor",
                version="0",
                bundle_version="1",
                bundle_sha256="0" * 64,
                training_data="synthetic",
            ),
            completeness="quiet",
            missing=tuple(Modality),
            images_assessed=1,
            assessed_at=datetime(2026, 1, 2, tzinfo=UTC),
            notes=("slide not used",),
        ),
        predecessor=None,
    )


def result_about(study: Study, reader) -> Result:
    """A result with one box on the first image of a study in a spool."""
    one = next(result(seed) for seed in range(99) if result(seed).assessment.lesions)
    image = next(iter(reader.images(study)))
    box = BoundingBox(x0=20, y0=30, x1=90, y1=120)
    detection = Detection(image=image.reference, box=box, score=0.75)
    assessment = replace(
        one.assessment, run_key=study.digest, lesions=name_lesions(study.digest, (detection,))
    )
    return replace(one, study=study, header=reader.header(study), assessment=assessment)
