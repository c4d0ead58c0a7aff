"""Blood and pathology that come after the images, people who decide, and reports that are read."""

import json
from io import BytesIO

import httpx
import pydicom
import pytest

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.plugin import Plugin, storescu
from kit.servers import free_port, wait_until


def only(record, *kinds):
    """A part of what the EHR holds of a phantom patient."""
    return {"entry": [e for e in record["entry"] if e["resource"]["resourceType"] in kinds]}


def load(fhir_server, record, patient=None):
    """Loads a part; `patient` is where the Patient lies already."""
    text = json.dumps(record)
    if patient is not None:
        number = record["entry"][0]["resource"]["subject"]["reference"]
        text = text.replace(number, patient)
    fhir_server.load(json.loads(text))


def of_known_patient(number, folder, fhir_server):
    """An image of a patient of whom the EHR knows no more than who it is."""
    load(fhir_server, only(studies.record(number), "Patient"))
    [file] = studies.write(folder / "study", number)
    return file, str(pydicom.dcmread(file).StudyInstanceUID)


def report_of(fhir_server, study):
    [imaging] = fhir_server.search("ImagingStudy", identifier=f"urn:dicom:uid|urn:oid:{study}")
    return [
        r
        for r in fhir_server.search("DiagnosticReport", _count="200")
        if any(s["reference"] == f"ImagingStudy/{imaging['id']}" for s in r.get("imagingStudy", []))
    ]


def test_late_blood_makes_one_superseding_sr_and_amends_the_report(tmp_path, orthanc, fhir_server):
    file, study = of_known_patient(21, tmp_path, fhir_server)
    plugin = Plugin(
        tmp_path / "plugin",
        archive=orthanc,
        ehr=fhir_server,
        BONETUMOR_EHR__POLL_S="1",
        BONETUMOR_EHR__WATCH_HOURS="1",
    )
    with plugin.up():
        storescu(plugin.port, file)
        assert plugin.wait(study) is StudyState.DONE, plugin.problem(study)
        [first] = report_of(fhir_server, study)
        assert "missing: pathology, labs" in first["conclusion"]

        load(fhir_server, only(studies.record(21), "Observation"), first["subject"]["reference"])
        wait_until(lambda: _revision(plugin, study) == 2, 60, "a second revision")
        assert plugin.wait(study) is StudyState.DONE, plugin.problem(study)
        [second] = report_of(fhir_server, study)
        assert second["id"] == first["id"]
        assert second["status"] == "amended"
        assert "pathology, labs" not in second["conclusion"]

        reports = [pydicom.dcmread(BytesIO(b)) for b in orthanc.structured_reports(study)]
        assert len(reports) == 2
        [newer] = [r for r in reports if "PredecessorDocumentsSequence" in r]
        [older] = [r for r in reports if r is not newer]
        assert str(older.SOPInstanceUID) in str(newer.PredecessorDocumentsSequence[0])
        assert _tracking(older) == _tracking(newer)

        told = plugin.command("status", study, "--json").stdout
        assert "blood markers arrived" in told
        # Nothing more comes of the same evidence.
        before, due = plugin.ledger.story(study), _next_look(plugin, study)
        wait_until(lambda: (_next_look(plugin, study) or due) > due, 30, "another look")
        assert plugin.ledger.story(study) == before
        assert _revision(plugin, study) == 2

        withdrawn = plugin.command(
            "ehr", "withdraw", study, "--reason", "wrong patient", "--by", "dr"
        )
        assert withdrawn.returncode == 0, withdrawn.stderr
        [report] = report_of(fhir_server, study)
        assert report["status"] == "entered-in-error"
        assert _next_look(plugin, study) is None
        assert "wrong patient" in plugin.command("status", study, "--json").stdout


def test_a_result_may_wait_for_evidence_and_says_so(tmp_path, orthanc, fhir_server):
    file, study = of_known_patient(22, tmp_path, fhir_server)
    plugin = Plugin(
        tmp_path / "plugin",
        archive=orthanc,
        ehr=fhir_server,
        BONETUMOR_EHR__POLL_S="1",
        BONETUMOR_EHR__WAIT_S="20",  # longer than a worker takes to start
    )
    with plugin.up():
        storescu(plugin.port, file)
        wait_until(lambda: "waits at most" in (plugin.problem(study) or ""), 30, "waiting")
        assert plugin.wait(study) is StudyState.DONE, plugin.problem(study)
    told = [e.detail for e in plugin.ledger.story(study) if e.kind == "put_off"]
    assert "expected blood and pathology, got none yet" in told[0]


def test_a_person_releases_a_held_case_for_the_patient_they_name(tmp_path, orthanc, fhir_server):
    number = 23
    record = only(studies.record(number), "Patient")
    record["entry"][0]["resource"]["birthDate"] = "1901-01-01"
    load(fhir_server, record)
    identifier = record["entry"][0]["resource"]["identifier"][0]
    [there] = fhir_server.search(
        "Patient", identifier=f"{identifier['system']}|{identifier['value']}"
    )
    files = studies.write(tmp_path / "study", number)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    web = {
        "BONETUMOR_WEB__PORT": str(free_port()),
        "BONETUMOR_WEB__TOKEN": "site",
        "BONETUMOR_EHR__WRITE": "none",
    }
    plugin = Plugin(tmp_path / "plugin", archive=orthanc, ehr=fhir_server, **web)
    with plugin.up():
        storescu(plugin.port, *files)
        assert plugin.wait(study) is StudyState.HELD
        assert "birth date" in plugin.command("cases", "list").stdout
        wrong = plugin.command("cases", "release", study, "--reason", "x", "--patient", "Peter")
        assert wrong.returncode == 2
        assert "expected --patient Patient/ID" in wrong.stderr
        released = plugin.command(
            "cases", "release", study, "--reason", "date mistyped", "--by", "dr", "--patient",
            f"Patient/{there['id']}",
        )  # fmt: skip
        assert released.returncode == 0, released.stderr
        assert plugin.wait(study, StudyState.DONE, StudyState.FAILED) is StudyState.DONE
        told = plugin.command("status", study, "--json").stdout
        assert "date mistyped" in told
        assert plugin.command("cases", "reject", study, "--reason", "x").returncode == 2

        # Nothing was written to the EHR; the report is read from us.
        assert not fhir_server.search("DiagnosticReport", patient=there["id"])
        base = f"http://127.0.0.1:{web['BONETUMOR_WEB__PORT']}/fhir"
        wait_until(lambda: _answers(f"{base}/metadata"), 30, "read API")
        assert httpx.get(f"{base}/DiagnosticReport").status_code == 401
        page = httpx.get(
            f"{base}/DiagnosticReport?patient={there['id']}",
            headers={"Authorization": "Bearer site"},
        ).json()
        [report] = [e["resource"] for e in page["entry"]]
        assert "chosen by a person" in report["conclusion"]


@pytest.fixture
def stopped(tmp_path, fhir_server):
    """A plugin with a study that is held because the EHR does not know the patient."""
    files = studies.write(tmp_path / "study", 24, images=2)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    plugin = Plugin(tmp_path / "plugin", ehr=fhir_server)
    with plugin.up():
        storescu(plugin.port, files[0])
        assert plugin.wait(study) is StudyState.HELD
        yield plugin, study, files


def test_a_rejected_case_stays_rejected_whatever_comes_late(stopped):
    plugin, study, files = stopped
    rejected = plugin.command("cases", "reject", study, "--reason", "test images", "--by", "dr")
    assert rejected.returncode == 0, rejected.stderr
    assert plugin.state(study) is StudyState.REJECTED
    storescu(plugin.port, files[1])
    wait_until(lambda: _revision(plugin, study) == 2, 30, "the late image")
    assert plugin.state(study) is StudyState.REJECTED
    assert "late instance" in plugin.command("status", study, "--json").stdout
    assert plugin.command("replay", study).returncode == 2


def _tracking(report):
    """Tracking Unique Identifiers of the lesions."""
    return {
        str(element.value)
        for element in report.iterall()
        if element.keyword == "UID" and str(element.value).startswith("2.25.")
    }


def _revision(plugin, study):
    [row] = [p for p in plugin.ledger.progress() if p.study_instance_uid == study]
    return row.revision


def _next_look(plugin, study):
    [row] = [p for p in plugin.ledger.progress() if p.study_instance_uid == study]
    return row.next_attempt_at


def _answers(url):
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False
