"""Bad input: a clear error, a visible state, and nothing lost."""

import json
import shutil
import socket
import struct
from io import BytesIO

import pydicom
import pytest
from pydicom.uid import EncapsulatedPDFStorage

from bonetumor.domain.progress import StudyState
from bonetumor.domain.uid import derived_uid
from bonetumor.weights.bundle import synthetic_bundle
from kit import studies
from kit.faults import FaultProxy
from kit.plugin import Plugin, storescu
from kit.servers import FhirServer, Orthanc, wait_until
from kit.site import associate_request, command_of, p_data, read_pdu, store_bytes


@pytest.fixture(scope="module")
def plugin(tmp_path_factory, orthanc, fhir_server):
    with Plugin(
        tmp_path_factory.mktemp("plugin"), archive=orthanc, ehr=fhir_server
    ).up() as running:
        fhir_server.load(studies.record(300))
        yield running


def _image(key: str):
    """Patient 300's image under UIDs of its own."""
    image = studies.dataset(300)
    image.StudyInstanceUID = derived_uid("bad", key, "study")
    image.SOPInstanceUID = derived_uid("bad", key, "instance")
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def _send(plugin, image, folder):
    path = folder / "bad.dcm"
    image.save_as(path, enforce_file_format=True)
    storescu(plugin.port, path)
    return str(image.StudyInstanceUID)


def _said(plugin, study) -> str:
    """What `bonetumor status` shows as the study's problem."""
    rows = json.loads(plugin.command("status", "--json").stdout)
    return next(r["problem"] for r in rows if r["study_instance_uid"] == study)


def test_what_is_not_dicom_is_refused_and_visible(plugin):
    """A C-STORE whose data set is garbage: C000, a line in status, nothing stored."""
    image = _image("garbage")
    command = command_of(store_bytes(image))
    with socket.create_connection(("127.0.0.1", plugin.port), timeout=10) as sock:
        sock.sendall(associate_request())
        read_pdu(sock)
        sock.sendall(command + p_data(b"This is not DICOM." * 50, 0x02))
        answer = read_pdu(sock)
    assert struct.pack("<HHLH", 0, 0x0900, 2, 0xC000) in answer
    rows = json.loads(plugin.command("status", "--refused", "--json").stdout)
    [row] = [r for r in rows if r["sop_instance_uid"] == image.SOPInstanceUID]
    assert row["problem"].startswith("NotDicom: data set: expected")
    assert plugin.state(str(image.StudyInstanceUID)) is None


def test_an_image_without_pixel_data_fails_visibly(plugin, tmp_path):
    image = _image("no pixels")
    del image.PixelData
    study = _send(plugin, image, tmp_path)
    assert plugin.wait(study) is StudyState.FAILED
    assert "CorruptPixelData: pixel data: expected element (7FE0,0010), got none" in _said(
        plugin, study
    )


def test_truncated_pixel_data_fails_visibly(plugin, tmp_path):
    image = _image("truncated")
    image.PixelData = image.PixelData[:1000]
    study = _send(plugin, image, tmp_path)
    assert plugin.wait(study) is StudyState.FAILED
    assert "CorruptPixelData: pixel data: expected 1 frame(s)" in _said(plugin, study)


def test_a_study_without_an_image_fails_visibly(plugin, tmp_path):
    document = _image("pdf")
    for element in [*document.group_dataset(0x0028), document["PixelData"]]:
        del document[element.tag]
    document.SOPClassUID = document.file_meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
    document.Modality = "DOC"
    study = _send(plugin, document, tmp_path)
    assert plugin.wait(study) is StudyState.FAILED
    assert "UnsupportedImage: study: expected at least one radiograph" in _said(plugin, study)


def test_an_unknown_patient_is_held_and_runs_once_the_ehr_knows_it(
    plugin, tmp_path, fhir_server, orthanc
):
    study = _send(plugin, studies.dataset(301), tmp_path)
    assert plugin.wait(study) is StudyState.HELD
    assert "PatientNotMatched: patient: expected exactly one in the EHR, got 0" in _said(
        plugin, study
    )
    fhir_server.load(studies.record(301))
    assert plugin.command("replay", study).returncode == 0
    assert plugin.wait(study, StudyState.DONE) is StudyState.DONE
    assert len(orthanc.structured_reports(study)) == 1


def test_another_birth_date_is_held(plugin, tmp_path):
    image = _image("birth date")
    image.PatientBirthDate = "19000101"
    study = _send(plugin, image, tmp_path)
    assert plugin.wait(study) is StudyState.HELD
    assert "expected the birth date of the images" in _said(plugin, study)


def test_other_bytes_under_a_known_uid_are_refused_and_noted(plugin, tmp_path):
    image = _image("conflict")
    study = _send(plugin, image, tmp_path)
    plugin.wait(study)
    image.PixelData = bytes(len(image.PixelData))
    image.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    answer = storescu(plugin.port, tmp_path / "other.dcm", check=False)
    assert "Error: CannotUnderstand" in answer.stdout + answer.stderr
    kinds = [e.kind for e in plugin.ledger.story(study)]
    assert "conflict" in kinds
    assert plugin.ledger.study(study).instances[0].size > 0


def test_a_late_image_makes_one_superseding_result(plugin, tmp_path, orthanc):
    image = _image("late")
    study = _send(plugin, image, tmp_path)
    assert plugin.wait(study) is StudyState.DONE, plugin.problem(study)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = derived_uid(
        "bad", "late", "2"
    )
    _send(plugin, image, tmp_path)
    plugin.wait(study, StudyState.RECEIVING, StudyState.COMPLETE, StudyState.GATHERED)
    assert plugin.wait(study) is StudyState.DONE
    reports = [pydicom.dcmread(BytesIO(r)) for r in orthanc.structured_reports(study)]
    newest = [r for r in reports if "PredecessorDocumentsSequence" in r]
    assert (len(reports), len(newest)) == (2, 1)


def test_a_fhir_server_that_is_down_is_waited_for(tmp_path, orthanc, fhir_server):
    fhir_server.load(studies.record(302))
    down = FhirServer(tmp_path / "down")  # a port where nobody listens yet
    plugin = Plugin(tmp_path / "plugin", archive=orthanc, ehr=down)
    files = studies.write(tmp_path / "study", 302)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    with plugin.up():
        storescu(plugin.port, *files)
        plugin.wait(study, StudyState.COMPLETE)
        wait_until(lambda: plugin.problem(study), 30, "a problem in status")
        assert "FhirUnavailable: FHIR" in _said(plugin, study)
        assert "FAIL ehr" in plugin.command("doctor").stdout
        # A server that is back has its patients from the first moment.
        with FaultProxy(fhir_server.port, down.port):
            assert plugin.wait(study) is StudyState.DONE


def test_an_archive_that_is_down_is_waited_for(tmp_path):
    archive = Orthanc(tmp_path / "orthanc")
    plugin = Plugin(tmp_path / "plugin", archive=archive)
    files = studies.write(tmp_path / "study", 303)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    with plugin.up():
        storescu(plugin.port, *files)
        plugin.wait(study, StudyState.DELIVERING)
        wait_until(lambda: plugin.problem(study), 30, "a problem in status")
        assert "ArchiveUnavailable" in _said(plugin, study)
        with archive.up():
            assert plugin.wait(study) is StudyState.DONE
            assert len(archive.structured_reports(study)) == 1


def test_weights_that_do_not_match_their_hash_stop_assessing_and_lose_nothing(tmp_path, orthanc):
    bundle = tmp_path / "bundle"
    shutil.copytree(synthetic_bundle(), bundle)
    weights = bundle / "detector.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    plugin = Plugin(tmp_path / "plugin", archive=orthanc, BONETUMOR_MODEL__BUNDLE=str(bundle))
    files = studies.write(tmp_path / "study", 304)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    with plugin.up():
        storescu(plugin.port, *files)
        assert plugin.wait(study, seconds=180) is StudyState.FAILED
        assert "WeightsMismatch: weights: expected SHA-256" in _said(plugin, study)
        checked = plugin.command("doctor")
        assert checked.returncode == 1
        assert "FAIL weights" in checked.stdout
        assert "WeightsMismatch: weights: expected SHA-256" in checked.stdout
        weights.write_bytes(good)
        assert "1 of 1 stopped studies run again" in plugin.command("replay", "--all").stdout
        assert plugin.wait(study, StudyState.DONE) is StudyState.DONE
