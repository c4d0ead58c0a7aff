"""The scale model against what queueing theory knows exactly, and against itself."""

import math
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from bonetumor.domain.errors import InvalidInput
from bonetumor.worker import cli
from bonetumor.worker.scaling import Crew, Load, Times, recommend, simulate

NOTHING = 1e-9


def load(per_second):
    return Load(studies_per_day=per_second * 3600 / 0.15)


def erlang_c(offered, servers):
    """The probability that one must wait (Erlang, 1917)."""
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (sum(offered**k / math.factorial(k) for k in range(servers)) + last)


@pytest.mark.parametrize(("servers", "busy"), [(1, 0.5), (1, 0.8), (2, 0.7), (4, 0.8)])
def test_exponential_times_give_the_waits_of_erlang(servers, busy):
    mean = 2.0
    per_second = busy * servers / mean
    outcomes = [
        simulate(
            load(per_second),
            Times(instance=NOTHING, gpu=mean, io=NOTHING, variation=1.0),
            Crew(gpu=servers),
            seed=seed,
        )
        for seed in range(3)
    ]
    rate = servers / mean - per_second
    waits = erlang_c(per_second * mean, servers)

    def within(seconds):
        """P(time in system <= s) for M/M/c."""
        mu = 1 / mean
        theta = servers * mu - per_second
        if math.isclose(theta, mu):
            return 1 - math.exp(-mu * seconds) * (1 + waits * mu * seconds)
        served = 1 - math.exp(-mu * seconds)
        both = 1 - (theta * math.exp(-mu * seconds) - mu * math.exp(-theta * seconds)) / (
            theta - mu
        )
        return (1 - waits) * served + waits * both

    assert rate > 0
    median = sum(o.median_s for o in outcomes) / 3
    p95 = sum(o.p95_s for o in outcomes) / 3
    assert within(median) == pytest.approx(0.5, abs=0.03)
    assert within(p95) == pytest.approx(0.95, abs=0.02)
    assert outcomes[0].busy["gpu"] == pytest.approx(busy)


def test_an_empty_house_takes_the_times_alone():
    outcome = simulate(load(1e-4), Times(instance=0.01, gpu=2.0, io=1.0, variation=0), Crew())
    assert outcome.median_s == pytest.approx(4 * 0.01 + 2.0 + 1.0)


def test_the_crew_that_is_recommended_is_enough_and_one_less_is_not():
    day, times = Load(studies_per_day=5000), Times(instance=0.01, gpu=12.0, io=3.0)
    crew, outcome = recommend(day, times, within_s=60)
    assert outcome.p95_s <= 60
    assert max(outcome.busy.values()) < 1
    smaller = simulate(day, times, replace(crew, gpu=crew.gpu - 1))
    assert smaller.p95_s > 60


def test_what_no_crew_can_do_is_said():
    with pytest.raises(InvalidInput, match="within 1 s, got"):
        recommend(Load(studies_per_day=10), Times(instance=0.01, gpu=5.0, io=1.0), within_s=1)


def test_it_can_be_asked_for():
    arguments = ["scale", "--studies-per-day", "2000", "--gpu-s", "3"]
    shown = CliRunner().invoke(cli.app, arguments)
    assert shown.exit_code == 0
    assert "1 listener(s), 1 gpu worker(s), 1 io worker(s)" in shown.output
