"""What archives and modalities tell us by DIMSE-N.

Answers to storage commitment (PS3.4 J.3.3), what a modality made (MPPS, PS3.4 F.7) and what an
archive has (Instance Availability Notification, PS3.4 R).
"""

from collections import deque
from collections.abc import Callable
from io import BytesIO

import structlog
from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID as TransferSyntax
from pynetdicom.sop_class import (
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
)

from bonetumor.dicom.commitment import read_answer
from bonetumor.dicom.dimse import Command, CommandSet, Status
from bonetumor.dicom.identify import parsing
from bonetumor.domain.errors import InvalidInput, StorageUnavailable
from bonetumor.domain.uid import UID, parse_uid
from bonetumor.service.ledger import Announcements, Outbox

_Hear = Callable[[CommandSet, Dataset], tuple[Status, str]]
_log = structlog.get_logger(__name__)


class NormalizedServices:
    """Takes what is told and remembers it in the ledger."""

    def __init__(self, announcements: Announcements, outbox: Outbox) -> None:
        self._announcements = announcements
        self._outbox = outbox
        self._services: dict[tuple[str, int], _Hear] = {
            (StorageCommitmentPushModel, Command.N_EVENT_REPORT_RQ): self._commitment,
            (InstanceAvailabilityNotification, Command.N_CREATE_RQ): self._availability,
            (ModalityPerformedProcedureStep, Command.N_CREATE_RQ): self._performed,
            (ModalityPerformedProcedureStep, Command.N_SET_RQ): self._performed,
        }

    def take(
        self, request: CommandSet, words: bytes, transfer_syntax_uid: str
    ) -> tuple[Status, str]:
        """Acts on a request; the status to answer with, and a comment."""
        try:
            told = _decode(words, transfer_syntax_uid)
            hear = self._services.get((request.sop_class_uid, request.field))
            if hear is None:
                return Status.UNRECOGNIZED_OPERATION, ""
            return hear(request, told)
        except InvalidInput as error:
            _log.warning("told and not understood", error=error.code, reason=str(error))
            return Status.PROCESSING_FAILURE, str(error)
        except StorageUnavailable as error:
            return Status.PROCESSING_FAILURE, str(error)

    def _commitment(self, _request: CommandSet, told: Dataset) -> tuple[Status, str]:
        answer = read_answer(told)
        if not self._outbox.note_commitment_answer(
            answer.transaction_uid, committed=answer.committed, failed=answer.failed
        ):
            return Status.NO_SUCH_INSTANCE, "Transaction UID: expected one of ours, got another"
        return Status.SUCCESS, ""

    def _availability(self, _request: CommandSet, told: Dataset) -> tuple[Status, str]:
        """An archive lists instances, each with its availability; only those at hand count."""
        study = _uid(told, "StudyInstanceUID")
        found = [
            _uid(item, "ReferencedSOPInstanceUID")
            for series in told.get("ReferencedSeriesSequence") or []
            for item in series.get("ReferencedSOPSequence") or []
            if item.get("InstanceAvailability") in ("ONLINE", "NEARLINE")
        ]
        self._announcements.note_announced(study, "IAN", found)
        return Status.SUCCESS, ""

    def _performed(self, request: CommandSet, told: Dataset) -> tuple[Status, str]:
        """A modality begins a step, and later says that it is over and what came of it."""
        step = parse_uid(request.sop_instance_uid, name="SOP Instance UID")
        status = str(told.get("PerformedProcedureStepStatus") or "IN PROGRESS")
        scheduled = told.get("ScheduledStepAttributesSequence") or []
        study = _uid(scheduled[0], "StudyInstanceUID") if scheduled else None
        if not self._announcements.note_step(step, study, is_over=status != "IN PROGRESS"):
            return Status.NO_SUCH_INSTANCE, "MPPS: expected a step that was created, got another"
        made = [
            _uid(item, "ReferencedSOPInstanceUID")
            for series in told.get("PerformedSeriesSequence") or []
            for item in series.get("ReferencedImageSequence") or []
        ]
        self._announcements.note_made(step, made)
        return Status.SUCCESS, ""


def _decode(words: bytes, transfer_syntax_uid: str) -> Dataset:
    syntax = TransferSyntax(transfer_syntax_uid)
    with parsing(syntax):
        told = read_dataset(BytesIO(words), syntax.is_implicit_VR, syntax.is_little_endian)
        deque(told.iterall(), maxlen=0)  # values are parsed when they are looked at: do it here
        return told


def _uid(item: Dataset, keyword: str) -> UID:
    return parse_uid(str(item.get(keyword) or ""), name=keyword)
