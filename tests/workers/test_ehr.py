"""The integration engineer's commands."""

import json

import pytest
from typer.testing import CliRunner

from bonetumor.domain.errors import MalformedResource, Misconfigured
from bonetumor.worker.cli import app
from bonetumor.worker.settings import SETTINGS_VARIABLE


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


def test_a_file_that_is_no_json_is_refused(tmp_path, settings):
    (tmp_path / "labs.json").write_text("labs")
    said = CliRunner().invoke(
        app, ["ehr", "try-labs", str(tmp_path / "labs.json"), "--settings", str(settings)]
    )
    assert isinstance(said.exception, MalformedResource)


def test_keys_without_keys_says_what_is_missing(settings):
    said = CliRunner().invoke(app, ["ehr", "keys", "--settings", str(settings)])
    assert isinstance(said.exception, Misconfigured)
