"""A study of nobody, results about it, and a place to keep both until they are forgotten."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydicom import Dataset
from pynetdicom.dsutils import encode

from bonetumor.dicom.inbox import Spool
from bonetumor.dicom.reader import SpooledStudies
from bonetumor.domain.assessment import Algorithm, Assessment, Diagnosis, Modality, TumourClass
from bonetumor.domain.case import Evidence
from bonetumor.domain.image import BoundingBox
from bonetumor.domain.lesion import Detection, name_lesions
from bonetumor.domain.study import Study
from bonetumor.domain.uid import derived_uid
from bonetumor.phantom.dicom import to_dicom
from bonetumor.phantom.patient import draw_patient
from bonetumor.service.intake import Intake
from bonetumor.service.ports import Announced, Notice, Result
from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger
from bonetumor.worker import wiring

_SEED = 20261124


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A study of nobody in a spool of its own, and a ledger that forgets all of it."""

    image: Dataset
    study: Study
    studies: SpooledStudies
    ledger: SqlLedger


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """A spool and a ledger that are forgotten afterwards."""

    ledger: SqlLedger
    spool: Spool
    intake: Intake


@contextmanager
def shelf_in(folder: Path) -> Iterator[Shelf]:
    """A shelf in an empty folder."""
    ledger = SqlLedger(
        open_engine(f"sqlite:///{folder / 'ledger.sqlite'}"),
        clock=wiring.now,
        lease=timedelta(minutes=1),
        max_attempts=1,
    )
    ledger.prepare()
    spool = Spool(folder / "spool", max_object_bytes=10**9, min_free_bytes=0)
    spool.prepare()
    try:
        yield Shelf(
            ledger=ledger, spool=spool, intake=Intake(inbox=spool, ledger=ledger, clock=wiring.now)
        )
    finally:
        ledger.close()


@contextmanager
def probe_in(folder: Path) -> Iterator[Probe]:
    """A radiograph of a phantom patient under UIDs of this run."""
    image = to_dicom(draw_patient(_SEED, 1, longest_px=640))
    run = str(time.time_ns())
    image.PatientID, image.PatientName = "BONETUMOR-PROBE", "Probe^Bonetumor"
    image.StudyDescription = "bonetumor certify: may be deleted"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(image, keyword, derived_uid("certify", run, keyword))
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    with shelf_in(folder) as shelf:
        incoming = shelf.intake.open(
            Announced(
                sop_class_uid=image.SOPClassUID,
                sop_instance_uid=image.SOPInstanceUID,
                transfer_syntax_uid=image.file_meta.TransferSyntaxUID,
                calling_ae_title="CERTIFY",
            )
        )
        incoming.write(memoryview(encode(image, False, True)))
        shelf.intake.keep(incoming)
        yield Probe(
            image=image,
            study=shelf.ledger.study(image.StudyInstanceUID),
            studies=SpooledStudies(shelf.spool),
            ledger=shelf.ledger,
        )


def probe_result(probe: Probe, *, with_lesion: bool) -> Result:
    """A result of no model: one box in the middle, or none."""
    image = next(iter(probe.studies.images(probe.study)))
    rows, columns = image.pixels.shape
    box = BoundingBox(x0=columns * 0.3, y0=rows * 0.4, x1=columns * 0.6, y1=rows * 0.55)
    found = (Detection(image=image.reference, box=box, score=0.5),) if with_lesion else ()
    key = probe.study.digest if with_lesion else probe.study.digest[::-1]
    return Result(
        study=probe.study,
        header=probe.studies.header(probe.study),
        evidence=Evidence(patient=None, labs=None, pathology=None),
        assessment=Assessment(
            run_key=key,
            lesions=name_lesions(key, found),
            diagnosis=Diagnosis(
                probabilities=dict.fromkeys(TumourClass, 1 / 3),
                prediction_set=tuple(TumourClass),
                abstained=True,
                out_of_distribution=False,
                used=(),
                reason="this is a probe, no image was assessed",
            ),
            algorithm=Algorithm(
                name="bonetumor",
                version="probe",
                bundle_version="probe",
                bundle_sha256="0" * 64,
                training_data="nothing: a probe of the connection",
            ),
            completeness="a probe",
            missing=tuple(Modality),
            images_assessed=0,
            assessed_at=probe.study.instances[0].received_at,
        ),
        predecessor=None,
    )


def probe_notice(probe: Probe) -> Notice:
    """That the probe was not assessed."""
    return Notice(
        study=probe.study, reason="this is a probe", at=probe.study.instances[0].received_at
    )
