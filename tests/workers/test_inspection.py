"""`status`: what a person sees of all studies."""

from io import StringIO

from rich.console import Console

from bonetumor.domain.workitem import Workitem
from bonetumor.worker.inspection import show_overview
from bonetumor.worker.settings import Settings
from bonetumor.worker.wiring import build_ledger


def _shown(settings):
    out = Console(file=StringIO(), width=200)
    show_overview(settings, out, states=(), limit=None, as_json=False)
    return out.file.getvalue()


def test_workitems_that_are_under_way_are_told_of(tmp_path):
    settings = Settings(folder=tmp_path)
    assert "workitem" not in _shown(settings)
    ledger = build_ledger(settings)
    ledger.begin_workitem(Workitem(uid="1.8", studies=("1.2.3",)), "1.9")
    assert "1 workitem(s) of the worklist under way." in _shown(settings)
    ledger.end_workitem("1.8", "COMPLETED")
    assert "workitem" not in _shown(settings)
