"""What modalities and archives tell the listener by DIMSE-N, from stock peers."""

import pytest
from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role
from pynetdicom.sop_class import (
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from kit import studies
from kit.ledger import own
from kit.site import send

STEP = "1.2.840.99.1"


def items(**values) -> Dataset:
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def told(site):
    """An association for what is told; the roles are those of an archive that answers us."""
    entity = AE(ae_title="MODALITY")
    entity.requested_contexts = [
        build_context(c, ImplicitVRLittleEndian)
        for c in (
            InstanceAvailabilityNotification,
            ModalityPerformedProcedureStep,
            StorageCommitmentPushModel,
        )
    ]
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    association = entity.associate("127.0.0.1", site.port, ae_title="BONETUMOR", ext_neg=[role])
    assert association.is_established
    assert len(association.accepted_contexts) == 3
    yield association
    association.release()


def test_a_performed_procedure_step_says_what_should_come(site, told):
    image = studies.dataset(1, 320)
    created = items(
        PerformedProcedureStepStatus="IN PROGRESS",
        ScheduledStepAttributesSequence=[items(StudyInstanceUID=image.StudyInstanceUID)],
    )
    status, _ = told.send_n_create(created, ModalityPerformedProcedureStep, STEP)
    assert status.Status == 0x0000
    send(site, image)
    [study] = site.ledger.receiving()
    assert study.in_progress
    made = [items(ReferencedSOPInstanceUID=u) for u in (image.SOPInstanceUID, "1.2.3.4")]
    ended = items(
        PerformedProcedureStepStatus="COMPLETED",
        PerformedSeriesSequence=[items(ReferencedImageSequence=made)],
    )
    status, _ = told.send_n_set(ended, ModalityPerformedProcedureStep, STEP)
    assert status.Status == 0x0000
    [study] = site.ledger.receiving()
    assert (study.in_progress, study.announced, study.awaited) == (False, 2, 1)
    told.send_n_set(items(PerformedStationName="ROOM 1"), ModalityPerformedProcedureStep, STEP)
    assert not site.ledger.receiving()[0].in_progress


def test_a_step_that_nobody_created_is_refused(told):
    ended = items(PerformedProcedureStepStatus="COMPLETED")
    status, _ = told.send_n_set(ended, ModalityPerformedProcedureStep, "1.2.840.99.2")
    assert status.Status == 0x0112


def test_an_availability_notification_counts_what_is_at_hand(site, told):
    image = studies.dataset(1, 320)
    send(site, image)
    listed = [
        items(ReferencedSOPInstanceUID=image.SOPInstanceUID, InstanceAvailability="ONLINE"),
        items(ReferencedSOPInstanceUID="1.2.9", InstanceAvailability="UNAVAILABLE"),
    ]
    notice = items(
        StudyInstanceUID=image.StudyInstanceUID,
        ReferencedSeriesSequence=[items(ReferencedSOPSequence=listed)],
    )
    status, _ = told.send_n_create(notice, InstanceAvailabilityNotification, "1.2.8")
    assert status.Status == 0x0000
    [study] = site.ledger.receiving()
    assert (study.announced, study.awaited) == (1, 0)


def test_storage_commitment_is_answered_over_an_association_of_the_archives_own(site, told):
    site.ledger.note_own("1.2.3", "pacs", "run", [own("1.3")])
    site.ledger.note_commitment_request("1.2.77", "pacs", "run")
    report = items(
        TransactionUID="1.2.77",
        ReferencedSOPSequence=[items(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.3")],
    )

    def tell():
        return told.send_n_event_report(
            report, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )[0].Status

    assert tell() == 0x0000
    assert site.ledger.commitment("pacs", "run").committed == 1
    report.TransactionUID = "1.2.78"
    assert tell() == 0x0112


@pytest.mark.parametrize("told_of", [{}, {"StudyInstanceUID": ""}])
def test_what_names_no_study_is_refused_and_the_association_lives(told_of, told):
    notice = items(**told_of)
    notice.ReferencedSeriesSequence = []
    for _ in range(2):
        status, _ = told.send_n_create(notice, InstanceAvailabilityNotification, "1.2.8")
        assert status.Status == 0x0110
