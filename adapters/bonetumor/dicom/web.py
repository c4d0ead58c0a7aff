"""DICOMweb: results by STOW-RS, read back by QIDO-RS (PS3.18 10.5, 10.6)."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from typing import Any
from uuid import uuid4

import httpx
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from bonetumor.dicom.attributes import refusing
from bonetumor.dicom.destination import describe, own_objects
from bonetumor.dicom.objects import Kind, ObjectMaker
from bonetumor.domain.errors import ArchiveUnavailable, Rejected
from bonetumor.service.ledger import Outbox
from bonetumor.service.ports import Parcel, Result

_FAILED_SOP_SEQUENCE, _FAILURE_REASON, _SOP_INSTANCE_UID = "00081198", "00081197", "00080018"
_SOP_CLASS_NOT_SUPPORTED, _DUPLICATE = 0x0122, 0x0111
_PAGE = 1000


class Dicomweb:
    """One DICOMweb service; `called` is what its faults are told of as."""

    def __init__(self, base_url: str, http: httpx.Client, called: str = "archive") -> None:
        self._base_url = base_url.rstrip("/")
        self._http = http
        self._called = called

    def answers(self) -> None:
        """Asks for one study; raises ArchiveUnavailable or Rejected if that does not work."""
        self.search("/studies", {"limit": "1"})

    def search(self, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """QIDO-RS; every match as DICOM JSON, page by page.

        A service that gives more than it was asked for knows no pages: that is all there is.
        """
        found: list[dict[str, Any]] = []
        before: list[dict[str, Any]] = []
        while True:
            page = {"limit": str(_PAGE), **query, "offset": str(len(found))}
            answer = self.call(
                "GET", path, params=page, headers={"Accept": "application/dicom+json"}
            )
            with _reading_json():
                matches = answer.json() if answer.content else []
                found += matches
            if len(matches) != int(page["limit"]) or "limit" in query:
                return found
            if matches == before:
                raise ArchiveUnavailable(
                    f"{self._called}: expected another page of matches, got the same again"
                )
            before = matches

    def retrieve(self, path: str) -> httpx.Response:
        """WADO-RS of whole objects in the transfer syntax that they are stored in."""
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        return self.call("GET", path, headers={"Accept": accept})

    def delete(self, path: str) -> None:
        """DELETE, which the standard does not know and some archives offer."""
        self.call("DELETE", path)

    def store(self, study: str, objects: Sequence[Dataset]) -> dict[str, int]:
        """STOW-RS; the failure reason of each object that was not taken, by SOP Instance UID."""
        boundary = uuid4().hex
        parts = [
            f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + _encoded(one)
            for one in objects
        ]
        body = b"\r\n".join(parts) + f"\r\n--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        answer = self.call("POST", f"/studies/{study}", content=body, headers=headers, taken=(409,))
        with _reading_json():
            said = answer.json() if answer.content else {}
            failed = {
                str(first_value(item, "00081155")): int(first_value(item, _FAILURE_REASON) or 0)
                for item in said.get(_FAILED_SOP_SEQUENCE, {}).get("Value", [])
            }
        if answer.status_code == 409 and not failed:
            raise Rejected("archive: expected it to store, got 409 without a reason")
        return failed

    def call(
        self, method: str, path: str, *, taken: Sequence[int] = (), **more: Any
    ) -> httpx.Response:
        """Any request; `taken` are statuses beside Success that are the caller's to judge.

        Raises:
            ArchiveUnavailable: no answer, or one that asks for another try.
            Rejected: any other answer.
        """
        try:
            answer = self._http.request(method, self._base_url + path, **more)
        except httpx.HTTPError as error:
            raise ArchiveUnavailable(
                f"{self._called}: expected an answer over DICOMweb, got {type(error).__name__}"
            ) from error
        if answer.is_success or answer.status_code in taken:
            return answer
        said = f"{self._called}: expected Success over DICOMweb, got {answer.status_code}"
        # 401: credentials can be put right, and what is to do waits for that.
        if answer.status_code in (401, 408, 425, 429) or answer.status_code >= 500:
            raise ArchiveUnavailable(said)
        raise Rejected(said)


class DicomwebDestination:
    """One DICOMweb archive that results are stored in."""

    def __init__(self, name: str, web: Dicomweb, maker: ObjectMaker, outbox: Outbox) -> None:
        self._name = name
        self._web = web
        self._maker = maker
        self._outbox = outbox

    def send(self, parcel: Parcel) -> str:
        """Stores every object: 3D SR, or the older class where the archive takes no 3D."""
        objects = self._maker.pictures(parcel)
        if isinstance(parcel, Result) and Kind.SR in self._maker.kinds(parcel):
            objects.insert(0, self._maker.report(parcel, three_d=True))
        failed = self._store(parcel, objects)
        if isinstance(parcel, Result) and _SOP_CLASS_NOT_SUPPORTED in failed.values():
            older = self._maker.report(parcel, three_d=False)
            if failed.get(str(older.SOPInstanceUID)) == _SOP_CLASS_NOT_SUPPORTED:
                objects[0] = older
                failed = self._store(parcel, objects)
        reasons = {reason for reason in failed.values() if reason != _DUPLICATE}
        if any(reason & 0xFF00 == 0xA700 for reason in reasons):
            raise ArchiveUnavailable("archive: expected it to store, got no room (A7xx)")
        if reasons:
            raise Rejected(
                f"archive: expected it to store {len(objects)} objects, got failure reasons "
                f"{', '.join(sorted(f'{r:04X}' for r in reasons))}"
            )
        return describe(objects)

    def _store(self, parcel: Parcel, objects: Sequence[Dataset]) -> dict[str, int]:
        study = parcel.study.study_instance_uid
        self._outbox.note_own(study, self._name, parcel.key, own_objects(objects))
        return self._web.store(study, objects)

    def confirm(self, parcel: Parcel) -> str:
        """Reads the SOP Instance UIDs of our series back."""
        own = self._outbox.sent_objects(self._name, parcel.key)
        missing = {one.sop_instance_uid for one in own}
        for series in {one.series_instance_uid for one in own}:
            path = f"/studies/{parcel.study.study_instance_uid}/series/{series}/instances"
            found = self._web.search(path, {})
            with _reading_json():
                missing -= {first_value(match, _SOP_INSTANCE_UID) for match in found}
        if missing or not own:
            raise ArchiveUnavailable(
                f"archive: expected it to hold {len(own)} objects, got an answer without "
                f"{len(missing)} of them"
            )
        return f"the archive answers that it holds {len(own)} objects"


def first_value(item: Mapping[str, Any], tag: str) -> Any:
    """The first value of an attribute in DICOM JSON (PS3.18 F.2), or None."""
    values = item.get(tag, {}).get("Value") or [None]
    return values[0]


def _reading_json() -> AbstractContextManager[None]:
    return refusing("archive: expected DICOM JSON", ArchiveUnavailable)


def _encoded(one: Dataset) -> bytes:
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    one.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
