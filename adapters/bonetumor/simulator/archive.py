"""A small archive: C-ECHO, C-STORE into a folder, C-FIND at image level."""

from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification
from pynetdicom.transport import ThreadedAssociationServer

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.uid import parse_uid

_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class SimulatedArchive:
    """Listens on loopback. Objects lie in `folder` as `<SOP Instance UID>.dcm`."""

    def __init__(self, folder: Path, *, ae_title: str = "ARCHIVE") -> None:
        self._folder = folder
        self.ae_title = ae_title
        self._server: ThreadedAssociationServer | None = None

    def start(self) -> int:
        """Starts listening; answers the port."""
        self._folder.mkdir(parents=True, exist_ok=True)
        entity = AE(ae_title=self.ae_title)
        entity.supported_contexts = AllStoragePresentationContexts
        entity.add_supported_context(Verification)
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        self._server = entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)],
        )
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.shutdown()

    def objects(self) -> list[Path]:
        """The objects that were stored."""
        return sorted(self._folder.glob("*.dcm"))

    def _store(self, event: evt.Event) -> int:
        try:
            name = parse_uid(str(event.request.AffectedSOPInstanceUID))
        except InvalidInput:
            return 0xA900
        (self._folder / f"{name}.dcm").write_bytes(event.encoded_dataset())
        return 0x0000

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        for path in self.objects():
            held = pydicom.dcmread(path, stop_before_pixels=True)
            if all(not query.get(k) or query.get(k) == held.get(k) for k in _KEYS):
                answer = Dataset()
                answer.QueryRetrieveLevel = query.get("QueryRetrieveLevel", "IMAGE")
                for key in _KEYS:
                    setattr(answer, key, held.get(key))
                yield 0xFF00, answer
        yield 0x0000, None
