"""An archive as the place where results go: C-STORE, then storage commitment or C-FIND."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import groupby
from threading import Event as Flag
from typing import Any, Literal

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from bonetumor.dicom.commitment import read_answer
from bonetumor.dicom.objects import SOP_CLASSES, Kind, ObjectMaker
from bonetumor.dicom.peer import FIND, Peer, accepted, find, reading, said
from bonetumor.domain.errors import ArchiveUnavailable, CommitmentPending, Rejected
from bonetumor.domain.uid import UID
from bonetumor.service.ledger import Commitment, Outbox, OwnObject
from bonetumor.service.ports import Clock, Parcel, Result

Confirmation = Literal["auto", "commitment", "find", "success"]
_DUPLICATE = 0x0111
_ANSWER_ON_THE_SAME_ASSOCIATION_S = 2.0


class DicomDestination:
    """One archive that results are stored in."""

    def __init__(
        self,
        name: str,
        peer: Peer,
        maker: ObjectMaker,
        outbox: Outbox,
        *,
        confirmation: Confirmation,
        commitment_wait: timedelta,
        clock: Clock,
    ) -> None:
        self._name = name
        self._peer = peer
        self._maker = maker
        self._outbox = outbox
        self._confirmation = confirmation
        self._commitment_wait = commitment_wait
        self._clock = clock

    def send(self, parcel: Parcel) -> str:
        """C-STORE of every object: 3D SR where the archive accepts it, else the older class."""
        objects = self._maker.pictures(parcel)
        kinds = self._maker.kinds(parcel)
        with self._peer.associate(c for kind in kinds for c in SOP_CLASSES[kind]) as association:
            taken = accepted(association)
            _require(kinds, taken)
            if isinstance(parcel, Result) and Kind.SR in kinds:
                three_d = Comprehensive3DSRStorage in taken
                objects.insert(0, self._maker.report(parcel, three_d=three_d))
            own = own_objects(objects)
            self._outbox.note_own(parcel.study.study_instance_uid, self._name, parcel.key, own)
            for one in objects:
                store(association, one)
        return describe(objects)

    def confirm(self, parcel: Parcel) -> str:
        """By storage commitment where the archive offers it, else by reading back."""
        own = self._outbox.sent_objects(self._name, parcel.key)
        if self._confirmation == "success":
            return f"Success for {len(own)} objects; the settings say that it is not read back"
        if self._confirmation == "find":
            return self._read_back(own, "")
        with self._peer.associate([StorageCommitmentPushModel]) as association:
            offers = StorageCommitmentPushModel in accepted(association)
        if not offers:
            if self._confirmation == "commitment":
                raise Rejected("archive: expected it to offer storage commitment, got no context")
            return self._read_back(own, "")
        return self._commit(parcel, own)

    def _commit(self, parcel: Parcel, own: Sequence[OwnObject]) -> str:
        """Asks, and waits for the answer, which may come over another association.

        Where nothing else will do, it is asked for again when the wait is over.
        """
        known = self._outbox.commitment(self._name, parcel.key)
        if known is not None and self._is_overdue(known):
            if self._confirmation == "auto":
                self._outbox.forget_commitment(known.transaction_uid)
                return self._without_commitment(own, "not answered")
            known = None
        if known is None:
            # Of its own for each request: an archive may refuse one that it has seen (0131).
            transaction = UID(generate_uid(prefix=None))
            self._outbox.note_commitment_request(transaction, self._name, parcel.key)
            code = self._request(transaction, parcel, own)
            if code != 0x0000:
                self._outbox.forget_commitment(transaction)
                return self._without_commitment(own, f"refused with {said(code)}")
            known = self._outbox.commitment(self._name, parcel.key)
        if known is not None and known.is_answered:
            if own and known.committed == len(own):
                return f"storage commitment of {known.committed} objects"
            self._outbox.forget_commitment(known.transaction_uid)
            raise ArchiveUnavailable(
                f"archive: expected storage commitment of {len(own)} objects, "
                f"got {known.committed} committed and {known.failed} failed"
            )
        raise CommitmentPending(
            "archive: expected an answer to storage commitment, got none yet", retry_after_s=1.0
        )

    def _is_overdue(self, known: Commitment) -> bool:
        waited = self._clock() - known.requested_at
        return not known.is_answered and waited > self._commitment_wait

    def _without_commitment(self, own: Sequence[OwnObject], why: str) -> str:
        """Reading back, where the site leaves the choice to us; else the delivery waits."""
        if self._confirmation == "commitment":
            raise ArchiveUnavailable(f"archive: expected storage commitment, got it {why}")
        return self._read_back(own, f"storage commitment was {why}; ")

    def _request(self, transaction: UID, parcel: Parcel, own: Sequence[OwnObject]) -> int | None:
        """N-ACTION (PS3.4 J.3.2), and its status, None where the archive ends the association.

        An answer over the same association is noted at once.
        """
        action = Dataset()
        action.TransactionUID = transaction
        action.ReferencedSOPSequence = [_reference(one) for one in own]
        answered = Flag()
        handlers = [(evt.EVT_N_EVENT_REPORT, self._take_answer(answered))]
        with self._peer.associate([StorageCommitmentPushModel], handlers=handlers) as association:
            status, _ = association.send_n_action(
                action, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            code = status.get("Status")
            deadline = time.monotonic() + _ANSWER_ON_THE_SAME_ASSOCIATION_S
            while code == 0x0000 and not answered.wait(0.05) and time.monotonic() < deadline:
                known = self._outbox.commitment(self._name, parcel.key)
                if known is not None and known.is_answered:
                    break
            return None if code is None else int(code)

    def _take_answer(self, answered: Flag) -> Callable[[Any], tuple[int, None]]:
        def take(event: Any) -> tuple[int, None]:
            answer = read_answer(event.event_information)
            known = self._outbox.note_commitment_answer(
                answer.transaction_uid, committed=answer.committed, failed=answer.failed
            )
            answered.set()
            return (0x0000 if known else 0x0110), None

        return take

    def _read_back(self, own: Sequence[OwnObject], before: str) -> str:
        """C-FIND at image level, series by series; raises ArchiveUnavailable if one is missing."""
        missing = {one.sop_instance_uid for one in own}
        with self._peer.associate([FIND]) as association:
            for series, members in groupby(
                sorted(own, key=lambda o: o.series_instance_uid),
                key=lambda o: (o.study_instance_uid, o.series_instance_uid),
            ):
                query = Dataset()
                query.QueryRetrieveLevel = "IMAGE"
                query.StudyInstanceUID, query.SeriesInstanceUID = series
                wanted = [m.sop_instance_uid for m in members]
                query.SOPInstanceUID = wanted[0] if len(wanted) == 1 else ""
                with reading():
                    found = find(association, query)
                    held = {UID(str(match.get("SOPInstanceUID", ""))) for match in found}
                missing -= held
        if missing or not own:
            raise ArchiveUnavailable(
                f"archive: expected it to hold {len(own)} objects, got an answer without "
                f"{len(missing)} of them"
            )
        return f"{before}the archive answers that it holds {len(own)} objects"


def own_objects(objects: Sequence[Dataset]) -> list[OwnObject]:
    """What the ledger remembers of objects that are about to be sent."""
    return [
        OwnObject(
            sop_instance_uid=UID(str(one.SOPInstanceUID)),
            sop_class_uid=UID(str(one.SOPClassUID)),
            study_instance_uid=UID(str(one.StudyInstanceUID)),
            series_instance_uid=UID(str(one.SeriesInstanceUID)),
        )
        for one in objects
    ]


def describe(objects: Sequence[Dataset]) -> str:
    """What was sent, in words."""
    names = {"SR": "structured report", "OT": "picture", "PR": "presentation state", "DOC": "PDF"}
    counts: dict[str, int] = {}
    for one in objects:
        name = names.get(str(one.Modality), str(one.Modality))
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items())


def _require(kinds: Sequence[Kind], taken: set[str]) -> None:
    for kind in kinds:
        if not taken.intersection(SOP_CLASSES[kind]):
            raise Rejected(
                f"archive: expected it to accept {SOP_CLASSES[kind][0].name}, got no context"
            )


def _reference(own: OwnObject) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = own.sop_class_uid
    item.ReferencedSOPInstanceUID = own.sop_instance_uid
    return item


def store(association: Association, one: Dataset) -> None:
    """C-STORE. A warning is a success; a duplicate is what an earlier attempt left."""
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    status = association.send_c_store(one).get("Status")
    if status is None or status & 0xFF00 == 0xA700:
        raise ArchiveUnavailable(f"archive: expected Success for C-STORE, got {said(status)}")
    if status not in (0x0000, _DUPLICATE) and status & 0xF000 != 0xB000:
        raise Rejected(f"archive: expected Success for C-STORE, got {said(status)}")
