"""SIGKILL to the whole process tree between any two steps: one SR, one DiagnosticReport."""

import sqlite3
import time

import pydicom
import pytest

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.plugin import Plugin, storescu

WALK = [
    StudyState.RECEIVING,
    StudyState.COMPLETE,
    StudyState.GATHERED,
    StudyState.ASSESSED,
    StudyState.DELIVERING,
]
TRIES = 6


@pytest.mark.parametrize("state", WALK)
def test_a_kill_between_steps_loses_nothing_and_doubles_nothing(
    state, tmp_path, orthanc, fhir_server
):
    for attempt in range(TRIES):
        number = 100 + 10 * WALK.index(state) + attempt
        fhir_server.load(studies.record(number))
        files = studies.write(tmp_path / "study", number)
        study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
        plugin = Plugin(tmp_path / f"plugin-{attempt}", archive=orthanc, ehr=fhir_server)
        with plugin.up():
            storescu(plugin.port, *files)
            _watch(plugin, study, state)
            plugin.kill()
            killed_in = plugin.state(study)
            plugin.start()
            assert plugin.wait(study) is StudyState.DONE, plugin.problem(study)
        assert len(orthanc.structured_reports(study)) == 1
        assert len(_reports_of(fhir_server, study)) == 1
        if killed_in is state:
            return  # the kill hit between this step and the next, as the test's name says
    pytest.fail(f"expected to kill in {state} within {TRIES} tries, got none")


def _watch(plugin: Plugin, study: str, state: StudyState) -> None:
    """Returns as soon as the ledger shows the state, or a later one."""
    wanted = {s.value for s in [*WALK[WALK.index(state) :], StudyState.DONE]}
    query = "SELECT state FROM studies WHERE study_instance_uid = ?"
    deadline = time.monotonic() + 120
    with sqlite3.connect(plugin.folder / "ledger.sqlite", timeout=30) as connection:
        while time.monotonic() < deadline:
            row = connection.execute(query, (study,)).fetchone()
            if row and row[0] in wanted:
                return
            time.sleep(0.002)
    pytest.fail(f"expected state {state}, got {row}")


def _reports_of(fhir_server, study: str) -> list[dict]:
    [imaging] = fhir_server.search("ImagingStudy", identifier=f"urn:dicom:uid|urn:oid:{study}")
    reference = f"ImagingStudy/{imaging['id']}"
    return [
        r
        for r in fhir_server.search("DiagnosticReport", _count="1000")
        if any(s["reference"] == reference for s in r.get("imagingStudy", []))
    ]
