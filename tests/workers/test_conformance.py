"""The conformance statement says what runs."""

from pathlib import Path

import pytest
from pynetdicom import AllStoragePresentationContexts

from bonetumor.worker.conformance import statement
from bonetumor.worker.settings import SETTINGS_VARIABLE, Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """No settings file that an earlier test named."""
    monkeypatch.setenv(SETTINGS_VARIABLE, "")


def settings(**more) -> Settings:
    return Settings(
        archive={"host": "pacs", "port": 104, "ae_title": "PACS"},
        listener={"other_ae_titles": ["NIGHT"], "calling_ae_titles": ["MODALITY"]},
        **more,
    )


def test_it_names_us_our_peers_and_every_class():
    said = statement(settings())
    assert "`BONETUMOR`, `NIGHT`" in said
    assert "callers allowed: MODALITY" in said
    assert "`PACS` at pacs:104" in said
    for context in AllStoragePresentationContexts:
        assert f"| {context.abstract_syntax} |" in said


def test_it_follows_the_settings():
    web = {"name": "web", "dicomweb_url": "https://pacs/dicom-web", "results": ["pdf"]}
    said = statement(settings(destinations=[web]))
    assert "confirmed by QIDO-RS" in said
    assert "Encapsulated PDF Storage" in said.split("### web")[1]
    assert "Comprehensive 3D SR" not in said.split("### web")[1]
    worklist = {"dicomweb_url": "https://worklist/rs", "label": "AI"}
    said = statement(settings(worklist=worklist))
    assert "| UPS-RS | yes | no |" in said
    assert "| Worklist Label | (0074,1202) | AI |" in said
    bare = statement(Settings())
    assert "### Worklist" not in bare
    assert "No archive is asked" in bare
    assert "No destination is configured" in bare


def test_the_page_in_the_repository_is_the_default_installations():
    said = statement(
        Settings(archive={"host": "pacs.hospital.example", "port": 104, "ae_title": "PACS"})
    )
    page = (ROOT / "deploy" / "conformance.md").read_text()
    assert said in page
