"""The listener facing ordinary peers: stock pynetdicom and DCMTK."""

import hashlib
import subprocess
from io import BytesIO

import pydicom
import pytest
from pydicom.uid import (
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AllStoragePresentationContexts, build_context
from pynetdicom.sop_class import CTImageStorage

from bonetumor.domain.errors import StorageUnavailable
from bonetumor.service.ledger import OwnObject
from kit import studies
from kit.plugin import storescu
from kit.servers import need
from kit.site import dx_context, send


def test_echo_from_a_stock_peer(site):
    association = site.associate()
    assert association.send_c_echo().Status == 0x0000
    association.release()
    assert association.is_released


def test_every_storage_class_is_accepted_in_every_transfer_syntax(site):
    pairs = [
        (context.abstract_syntax, syntax)
        for context in AllStoragePresentationContexts
        for syntax in AllTransferSyntaxes
    ]
    for start in range(0, len(pairs), 128):
        wanted = pairs[start : start + 128]
        association = site.associate(*(build_context(a, t) for a, t in wanted))
        accepted = [
            (c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts
        ]
        assert accepted == wanted
        association.release()


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless],
)
def test_an_instance_is_stored_byte_for_byte(site, tmp_path, syntax):
    image = studies.dataset(10)
    if syntax.is_compressed:
        image.compress(syntax, generate_instance_uid=False)
    else:
        image.file_meta.TransferSyntaxUID = syntax
    path = tmp_path / "sent.dcm"
    image.save_as(path, enforce_file_format=True)
    association = site.associate(dx_context(syntax))
    assert association.send_c_store(path).Status == 0x0000  # the path form sends stored bytes
    association.release()
    [stored] = site.stored()
    assert _data_set_bytes(stored) == _data_set_bytes(path)
    assert pydicom.dcmread(stored).file_meta.TransferSyntaxUID == syntax
    [instance] = site.ledger.study(str(image.StudyInstanceUID)).instances
    assert instance.sha256 == hashlib.sha256(_data_set_bytes(stored)).hexdigest()
    assert instance.size == len(_data_set_bytes(stored))
    assert not site.temporary_files()


def _data_set_bytes(path) -> bytes:
    data = path.read_bytes()
    meta = pydicom.dcmread(path, stop_before_pixels=True).file_meta
    return data[132 + 12 + meta.FileMetaInformationGroupLength :]


@pytest.mark.parametrize(
    ("syntax", "option"), [(ExplicitVRBigEndian, "+tb"), (DeflatedExplicitVRLittleEndian, "+td")]
)
def test_rarer_syntaxes_are_understood(site, tmp_path, syntax, option):
    [path] = studies.write(tmp_path, 11)
    converted = tmp_path / "converted.dcm"
    subprocess.run([need("dcmconv"), option, str(path), str(converted)], check=True)
    association = site.associate(dx_context(syntax))
    assert association.send_c_store(converted).Status == 0x0000
    association.release()
    [stored] = site.stored()
    # pynetdicom pads an odd deflated stream by a null byte before it sends it.
    assert _data_set_bytes(stored).rstrip(b"\0") == _data_set_bytes(converted).rstrip(b"\0")


def test_dcmtk_sends_with_small_pdus(site, tmp_path):
    files = studies.write(tmp_path, 12, images=3)
    storescu(site.port, *files)
    assert len(site.stored()) == 3


def test_the_same_instance_again_is_success_and_stored_once(site):
    image = studies.dataset(13)
    assert [send(site, image), send(site, image)] == [0x0000, 0x0000]
    assert len(site.stored()) == 1


def test_other_bytes_under_a_known_uid_are_refused_and_the_first_kept(site):
    image = studies.dataset(14)
    assert send(site, image) == 0x0000
    [stored] = site.stored()
    before = stored.read_bytes()
    image.PixelData = bytes(len(image.PixelData))
    assert send(site, image) == 0xC001
    assert site.stored() == [stored]
    assert stored.read_bytes() == before
    assert "conflict" in [e.kind for e in site.ledger.story(str(image.StudyInstanceUID))]


def test_an_unknown_service_is_answered_not_hung(site):
    association = site.associate(dx_context())
    from pynetdicom.dimse_primitives import C_FIND

    request = C_FIND()
    request.MessageID = 7
    request.AffectedSOPClassUID = DigitalXRayImageStorageForPresentation
    request.Priority = 2
    request.Identifier = BytesIO(bytes.fromhex("0800050002000000 4353".replace(" ", "")))
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    assert response.Status == 0x0211


def test_a_full_disk_is_a700_and_no_false_success(site, monkeypatch):
    def full(*_):
        raise StorageUnavailable("spool: expected at least 1 free bytes, got 0")

    monkeypatch.setattr(site.spool, "open", full)
    assert send(site, studies.dataset(19)) == 0xA700
    monkeypatch.undo()
    assert send(site, studies.dataset(19)) == 0x0000


def test_a_context_of_another_class_is_a_mismatch(site):
    association = site.associate(build_context(CTImageStorage, ExplicitVRLittleEndian))
    image = studies.dataset(22)
    with pytest.raises(ValueError, match="presentation context"):
        association.send_c_store(image)
    association.release()


def test_an_object_of_ours_that_comes_back_is_success_and_not_kept(site):
    ours, first = studies.dataset(15), studies.dataset(15)
    first.SOPInstanceUID = first.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    assert send(site, first) == 0x0000
    site.ledger.note_own(
        str(ours.StudyInstanceUID),
        "pacs",
        "k" * 64,
        [
            OwnObject(
                sop_instance_uid=str(ours.SOPInstanceUID),
                sop_class_uid=str(ours.SOPClassUID),
                study_instance_uid=str(ours.StudyInstanceUID),
                series_instance_uid=str(ours.SeriesInstanceUID),
            )
        ],
    )
    before = site.stored()
    assert send(site, ours) == 0x0000
    assert site.stored() == before
