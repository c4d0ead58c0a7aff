"""Settings: one file, the environment before it, and every wrong field named."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from bonetumor.domain.errors import Misconfigured
from bonetumor.worker.doctor import CHECKS
from bonetumor.worker.processes import serve
from bonetumor.worker.settings import SETTINGS_VARIABLE, Settings, read_settings

ARCHIVE = '[archive]\nhost = "pacs"\nport = 104\nae_title = "PACS"\n'
EHR = '[ehr]\nbase_url = "https://ehr.example"\nidentifier_systems = {}\n'
WORKLIST = '[worklist]\ndicomweb_url = "https://worklist.example/rs"\n'
EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "settings.example.toml"


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.setenv(SETTINGS_VARIABLE, "")


def test_the_example_is_a_whole_settings_file():
    settings = read_settings(EXAMPLE)
    assert settings.listener.calling_ae_titles == {"PACS"}
    assert settings.archive.ae_title == "PACS"
    assert settings.ehr.identifier_systems == {"": "https://hospital.example/patient-id"}
    assert settings.spool == Path("/var/lib/bonetumor/spool")


def test_everything_that_the_example_leaves_out_is_valid_too(tmp_path):
    opened = re.sub(r"(?m)^# (\[\[?[a-z.0-9]+\]\]?|[a-z_0-9]+ = )", r"\1", EXAMPLE.read_text())
    assert opened.count("\n[") > EXAMPLE.read_text().count("\n[")
    (tmp_path / "opened.toml").write_text(opened)
    settings = read_settings(tmp_path / "opened.toml")
    assert settings.ehr.smart.client_id == "bonetumor"
    assert settings.result_destinations[0].results == ("sr", "sc", "gsps", "pdf")
    assert len(settings.rules) == 1
    assert settings.ehr.hl7.port == 2575
    assert settings.web.port == 8080
    assert settings.worklist.label == "BONE-AI"
    assert settings.retention.keep_days == 30
    assert settings.bucket.local_hours == 24
    assert settings.ehr.local_codes == {"https://hospital.example/lab|AP": "alp"}


def test_the_environment_comes_before_the_file(monkeypatch):
    monkeypatch.setenv("BONETUMOR_LISTENER__PORT", "4242")
    monkeypatch.setenv("BONETUMOR_EHR__TOKEN", "secret")
    settings = read_settings(EXAMPLE)
    assert settings.listener.port == 4242
    assert settings.listener.ae_title == "BONETUMOR"
    assert settings.ehr.token.get_secret_value() == "secret"
    assert "secret" not in repr(settings)


def test_settings_cannot_be_changed_once_read():
    with pytest.raises(ValidationError):
        Settings().mode = "clinical"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('mode = "fast"', "mode"),
        ("[listener]\nport = 99999", "listener.port"),
        ("[listener]\nspeed = 1", "listener.speed"),
        ('[archive]\nhost = "x"', "archive.port"),
        ('[model]\ndevice = "tpu"', "model.device"),
        ('[listener]\ntls_key = "k.pem"', "listener.*tls_certificate and tls_key together"),
        ('[listener]\ntls_client_authority = "a.pem"', "listener.*beside tls_client_authority"),
        (f'{ARCHIVE}tls = true\nkey = "k.pem"', "archive.*certificate and key together, got key"),
        (f'{ARCHIVE}authority = "a.pem"', "archive.*expected tls = true"),
        ('[web]\ntls_certificate = "c.pem"', "web.*tls_certificate and tls_key together"),
        (f'{EHR}certificate = "c.pem"', "ehr.*certificate and key together, got certificate"),
        ('[queue]\nurl = "ftp://broker"', "queue.url"),
        ('[bucket]\nname = "images"\nendpoint_url = "store:9000"', "bucket.endpoint_url"),
        (EHR.replace("https://", ""), "ehr.base_url"),
        (f'{EHR}attachment_origins = ["pathology.example"]', "ehr.attachment_origins"),
        ('[[destinations]]\nname = "d"\ndicomweb_url = "pacs/dicom-web"', "dicomweb_url"),
        ('[bucket]\nname = "images"\n[listener]\nmax_object_bytes = 6000000000', "5368709120"),
        (f"{ARCHIVE}{WORKLIST}", "worklist.*every workitem would be claimed"),
        (f'{ARCHIVE}{WORKLIST}workitem = "AI-BONE"', "worklist.workitem"),
        (f'{WORKLIST}label = "AI"', "worklist: expected an archive"),
        (f'{ARCHIVE}fetch = "off"\n{WORKLIST}label = "AI"', "worklist: expected an archive"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, text, field):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=field):
        read_settings(path)


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("this is not TOML")
    with pytest.raises(Misconfigured):
        read_settings(path)


def _leaves(model: type[BaseModel]):
    for name, field in model.model_fields.items():
        annotation = field.annotation
        group = next(
            (a for a in (annotation, *getattr(annotation, "__args__", ())) if _is_group(a)), None
        )
        if group is None:
            yield name, field
        else:
            yield from _leaves(group)


def _is_group(annotation) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def test_every_field_is_documented():
    for name, field in _leaves(Settings):
        assert field.description, name


def test_a_rule_that_cannot_be_read_is_refused_before_anything_starts(tmp_path):
    wrong = Settings(folder=tmp_path, rules=[{"when": "colour = red"}])
    for start in (CHECKS["rules"], serve):
        with pytest.raises(Misconfigured, match="expected one of modality"):
            start(wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("destinations", "said"),
    [
        ([{"name": "a"}], "expected host and ae_title, or dicomweb_url"),
        ([{"name": "ehr", "dicomweb_url": "https://x"}], "none of them ehr"),
        ([{"name": "a", "dicomweb_url": "https://x"}] * 2, "expected different names"),
        ([{"name": "a b", "dicomweb_url": "https://x"}], "name"),
        ([{"name": "a", "dicomweb_url": "https://x", "results": ["xml"]}], "results"),
    ],
)
def test_destinations_that_cannot_work_are_refused_with_their_field(destinations, said):
    with pytest.raises(ValueError, match=said):
        Settings(destinations=destinations)


def test_results_go_to_the_archive_where_no_destination_is_named():
    archive = {"host": "pacs", "port": 104, "ae_title": "PACS"}
    [chosen] = Settings(archive=archive).result_destinations
    assert (chosen.name, chosen.host, chosen.results) == ("archive", "pacs", ("sr", "sc"))
