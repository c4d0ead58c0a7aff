"""The integration engineer's commands."""

import json

import pytest
from typer.testing import CliRunner

from bonetumor.domain.errors import MalformedResource, Misconfigured
from bonetumor.domain.progress import StudyState
from bonetumor.worker import wiring, wiring_ehr
from bonetumor.worker.cli import app
from bonetumor.worker.settings import SETTINGS_VARIABLE, read_settings
from kit.ledger import complete, walk_to_deliveries


def observation(key, system, code, **value):
    return {
        "resource": {
            "resourceType": "Observation",
            "id": key,
            "status": "final",
            "code": {"coding": [{"system": system, "code": code}]},
            "effectiveDateTime": "2026-01-01",
            **value,
        }
    }


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv(SETTINGS_VARIABLE, "")
    file = tmp_path / "settings.toml"
    file.write_text(
        '[ehr]\nbase_url = "http://ehr.test/fhir"\nidentifier_systems = { "" = "urn:h" }\n'
        'local_codes = { "urn:lab|AP" = "alp" }\nlocal_units = { "Einh/l" = "U/L" }\n'
    )
    return file


def test_labs_can_be_tried_with_the_sites_own_codes(tmp_path, settings):
    bundle = {
        "resourceType": "Bundle",
        "entry": [
            observation("1", "urn:lab", "AP", valueQuantity={"value": 120, "unit": "Einh/l"}),
            observation("2", "http://loinc.org", "2532-0", valueString="haemolytic"),
        ],
    }
    (tmp_path / "labs.json").write_text(json.dumps(bundle))
    said = CliRunner().invoke(
        app, ["ehr", "try-labs", str(tmp_path / "labs.json"), "--settings", str(settings)]
    )
    assert said.exit_code == 0, said.output
    assert "120 U/L" in said.output
    assert "not understood: Observation/2 (ldh)" in said.output
    assert "1 Observations understood" in said.output


class Standing:
    """An EHR with a report that was made before the newest result."""

    def withdraw(self, runs):
        assert len(runs) == 1
        return 4


def test_withdrawing_says_that_a_newer_result_is_held(tmp_path, settings, monkeypatch):
    monkeypatch.setenv("BONETUMOR_FOLDER", str(tmp_path))
    monkeypatch.setattr(wiring_ehr, "build_report_server", lambda *_: Standing())
    ledger = wiring.build_ledger(read_settings(settings))
    complete(ledger)
    walk_to_deliveries(ledger, "ehr")
    asked = ["ehr", "withdraw", "1.2.3", "--reason", "wrong patient", "--settings", str(settings)]
    said = CliRunner().invoke(app, asked)
    assert said.exit_code == 0, said.output
    assert "4 resources of 1.2.3 are marked as entered in error" in said.output
    assert "A newer result is held: cases release 1.2.3" in said.output
    assert ledger.one("1.2.3").state is StudyState.HELD
    ledger.close()


def test_a_file_that_is_no_json_is_refused(tmp_path, settings):
    (tmp_path / "labs.json").write_text("labs")
    said = CliRunner().invoke(
        app, ["ehr", "try-labs", str(tmp_path / "labs.json"), "--settings", str(settings)]
    )
    assert isinstance(said.exception, MalformedResource)


def test_keys_without_keys_says_what_is_missing(settings):
    said = CliRunner().invoke(app, ["ehr", "keys", "--settings", str(settings)])
    assert isinstance(said.exception, Misconfigured)
