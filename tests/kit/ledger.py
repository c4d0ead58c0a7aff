"""Instances, evidence and assessments for a ledger, and a clock that the test moves."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from bonetumor.domain.assessment import Algorithm, Assessment, Diagnosis, Modality, TumourClass
from bonetumor.domain.case import Evidence
from bonetumor.domain.labs import Analyte, LabPanel, LabResult
from bonetumor.domain.pathology import Pathology, PathologySlide
from bonetumor.domain.progress import STATE_AFTER, Content, Errand, Step, StudyState
from bonetumor.domain.study import Instance, InstanceKeys
from bonetumor.service.ledger import Closing, OwnObject
from bonetumor.service.shelf import ShelvedReport
from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now

    def forward(self, seconds):
        self.now += timedelta(seconds=seconds)


@contextmanager
def sqlite_ledger(folder, clock):
    """A ledger of its own in a folder."""
    made = SqlLedger(
        open_engine(f"sqlite:///{folder / 'ledger.sqlite'}"),
        clock=clock,
        lease=timedelta(minutes=1),
        max_attempts=3,
    )
    made.prepare()
    try:
        yield made
    finally:
        made.close()


def instance(number=1, study="1.2.3", sha256="a", at=START):
    keys = InstanceKeys(
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        sop_instance_uid=f"{study}.1.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
    )
    return Instance(
        keys=keys,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        size=7,
        sha256=sha256 * 64,
        received_at=at,
        calling_ae_title="PACS",
    )


def own(sop_instance_uid, study="1.2.3"):
    """An object of ours."""
    return OwnObject(
        sop_instance_uid=sop_instance_uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.33",
        study_instance_uid=study,
        series_instance_uid=f"{study}.9",
    )


def errand(step, study="1.2.3", destination="", content=Content.RESULT):
    return Errand(study_instance_uid=study, step=step, destination=destination, content=content)


def walk_to_deliveries(ledger, *destinations, key="k", study="1.2.3"):
    """Gathers, assesses and dispatches a complete study."""
    for step, state, saved, names in (
        (Step.GATHER, StudyState.GATHERED, EVIDENCE, ()),
        (Step.ASSESS, StudyState.ASSESSED, assessment(key), ()),
        (Step.DISPATCH, StudyState.DELIVERING, None, destinations),
    ):
        claim = ledger.claim(errand(step, study), "me")
        ledger.finish(claim, state, saved, "done", deliver_to=names)


def deliver(ledger, step, destination="pacs", again_at=None, content=Content.RESULT, study="1.2.3"):
    """One step of one delivery."""
    claim = ledger.claim(errand(step, study, destination, content), "me")
    ledger.finish(claim, STATE_AFTER[step], None, "done", again_at)
    return claim


def complete(ledger, study="1.2.3"):
    ledger.record_instance(instance(study=study))
    assert close(ledger, study)


def close(ledger, study="1.2.3", revision=1, **judged):
    return ledger.close_study(
        Closing(study_instance_uid=study, revision=revision, completeness="quiet", **judged)
    )


EVIDENCE = Evidence(
    patient="Patient/1",
    labs=LabPanel(
        results=(
            LabResult(
                analyte=Analyte.ALP,
                value=1.5,
                unit="U/L",
                low=None,
                high=2.0,
                taken_at=START,
                source="Observation/1",
            ),
        ),
        not_understood=("Observation/2: why",),
    ),
    pathology=Pathology(
        slides=(PathologySlide(source="Media/1", content_type="image/png", data=b"\xff\0\x80"),),
        reports=("DiagnosticReport/1",),
    ),
)


def assessment(key="k"):
    return Assessment(
        run_key=key * 64,
        lesions=(),
        diagnosis=Diagnosis(
            probabilities={
                TumourClass.BENIGN: 0.1,
                TumourClass.INTERMEDIATE: 0.2,
                TumourClass.MALIGNANT: 0.7,
            },
            prediction_set=(TumourClass.MALIGNANT,),
            abstained=False,
            out_of_distribution=False,
            used=(Modality.LABS,),
        ),
        algorithm=Algorithm(
            name="a", version="1", bundle_version="1", bundle_sha256="0" * 64, training_data="x"
        ),
        completeness="quiet",
        missing=(Modality.IMAGE,),
        images_assessed=1,
        assessed_at=START,
    )


def shelved(key="r1", study="1.2.3", patient="Patient/1", minutes=0, system=""):
    return ShelvedReport(
        report_id=key,
        resource_ids=(key, f"{key}-class", "device"),
        study_instance_uid=study,
        run=key * 8,
        patient=patient,
        patient_id="P",
        patient_system=system,
        accession_number="A1",
        acquired_at=START,
        written_at=START + timedelta(minutes=minutes),
        body="[]",
    )
