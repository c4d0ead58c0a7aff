"""The archive as the place where results go: the Archive port over DICOM."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID as DicomUID
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from bonetumor.dicom.inbox import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from bonetumor.dicom.reader import SpooledStudies
from bonetumor.dicom.sr import structured_report
from bonetumor.domain.errors import ArchiveUnavailable, Rejected
from bonetumor.service.ports import Result

_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_PENDING = {0xFF00, 0xFF01}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveAddress:
    """Where the archive listens, and what we call ourselves."""

    host: str
    port: int
    ae_title: str
    calling_ae_title: str
    timeout_s: float


class DicomArchive:
    """Sends results by C-STORE and asks for them by C-FIND."""

    def __init__(self, address: ArchiveAddress, studies: SpooledStudies) -> None:
        self._address = address
        self._studies = studies

    def echo(self) -> None:
        """C-ECHO; raises ArchiveUnavailable if the archive does not answer Success."""
        with self._associate([Verification]) as association:
            status = association.send_c_echo()
            if status.get("Status") != 0x0000:
                raise ArchiveUnavailable("archive: expected Success for C-ECHO, got none")

    def send(self, result: Result) -> None:
        """Stores the SR: Comprehensive 3D where the archive accepts it, else Comprehensive."""
        images = self._studies.image_datasets(result.study)
        with self._associate([Comprehensive3DSRStorage, ComprehensiveSRStorage]) as association:
            accepted = {c.abstract_syntax for c in association.accepted_contexts}
            if not accepted:
                raise Rejected("archive: expected it to accept a structured report, got no context")
            report = structured_report(result, images, three_d=Comprehensive3DSRStorage in accepted)
            _store(association, report)

    def holds(self, result: Result) -> bool:
        """Whether C-FIND at image level answers with the SR."""
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID = result.study.study_instance_uid
        query.SeriesInstanceUID = result.assessment.sr_series_instance_uid
        query.SOPInstanceUID = result.assessment.sr_sop_instance_uid
        with self._associate([StudyRootQueryRetrieveInformationModelFind]) as association:
            if not association.accepted_contexts:
                raise Rejected("archive: expected it to accept C-FIND, got no context")
            answers = list(
                association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
            )
        final = answers[-1][0].get("Status") if answers else None
        if final != 0x0000:
            raise ArchiveUnavailable(f"archive: expected Success for C-FIND, got {_hex(final)}")
        return any(
            status.get("Status") in _PENDING
            and found is not None
            and found.get("SOPInstanceUID") == result.assessment.sr_sop_instance_uid
            for status, found in answers
        )

    @contextmanager
    def _associate(self, abstract_syntaxes: list[str]) -> Iterator[Association]:
        entity = AE(ae_title=self._address.calling_ae_title)
        entity.implementation_class_uid = DicomUID(IMPLEMENTATION_CLASS_UID)
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = (
            self._address.timeout_s
        )
        entity.connection_timeout = self._address.timeout_s
        for syntax in abstract_syntaxes:
            entity.add_requested_context(syntax, _SYNTAXES)
        association = entity.associate(
            self._address.host, self._address.port, ae_title=self._address.ae_title
        )
        if association.is_rejected:
            raise ArchiveUnavailable("archive: expected an association, got a rejection")
        # An acceptor that takes no context makes pynetdicom abort: nobody is left to talk to.
        if not association.is_established and not association.rejected_contexts:
            raise ArchiveUnavailable(
                f"archive: expected an association with "
                f"{self._address.host}:{self._address.port}, got none"
            )
        try:
            yield association
        finally:
            if association.is_established:
                association.release()


def _store(association: Association, report: Dataset) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.file_meta = meta
    status = association.send_c_store(report).get("Status")
    if status is None or status & 0xFF00 == 0xA700:
        raise ArchiveUnavailable(f"archive: expected Success for C-STORE, got {_hex(status)}")
    if status != 0x0000 and status & 0xF000 != 0xB000:
        raise Rejected(f"archive: expected Success for C-STORE, got {_hex(status)}")


def _hex(status: int | None) -> str:
    return "no answer" if status is None else f"{status:04X}"
