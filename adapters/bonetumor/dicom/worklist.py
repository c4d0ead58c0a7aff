"""A worklist manager over UPS-RS (PS3.18 11): workitems found, claimed, and ended by us."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import httpx
import structlog
from highdicom.sr.coding import CodedConcept as Concept
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.sr.codedict import codes

from bonetumor.dicom.attributes import refusing, said
from bonetumor.dicom.web import Dicomweb, first_value
from bonetumor.domain.code import Code
from bonetumor.domain.errors import ArchiveUnavailable, InvalidInput, Rejected
from bonetumor.domain.uid import UID, parse_uid
from bonetumor.domain.workitem import Performance, Workitem
from bonetumor.service.ledger import OwnObject
from bonetumor.service.perform import Outputs
from bonetumor.service.ports import Clock

_ENDED = ("COMPLETED", "CANCELED")
_NOT_FOUND, _NO_SUCH_METHOD, _GONE = 404, 405, 410
_REFUSED = (400, _NOT_FOUND, _NO_SUCH_METHOD, 409, _GONE)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """Which workitems are meant for us: those of which everything that is given here is true."""

    label: str = ""
    workitem: Code | None = None
    station: Code | None = None

    def query(self) -> dict[str, str]:
        """As matching keys (PS3.18 8.3.4). Sequences are matched by dotted tags."""
        keys = {"00741202": self.label} if self.label else {}
        for tag, code in (("00404018", self.workitem), ("00404025", self.station)):
            if code is not None:
                keys[f"{tag}.00080100"], keys[f"{tag}.00080102"] = code.value, code.scheme
        return keys

    def fits(self, workitem: Dataset) -> bool:
        """Whether it is: managers may ignore keys."""
        return (
            self.label in ("", said(workitem, "WorklistLabel"))
            and _has(workitem, "ScheduledWorkitemCodeSequence", self.workitem)
            and _has(workitem, "ScheduledStationNameCodeSequence", self.station)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """From where others get what a destination holds: one of both."""

    ae_title: str = ""
    dicomweb_url: str = ""

    def apply(self, item: Dataset, own: OwnObject) -> None:
        """Says so in an item of the output (PS3.3 10-3b)."""
        where = Dataset()
        if self.dicomweb_url:
            where.RetrieveURL = (
                f"{self.dicomweb_url.rstrip('/')}/studies/{own.study_instance_uid}"
                f"/series/{own.series_instance_uid}"
            )
            item.WADORSRetrievalSequence = [where]
        else:
            where.RetrieveAETitle = self.ae_title
            item.DICOMRetrievalSequence = [where]


class UpsWorklist:
    """One worklist manager. `ae_title` and `station` are how we name ourselves as the performer."""

    def __init__(
        self,
        web: Dicomweb,
        *,
        meant: Meant,
        ae_title: str,
        station: Code,
        retrieval: Mapping[str, Retrieval],
        clock: Clock,
    ) -> None:
        self._web = web
        self._meant = meant
        self._ae_title = ae_title
        self._station = station
        self._retrieval = retrieval
        self._clock = clock

    def answers(self) -> None:
        """Asks for one workitem; raises ArchiveUnavailable or Rejected if that does not work."""
        self._web.search("/workitems", {"limit": "1", **self._meant.query()})

    def offered(self, most: int) -> Sequence[Workitem]:
        """Up to so many workitems that are SCHEDULED, READY and meant for us.

        One that cannot be read, or whose input names no study, is logged and left where it is.
        """
        keys = {"00741000": "SCHEDULED", "00404041": "READY", **self._meant.query()}
        matches = self._web.search("/workitems", keys)
        with refusing("worklist: expected DICOM JSON", ArchiveUnavailable):
            uids = [str(first_value(match, "00080018")) for match in matches]
        found: list[Workitem] = []
        for text in uids:
            if len(found) == most:
                break
            try:
                uid = parse_uid(text, name="workitem")
                workitem = self._read(uid)
                if workitem is not None and self._is_for_us(workitem):
                    found.append(_workitem(uid, workitem))
            except InvalidInput as error:
                _log.warning("workitem passed over", reason=str(error))
        return found

    def claim(self, workitem: UID, transaction: UID) -> bool:
        """PUT state IN PROGRESS (PS3.18 11.7); False where somebody else has it."""
        return self._set_state(workitem, transaction, "IN PROGRESS")

    def is_ours(self, workitem: UID, transaction: UID) -> bool:
        """Whether the manager takes an update under our transaction: it says that we are at it."""
        update, progress = Dataset(), Dataset()
        progress.ProcedureStepProgressDescription = "claimed"
        update.ProcedureStepProgressInformationSequence = [progress]
        return self._update(workitem, transaction, update)

    def complete(self, performance: Performance, outputs: Outputs) -> str:
        """What was performed (PS3.4 CC.2.5), then the state COMPLETED."""
        performed = Dataset()
        station = Concept(self._station.value, self._station.scheme, self._station.meaning)
        performed.PerformedStationNameCodeSequence = [station]
        performed.PerformedProcedureStepStartDateTime = _moment(
            performance.claimed_at or performance.begun_at
        )
        performed.PerformedProcedureStepEndDateTime = _moment(self._clock())
        performed.OutputInformationSequence = list(self._output(outputs))
        update = Dataset()
        update.UnifiedProcedureStepPerformedProcedureSequence = [performed]

        def finish(workitem: Dataset) -> Dataset:
            asked = _items(workitem, "ScheduledWorkitemCodeSequence")
            performed.PerformedWorkitemCodeSequence = asked
            return update

        return self._end(performance, "COMPLETED", finish)

    def cancel(self, performance: Performance, reason: str) -> str:
        """Why (PS3.4 CC.2.5), then the state CANCELED."""
        progress = Dataset()
        progress.ProcedureStepCancellationDateTime = _moment(self._clock())
        progress.ReasonForCancellation = reason[:1024]
        progress.ProcedureStepDiscontinuationReasonCodeSequence = [
            Concept.from_code(codes.DCM.DiscontinuedForUnspecifiedReason)
        ]
        update = Dataset()
        update.ProcedureStepProgressInformationSequence = [progress]
        return self._end(performance, "CANCELED", lambda _: update)

    def _end(
        self, performance: Performance, state: str, finish: Callable[[Dataset], Dataset]
    ) -> str:
        """Brings it into its last state; says which that is if others, or we, did so before."""
        uid, transaction = performance.workitem.uid, performance.transaction_uid
        workitem = self._read(uid)
        if workitem is None:
            return "is no longer known to the worklist"
        now = said(workitem, "ProcedureStepState")
        if now in _ENDED:
            return f"is {now} already"
        if self._update(uid, transaction, finish(workitem)) and self._set_state(
            uid, transaction, state
        ):
            return state
        workitem = self._read(uid)  # another listener of ours may have been faster
        now = said(workitem or Dataset(), "ProcedureStepState")
        if now in _ENDED:
            return f"is {now} already"
        raise Rejected(f"worklist: expected it to take {state} for {uid}, got a refusal in {now}")

    def _is_for_us(self, workitem: Dataset) -> bool:
        return (
            said(workitem, "ProcedureStepState") == "SCHEDULED"
            and said(workitem, "InputReadinessState") == "READY"
            and self._meant.fits(workitem)
        )

    def _read(self, workitem: UID) -> Dataset | None:
        """GET (PS3.18 11.5); None where the manager does not know it."""
        answer = self._web.call(
            "GET",
            f"/workitems/{workitem}",
            headers={"Accept": "application/dicom+json"},
            taken=(_NOT_FOUND, _GONE),
        )
        if not answer.is_success:
            return None
        with refusing(f"workitem: expected {workitem} as DICOM JSON", InvalidInput):
            found = answer.json()
            return Dataset.from_json(found[0] if isinstance(found, list) else found)

    def _update(self, workitem: UID, transaction: UID, update: Dataset) -> bool:
        """POST (PS3.18 11.6)."""
        update.TransactionUID = transaction
        path = f"/workitems/{workitem}?transaction={transaction}"
        return self._tell("POST", path, update).is_success

    def _set_state(self, workitem: UID, transaction: UID, state: str) -> bool:
        change = Dataset()
        change.TransactionUID, change.ProcedureStepState = transaction, state
        path = f"/workitems/{workitem}/state"
        answer = self._tell("PUT", path, change)
        if answer.status_code in (_NOT_FOUND, _NO_SUCH_METHOD):
            # Some managers want to be told who asks, as for a request to cancel.
            answer = self._tell("PUT", f"{path}/{quote(self._ae_title)}", change)
        return answer.is_success

    def _tell(self, method: str, path: str, what: Dataset) -> httpx.Response:
        """The answer, also where it is a refusal: a workitem in another state, or of others."""
        return self._web.call(
            method,
            path,
            content=f"[{what.to_json()}]",
            headers={"Content-Type": "application/dicom+json"},
            taken=_REFUSED,
        )

    def _output(self, outputs: Outputs) -> Iterator[Dataset]:
        """One item a destination and series."""
        for destination, objects in outputs.items():
            for series in dict.fromkeys(one.series_instance_uid for one in objects):
                own = [one for one in objects if one.series_instance_uid == series]
                item = Dataset()
                item.TypeOfInstances = "DICOM"
                item.StudyInstanceUID = own[0].study_instance_uid
                item.SeriesInstanceUID = series
                item.ReferencedSOPSequence = [_referenced(one) for one in own]
                self._retrieval[destination].apply(item, own[0])
                yield item


def _workitem(uid: UID, workitem: Dataset) -> Workitem:
    studies = tuple(
        dict.fromkeys(
            parse_uid(str(item.get("StudyInstanceUID") or ""), name="workitem's input")
            for item in _items(workitem, "InputInformationSequence")
        )
    )
    if not studies:
        raise InvalidInput(f"workitem: expected {uid} to name studies as its input, got none")
    is_urgent = said(workitem, "ScheduledProcedureStepPriority") == "HIGH"
    return Workitem(uid=uid, studies=studies, urgent=is_urgent)


def _has(workitem: Dataset, sequence: str, code: Code | None) -> bool:
    return code is None or any(
        (said(item, "CodeValue"), said(item, "CodingSchemeDesignator")) == (code.value, code.scheme)
        for item in _items(workitem, sequence)
    )


def _items(workitem: Dataset, sequence: str) -> list[Dataset]:
    """Nothing where the manager says that it is no sequence."""
    element = workitem.get(tag_for_keyword(sequence))
    return list(element.value) if element is not None and element.VR == "SQ" else []


def _referenced(own: OwnObject) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = own.sop_class_uid
    item.ReferencedSOPInstanceUID = own.sop_instance_uid
    return item


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%d%H%M%S}+0000"
