"""The archive that studies come from: what it holds of a study, and fetching what is missing.

Over DIMSE (C-FIND; C-GET or C-MOVE) or over DICOMweb (QIDO-RS; WADO-RS).
"""

from collections.abc import Collection, Iterator, Mapping
from email.message import Message
from io import BytesIO
from typing import Any, Literal

import structlog
from pydicom import Dataset, dcmread
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import build_role, evt
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from bonetumor.dicom.peer import FIND, Peer, accepted, find, reading, said
from bonetumor.dicom.presentation import ASSESSED_SOP_CLASSES
from bonetumor.dicom.web import Dicomweb, first_value
from bonetumor.domain.errors import (
    ArchiveUnavailable,
    BoneTumorError,
    InvalidInput,
    Rejected,
    StorageUnavailable,
)
from bonetumor.domain.uid import UID, parse_uid
from bonetumor.service.intake import Intake
from bonetumor.service.ledger import Arrival
from bonetumor.service.ports import Announced, Holding

GET = StudyRootQueryRetrieveInformationModelGet
MOVE = StudyRootQueryRetrieveInformationModelMove
Fetching = Literal["auto", "get", "move", "off"]

_NO_IMAGES = frozenset({"SR", "PR", "KO", "DOC", "AU", "REG", "SEG", "RTSTRUCT", "PLAN", "FID"})
_PENDING = {0xFF00, 0xFF01}
_FILE_PREFIX_BYTES = 132
_log = structlog.get_logger(__name__)


class PacsArchive:
    """The archive over DIMSE."""

    def __init__(
        self,
        peer: Peer,
        intake: Intake,
        *,
        fetching: Fetching,
        sop_classes: Collection[str] = ASSESSED_SOP_CLASSES,
    ) -> None:
        self._peer = peer
        self._intake = intake
        self._fetching = fetching
        self._sop_classes = sorted(sop_classes)

    def holdings(self, study_instance_uid: UID) -> Mapping[UID, Holding]:
        """C-FIND at series level."""
        query = _query("SERIES", study_instance_uid, "")
        query.Modality = ""
        query.NumberOfSeriesRelatedInstances = None
        with reading(), self._peer.associate([FIND]) as association:
            return {
                parse_uid(str(match.SeriesInstanceUID)): _holding(
                    match.get("NumberOfSeriesRelatedInstances"), match.get("Modality")
                )
                for match in find(association, query)
            }

    def instances(self, study_instance_uid: UID, series_instance_uid: UID) -> frozenset[UID]:
        """C-FIND at image level."""
        query = _query("IMAGE", study_instance_uid, series_instance_uid)
        query.SOPInstanceUID = ""
        with reading(), self._peer.associate([FIND]) as association:
            return frozenset(parse_uid(str(m.SOPInstanceUID)) for m in find(association, query))

    def fetch(self, study_instance_uid: UID, missing: Mapping[UID, frozenset[UID]]) -> None:
        """C-GET where it is offered, which needs no configuration over there; else C-MOVE."""
        if self._fetching == "off":
            raise Rejected("archive: expected fetching to be on, got off in the settings")
        contexts: list[PresentationContext | str] = [MOVE]
        roles = []
        if self._fetching != "move":
            contexts = [GET, *([MOVE] if self._fetching == "auto" else []), *self._storage()]
            roles = [build_role(uid, scp_role=True) for uid in self._sop_classes]
        handlers = [(evt.EVT_C_STORE, self._take)]
        with self._peer.associate(contexts, roles=roles, handlers=handlers) as association:
            offered = accepted(association)
            for series, uids in missing.items():
                query = _query("IMAGE", study_instance_uid, series)
                query.SOPInstanceUID = sorted(uids)
                if GET in offered:
                    answers = association.send_c_get(query, GET)
                elif MOVE in offered:
                    answers = association.send_c_move(
                        query, self._peer.address.calling_ae_title, MOVE
                    )
                else:
                    raise Rejected("archive: expected it to offer C-GET or C-MOVE, got neither")
                _finish(answers)

    def _storage(self) -> list[PresentationContext]:
        return [build_context(uid, list(AllTransferSyntaxes)) for uid in self._sop_classes]

    def _take(self, event: Any) -> int:
        """An instance that C-GET brings, through the same intake as any other."""
        request = event.request
        return keep(
            self._intake,
            Announced(
                sop_class_uid=parse_uid(str(request.AffectedSOPClassUID)),
                sop_instance_uid=parse_uid(str(request.AffectedSOPInstanceUID)),
                transfer_syntax_uid=parse_uid(str(event.context.transfer_syntax)),
                calling_ae_title=self._peer.address.ae_title,
                called_ae_title=self._peer.address.calling_ae_title,
            ),
            request.DataSet.getbuffer(),
        )


class WebArchive:
    """The archive over DICOMweb."""

    def __init__(self, web: Dicomweb, intake: Intake, *, name: str, called: str) -> None:
        self._web = web
        self._intake = intake
        self._name = name
        self._called = called

    def holdings(self, study_instance_uid: UID) -> Mapping[UID, Holding]:
        """QIDO-RS for the study's series."""
        with reading():
            found = self._web.search(
                f"/studies/{study_instance_uid}/series", {"includefield": "00201209"}
            )
            return {
                parse_uid(str(first_value(m, "0020000E"))): _holding(
                    first_value(m, "00201209"), first_value(m, "00080060")
                )
                for m in found
            }

    def instances(self, study_instance_uid: UID, series_instance_uid: UID) -> frozenset[UID]:
        """QIDO-RS for the instances of a series."""
        path = f"/studies/{study_instance_uid}/series/{series_instance_uid}/instances"
        with reading():
            found = self._web.search(path, {})
            return frozenset(parse_uid(str(first_value(m, "00080018"))) for m in found)

    def fetch(self, study_instance_uid: UID, missing: Mapping[UID, frozenset[UID]]) -> None:
        """WADO-RS, an instance at a time."""
        for series, uids in missing.items():
            for uid in sorted(uids):
                path = f"/studies/{study_instance_uid}/series/{series}/instances/{uid}"
                answer = self._web.retrieve(path)
                for part in _parts(answer.headers.get("Content-Type", ""), answer.content):
                    self._keep(part)

    def _keep(self, file: bytes) -> None:
        """A DICOM file (PS3.10 7.1) through the same intake as any other instance."""
        with reading():
            head = dcmread(BytesIO(file), stop_before_pixels=True, specific_tags=[])
            meta = head.file_meta
            start = _FILE_PREFIX_BYTES + 12 + int(meta.FileMetaInformationGroupLength)
            announced = Announced(
                sop_class_uid=parse_uid(str(meta.MediaStorageSOPClassUID)),
                sop_instance_uid=parse_uid(str(meta.MediaStorageSOPInstanceUID)),
                transfer_syntax_uid=parse_uid(str(meta.TransferSyntaxUID)),
                calling_ae_title=self._name,
                called_ae_title=self._called,
            )
        keep(self._intake, announced, memoryview(file)[start:])


def keep(intake: Intake, announced: Announced, data: memoryview) -> int:
    """Takes a fetched instance in; the status that its sender gets."""
    try:
        incoming = intake.open(announced)
        try:
            incoming.write(data)
        except BoneTumorError:
            incoming.discard()
            raise
        arrival = intake.keep(incoming)
    except StorageUnavailable:
        return 0xA700
    except BoneTumorError as error:
        _log.warning("fetched instance refused", error=error.code, reason=str(error))
        intake.refuse(announced.calling_ae_title, announced.sop_instance_uid, error)
        return 0xC000
    return 0xC001 if arrival is Arrival.CONFLICTING else 0x0000


def _query(level: str, study: UID, series: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    query.StudyInstanceUID, query.SeriesInstanceUID = study, series
    return query


def _holding(count: object, modality: object) -> Holding:
    known = str(count).strip() if count not in (None, "") else ""
    return Holding(
        int(known) if known.isdigit() else None, str(modality or "").strip() not in _NO_IMAGES
    )


def _finish(answers: Iterator[tuple[Dataset, Dataset | None]]) -> None:
    final = None
    for status, _ in answers:
        final = status.get("Status")
    if final is None or final & 0xFF00 == 0xA700:
        raise ArchiveUnavailable(f"archive: expected Success for retrieval, got {said(final)}")
    if final not in (0x0000, *_PENDING) and final & 0xF000 != 0xB000:
        raise Rejected(f"archive: expected Success for retrieval, got {said(final)}")


def _parts(content_type: str, body: bytes) -> Iterator[bytes]:
    """The parts of a multipart answer (PS3.18 8.6.1.2)."""
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary()
    if boundary is None:
        raise InvalidInput(f"archive: expected multipart/related, got {content_type[:60]}")
    for part in body.split(b"--" + boundary.encode())[1:-1]:
        _, _, content = part.partition(b"\r\n\r\n")
        yield content.removesuffix(b"\r\n")
