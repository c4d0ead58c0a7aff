"""From C-STORE to SR and DiagnosticReport, over real parts."""

import json
import subprocess
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from bonetumor.dicom.presentation import present
from bonetumor.dicom.sr import structured_report
from bonetumor.domain.progress import StudyState
from bonetumor.weights.installed import synthetic_bundle
from bonetumor.worker import wiring
from bonetumor.worker.settings import Settings
from bonetumor.worker.thinking import build_model
from kit import studies
from kit.plugin import Plugin, storescu
from kit.servers import need
from kit.validators import dciodvfy

PIXELMED = [
    "java",
    "-Djdk.xml.xpathExprGrpLimit=0",
    "-Djdk.xml.xpathExprOpLimit=0",
    "-Djdk.xml.xpathTotalOpLimit=0",
    "-cp",
    "/usr/share/java/pixelmed.jar",
    "com.pixelmed.validate.DicomSRValidator",
]


@pytest.fixture(scope="module")
def journey(tmp_path_factory, orthanc, fhir_server):
    """One study of two images, sent by DCMTK and walked to the end."""
    folder = tmp_path_factory.mktemp("journey")
    fhir_server.load(studies.record(3))
    files = studies.write(folder / "study", 3, images=2)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    plugin = Plugin(folder / "plugin", archive=orthanc, ehr=fhir_server)
    with plugin.up():
        storescu(plugin.port, *files)
        assert plugin.wait(study) is StudyState.DONE, plugin.problem(study)
        yield plugin, study, files


@pytest.fixture(scope="module")
def expected(journey):
    """What the detector itself says of each image, without the plugin in between."""
    model = build_model(Settings(model={"bundle": synthetic_bundle()}))
    return {
        str(image.reference.sop_instance_uid): model.detector.detect(image).detections
        for path in journey[2]
        for image in present(pydicom.dcmread(path))
    }


@pytest.fixture(scope="module")
def report(journey, orthanc):
    found = orthanc.structured_reports(journey[1])
    assert len(found) == 1
    return pydicom.dcmread(BytesIO(found[0]))


@pytest.fixture(scope="module")
def report_file(report, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sr") / "sr.dcm"
    report.save_as(path)
    return path


def test_every_box_in_the_archived_sr_is_the_detectors_to_the_pixel(report, expected):
    assert any(expected.values()), "the synthetic study shows a tumour that the detector finds"
    assert _close(_sr_boxes(report), _boxes(expected), 0.01)


def test_every_box_in_the_fhir_server_is_the_detectors(journey, fhir_server, expected):
    diagnostic = _reports(journey, fhir_server)[0]
    observations = [
        fhir_server.search("Observation", _id=r["reference"].split("/")[1])[0]
        for r in diagnostic["result"]
    ]
    found = sorted(
        (parts["sop-instance-uid"], *map(float, parts["box"].split(",")))
        for parts in map(_components, observations)
        if "box" in parts
    )
    assert _close(found, _boxes(expected), 1e-9)


def test_the_report_says_what_it_is_and_what_it_used(journey, fhir_server, report):
    diagnostic = _reports(journey, fhir_server)[0]
    assert diagnostic["status"] == "preliminary"
    assert diagnostic["conclusion"].startswith("PRELIMINARY AI OUTPUT")
    assert "synthetic" in diagnostic["conclusion"]
    assert "Evidence used: image, pathology, labs" in diagnostic["conclusion"]
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    assert report.ContributingEquipmentSequence[0].DeviceUID
    assert len(fhir_server.search("Provenance", target=f"DiagnosticReport/{diagnostic['id']}")) == 1


@pytest.mark.parametrize("three_d", [True, False])
@pytest.mark.parametrize("lesions", [True, False])
def test_validators_find_no_error_in_the_sr(journey, tmp_path, three_d, lesions):
    """3D and 2D, with lesions and without: dciodvfy, PixelMed and dsrdump."""
    path = tmp_path / "sr.dcm"
    _rebuilt(journey, three_d=three_d, lesions=lesions).save_as(path, enforce_file_format=True)
    _validate(path)


def test_validators_find_no_error_in_what_the_archive_holds(report_file):
    _validate(report_file)


def test_the_same_result_is_the_same_bytes(journey, tmp_path):
    first, second = tmp_path / "1.dcm", tmp_path / "2.dcm"
    _rebuilt(journey).save_as(first, enforce_file_format=True)
    _rebuilt(journey).save_as(second, enforce_file_format=True)
    assert first.read_bytes() == second.read_bytes()


def test_sending_the_study_again_changes_nothing(journey, orthanc, fhir_server):
    plugin, study, files = journey
    before = plugin.ledger.story(study)
    storescu(plugin.port, *files)
    assert plugin.ledger.story(study) == before
    assert plugin.state(study) is StudyState.DONE
    assert len(orthanc.structured_reports(study)) == 1
    assert len(_reports(journey, fhir_server)) == 1


def test_status_and_doctor_speak_plainly(journey):
    plugin, study, _ = journey
    rows = json.loads(plugin.command("status", "--json").stdout)
    assert [r["state"] for r in rows if r["study_instance_uid"] == study] == ["done"]
    assert "confirmed" in plugin.command("status", study, "--json").stdout
    checked = plugin.command("doctor")
    assert checked.returncode == 0, checked.stdout
    assert "Everything is well" in checked.stdout


def test_logs_hold_no_patient_data(journey):
    plugin, _, files = journey
    image = pydicom.dcmread(files[0])
    for secret in (image.PatientID, "Phantom^", image.PatientBirthDate, image.AccessionNumber):
        assert str(secret) not in plugin.logs()


def _reports(journey, fhir_server) -> list[dict]:
    study = f"urn:oid:{journey[1]}"
    [imaging] = fhir_server.search("ImagingStudy", identifier=f"urn:dicom:uid|{study}")
    return [
        r
        for r in fhir_server.search("DiagnosticReport", _count="100")
        if any(s["reference"] == f"ImagingStudy/{imaging['id']}" for s in r.get("imagingStudy", []))
    ]


def _components(observation: dict) -> dict[str, str]:
    return {
        c["code"]["coding"][0]["code"]: c.get("valueString", "")
        for c in observation.get("component", [])
    }


def _boxes(expected) -> list[tuple]:
    return sorted((uid, *d.box.as_tuple()) for uid, found in expected.items() for d in found)


def _sr_boxes(report) -> list[tuple]:
    boxes = []
    for item in _walk(report):
        if item.get("ValueType") == "SCOORD" and item.RelationshipType == "CONTAINS":
            xs, ys = item.GraphicData[0::2], item.GraphicData[1::2]
            reference = item.ContentSequence[0].ReferencedSOPSequence[0]
            boxes.append((reference.ReferencedSOPInstanceUID, min(xs), min(ys), max(xs), max(ys)))
    return sorted(boxes)


def _walk(item):
    for child in item.get("ContentSequence", []):
        yield child
        yield from _walk(child)


def _close(found, wanted, tolerance) -> bool:
    assert [f[0] for f in found] == [w[0] for w in wanted]
    return all(
        abs(a - b) <= tolerance
        for f, w in zip(found, wanted, strict=True)
        for a, b in zip(f[1:], w[1:], strict=True)
    )


def _rebuilt(journey, *, three_d: bool = True, lesions: bool = True):
    """The result of the journey again, as the archive adapter makes it."""
    from dataclasses import replace

    from bonetumor.domain.progress import Claim, Errand, Step
    from bonetumor.service.ports import Result

    plugin, uid, _ = journey
    claim = Claim(
        errand=Errand(study_instance_uid=uid, step=Step.SEND),
        revision=1,
        owner="",
        attempt=0,
        put_offs=0,
        expires_at=wiring.now(),
    )
    reader = wiring.build_studies(Settings(folder=plugin.folder))
    study, assessment = plugin.ledger.study(uid), plugin.ledger.assessment(claim)
    if not lesions:
        assessment = replace(assessment, lesions=())
    result = Result(
        study=study,
        header=reader.header(study),
        evidence=plugin.ledger.evidence(claim),
        assessment=assessment,
        predecessor=None,
    )
    return structured_report(result, reader.image_datasets(study), three_d=three_d)


def _validate(path: Path) -> None:
    said = dciodvfy(path)
    assert "Error" not in said, said
    need("java")
    checked = subprocess.run([*PIXELMED, str(path)], capture_output=True, text=True, check=False)
    said = checked.stdout + checked.stderr
    assert "IOD validation complete" in said
    assert "Root Template TID_1500" in said
    assert "Error" not in said, said
    assert "Exception" not in said, said
    subprocess.run([need("dsrdump"), "+Pl", str(path)], check=True, capture_output=True)
