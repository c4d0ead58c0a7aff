"""Which weights the demo runs with."""

from contextlib import contextmanager

import pytest
from rich.console import Console

from bonetumor.domain.errors import Unavailable
from bonetumor.weights import installed
from bonetumor.worker import demo
from kit import studies


@pytest.fixture
def chosen(monkeypatch, tmp_path):
    """The bundle that the demo's plugin is started with; it is not started."""
    monkeypatch.setattr(installed, "_weights", lambda: tmp_path / "weights")
    (tmp_path / "weights" / "real").mkdir(parents=True)
    started = []

    @contextmanager
    def plugin(environment, *_):
        started.append(environment.get("BONETUMOR_MODEL__BUNDLE"))
        raise Unavailable("seen enough")
        yield

    monkeypatch.setattr(demo, "_plugin", plugin)

    def run(study):
        plan = demo.DemoPlan(out=tmp_path / "out", study=study, fhir=None, patient=3)
        with pytest.raises(Unavailable, match="seen enough"):
            demo.run_demo(plan, Console(quiet=True))
        return started.pop()

    return run


def test_a_drawn_patient_is_shown_with_the_synthetic_weights(chosen, tmp_path, monkeypatch):
    monkeypatch.delenv("BONETUMOR_MODEL__BUNDLE", raising=False)
    assert chosen(None) == str(tmp_path / "weights" / "synthetic")
    monkeypatch.setenv("BONETUMOR_MODEL__BUNDLE", "own")
    assert chosen(None) == "own"


def test_ones_own_study_is_shown_with_the_shipped_weights(chosen, tmp_path, monkeypatch):
    monkeypatch.delenv("BONETUMOR_MODEL__BUNDLE", raising=False)
    studies.write(tmp_path / "study", 3)
    assert chosen(tmp_path / "study") is None
