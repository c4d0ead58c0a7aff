"""A small modality: sends DICOM files as a PACS would."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification

from bonetumor.domain.errors import ArchiveUnavailable

_MAX_CONTEXTS = 128


def echo(host: str, port: int, ae_title: str) -> bool:
    """Whether a C-ECHO is answered with Success."""
    entity = AE(ae_title="SENDER")
    entity.add_requested_context(Verification)
    association = entity.associate(host, port, ae_title=ae_title)
    if not association.is_established:
        return False
    status = association.send_c_echo().get("Status")
    association.release()
    return bool(status == 0x0000)


def send_files(
    files: Sequence[Path], host: str, port: int, ae_title: str
) -> Iterator[tuple[Path, int | None]]:
    """C-STORE of every file in the transfer syntax it has, over one association.

    Yields each file with the status of its answer, None where there was no answer.

    Raises:
        ArchiveUnavailable: no association.
    """
    entity = AE(ae_title="SENDER")
    pairs = {_syntaxes(path) for path in files}
    entity.requested_contexts = [build_context(a, t) for a, t in sorted(pairs)][:_MAX_CONTEXTS]
    association = entity.associate(host, port, ae_title=ae_title)
    if not association.is_established:
        raise ArchiveUnavailable(f"sending: expected an association with {ae_title}, got none")
    try:
        for path in files:
            # The path form sends the stored bytes as they are, without decoding them.
            yield path, association.send_c_store(path).get("Status")
    finally:
        association.release()


def _syntaxes(path: Path) -> tuple[str, str]:
    dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    return str(dataset.SOPClassUID), str(dataset.file_meta.TransferSyntaxUID)
