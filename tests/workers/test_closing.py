"""Studies that have arrived, before the site's rules, when the rules cannot ask them."""

import pydicom
import pytest

from bonetumor.dicom.archive import keep
from bonetumor.domain.errors import StorageUnavailable
from bonetumor.domain.progress import StudyState
from bonetumor.service.complete import Arrived, close_complete_studies
from bonetumor.service.intake import Intake
from bonetumor.service.ports import Announced
from bonetumor.worker.settings import Settings
from bonetumor.worker.wiring import build_closing, build_ledger, build_spool, now
from kit import studies

PROOF = Arrived("complete, 1 of 1 instances, as the archive counts", is_proven=True)


class Complete:
    """Every study that is receiving is complete."""

    def __init__(self, ledger):
        self._ledger = ledger

    def complete(self):
        return iter([(receiving, PROOF) for receiving in self._ledger.receiving()])


@pytest.fixture
def site(tmp_path):
    settings = Settings(folder=tmp_path / "home", rules=[{"when": "modality = DX"}])
    ledger = build_ledger(settings)
    yield settings, ledger, build_spool(settings)
    ledger.close()


def received(site, folder, number):
    """A study of one image that has been received; its file in the spool."""
    _, ledger, spool = site
    [path] = studies.write(folder / str(number), number)
    image = pydicom.dcmread(path)
    data = path.read_bytes()[132 + 12 + image.file_meta.FileMetaInformationGroupLength :]
    announced = Announced(
        sop_class_uid=image.SOPClassUID,
        sop_instance_uid=image.SOPInstanceUID,
        transfer_syntax_uid=image.file_meta.TransferSyntaxUID,
        calling_ae_title="PACS",
    )
    intake = Intake(inbox=spool, ledger=ledger, clock=now)
    assert keep(intake, announced, memoryview(data)) == 0x0000
    [instance] = ledger.study(image.StudyInstanceUID).instances
    return image.StudyInstanceUID, spool.path(instance)


def test_a_study_that_no_rule_can_ask_is_held_and_the_others_go_on(site, tmp_path):
    settings, ledger, _ = site
    first, *others = (received(site, tmp_path, number) for number in (450, 451, 452))
    first[1].write_bytes(b"no longer DICOM")
    closed = close_complete_studies(Complete(ledger), build_closing(settings, ledger))
    assert closed == 3
    held = ledger.one(first[0])
    assert held.state is StudyState.HELD
    assert "no rule can say whether the study is for us" in held.problem
    assert {ledger.one(uid).state for uid, _ in others} == {StudyState.COMPLETE}


def test_a_file_that_is_missing_is_asked_for_again_and_the_others_go_on(site, tmp_path):
    settings, ledger, _ = site
    uids = []
    for number in (453, 454, 455):
        uid, path = received(site, tmp_path, number)
        uids.append(uid)
    path.unlink()
    close = build_closing(settings, ledger)
    with pytest.raises(StorageUnavailable, match="got no file"):
        close_complete_studies(Complete(ledger), close)
    assert [ledger.one(uid).state for uid in uids] == [
        StudyState.COMPLETE,
        StudyState.COMPLETE,
        StudyState.RECEIVING,
    ]
