"""Archives that answer as a test tells them to, by pynetdicom on loopback."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from bonetumor.dicom.peer import FIND, Peer, PeerAddress


def peer_at(
    port: int,
    ae_title: str,
    *,
    calling: str = "BONETUMOR",
    host: str = "127.0.0.1",
    timeout_s: float = 30.0,
    tls: ssl.SSLContext | None = None,
) -> Peer:
    """Our own requestor, towards whoever listens there."""
    return Peer(
        PeerAddress(
            host=host,
            port=port,
            ae_title=ae_title,
            calling_ae_title=calling,
            timeout_s=timeout_s,
            tls=tls,
        )
    )


class OddArchive:
    """`status` answers C-STORE; `commits` says how storage commitment is answered: None does not
    offer it; "here" and "there" answer over the same association or one of its own, "no" says that
    it failed, "other" names one object twice and no other, "never" is silent, "refuse" answers
    N-ACTION with a failure.
    """

    def __init__(
        self,
        *,
        status: int = 0x0000,
        commits: str | None = None,
        takes_3d: bool = True,
        max_pdu: int = 16384,
        answer_to: int = 0,
        slow_s: float = 0.0,
        aborts: bool = False,
        finds: bool = True,
    ) -> None:
        self.status, self.commits, self.answer_to = status, commits, answer_to
        self.slow_s, self.aborts = slow_s, aborts
        self.ae_title = "ODD"
        self.stored: dict[str, Dataset] = {}
        self.requests: list[Dataset] = []
        self._entity = AE(ae_title=self.ae_title)
        self._entity.maximum_pdu_size = max_pdu
        self._entity.supported_contexts = [
            c
            for c in AllStoragePresentationContexts
            if takes_3d or c.abstract_syntax != Comprehensive3DSRStorage
        ]
        self._entity.add_supported_context(Verification)
        if finds:
            self._entity.add_supported_context(FIND)
        if commits is not None:
            self._entity.add_supported_context(
                StorageCommitmentPushModel, ImplicitVRLittleEndian, scu_role=True, scp_role=True
            )

    @contextmanager
    def up(self) -> Iterator["OddArchive"]:
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_N_ACTION, self._action),
        ]
        server = self._entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = server.server_address[1]
        try:
            yield self
        finally:
            server.shutdown()

    def _store(self, event) -> int:
        time.sleep(self.slow_s)
        if self.aborts:
            event.assoc.abort()
            return 0xC000
        if self.status == 0x0000 or self.status & 0xF000 == 0xB000:
            self.stored[event.request.AffectedSOPInstanceUID] = event.dataset
        return self.status

    def _find(self, event):
        for uid, one in self.stored.items():
            if one.SeriesInstanceUID == event.identifier.SeriesInstanceUID:
                answer = Dataset()
                answer.QueryRetrieveLevel = "IMAGE"
                answer.SOPInstanceUID = uid
                yield 0xFF00, answer

    def _action(self, event):
        asked = event.action_information
        self.requests.append(asked)
        if self.commits == "refuse":
            return 0x0110, None
        if self.commits == "here":
            threading.Timer(0.2, self._tell, (event.assoc, self._answer(asked))).start()
        elif self.commits in ("there", "no", "other"):
            threading.Timer(0.2, self.call_back, (asked,)).start()
        return 0x0000, None

    def _answer(self, asked: Dataset) -> Dataset:
        report = Dataset()
        report.TransactionUID = asked.TransactionUID
        report.ReferencedSOPSequence = [] if self.commits == "no" else asked.ReferencedSOPSequence
        report.FailedSOPSequence = asked.ReferencedSOPSequence if self.commits == "no" else []
        if self.commits == "other":
            first = asked.ReferencedSOPSequence[0]
            report.ReferencedSOPSequence = [first for _ in asked.ReferencedSOPSequence]
        return report

    def call_back(self, asked: Dataset) -> None:
        """Answers a request over an association of its own."""
        entity = AE(ae_title=self.ae_title)
        entity.add_requested_context(StorageCommitmentPushModel, ImplicitVRLittleEndian)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = entity.associate(
            "127.0.0.1", self.answer_to, ae_title="BONETUMOR", ext_neg=[role]
        )
        self._tell(association, self._answer(asked))
        association.release()

    def _tell(self, association, report) -> None:
        event = 2 if self.commits == "no" else 1
        association.send_n_event_report(
            report, event, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
