"""`replay`: exactly the studies that are meant run again."""

import io

import pytest
from rich.console import Console
from typer.testing import CliRunner

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.progress import Step, StudyState
from bonetumor.worker import cli
from bonetumor.worker.replaying import Filter, replay, replay_one
from kit.ledger import START, Clock, complete, errand, sqlite_ledger

PROBLEMS = {"1.1": "FhirUnavailable: no answer", "1.2": "CorruptPixelData: cut", "1.3": "held it"}


@pytest.fixture
def ledger(tmp_path):
    clock = Clock()
    with sqlite_ledger(tmp_path, clock) as made:
        for study, problem in PROBLEMS.items():
            clock.forward(3600)
            complete(made, study)
            if study == "1.3":
                made.hold(study, "me", problem)
            else:
                claim = made.claim(errand(Step.GATHER, study), "me")
                made.stop(claim, StudyState.FAILED, problem)
        complete(made, "1.4")
        yield made


@pytest.fixture
def out():
    return Console(file=io.StringIO(), width=200)


def running(ledger):
    return {p.study_instance_uid for p in ledger.progress(states=[StudyState.COMPLETE])} - {"1.4"}


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (Filter(), {"1.1", "1.2", "1.3"}),
        (Filter(problem="fhirunavailable"), {"1.1"}),
        (Filter(states={StudyState.HELD}), {"1.3"}),
        (Filter(since=START.replace(hour=14)), {"1.2", "1.3"}),
        (Filter(since=START.replace(hour=14, tzinfo=None), states={StudyState.FAILED}), {"1.2"}),
        (Filter(problem="nothing like it"), set()),
    ],
)
def test_what_fits_runs_again_and_nothing_else(ledger, out, chosen, expected):
    replay(ledger, chosen, out, dry=True)
    assert running(ledger) == set()
    replay(ledger, chosen, out, dry=False)
    assert running(ledger) == expected
    said = out.file.getvalue()
    assert f"{len(expected)} of 3 stopped studies would run again." in said
    assert f"{len(expected)} of 3 stopped studies run again." in said
    assert all(PROBLEMS[study] in said for study in expected)


def test_one_study_runs_again_if_it_was_stopped(ledger, out):
    replay_one(ledger, "1.1", out, dry=True)
    replay_one(ledger, "1.1", out, dry=False)
    assert running(ledger) == {"1.1"}
    for study in ("1.1", "1.4", "9.9"):
        with pytest.raises(InvalidInput, match="expected a held or failed study"):
            replay_one(ledger, study, out, dry=False)


@pytest.mark.parametrize(
    "arguments", [[], ["1.2.3", "--all"], ["--all", "--state", "held"], ["--state", "done"]]
)
def test_what_is_meant_must_be_said_and_in_one_way(arguments):
    result = CliRunner().invoke(cli.app, ["replay", *arguments])
    assert result.exit_code == 2
    assert "expected" in result.output
