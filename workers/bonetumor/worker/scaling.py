"""`scale`: how many listeners and workers a site needs, by a small simulation.

Studies come at random moments, as many as in the busiest hour. Each passes three crews in turn:
listeners, workers of the queue gpu, workers of the queue io (before and after the networks; here
once, with all their time). Not in it are the archive's own time to confirm, waits for evidence, and
failures. Times are one study's at one process: of `make bench` and `make bench-workers`, or the
site's own.
"""

import heapq
import math
import random
import statistics
from dataclasses import dataclass, replace

from bonetumor.domain.errors import InvalidInput

_STUDIES = 20_000
_MOST = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What comes. `peak` is the part of a day's studies that comes in its busiest hour."""

    studies_per_day: float
    instances: float = 4.0
    peak: float = 0.15

    @property
    def per_second(self) -> float:
        """Studies a second in the busiest hour."""
        return self.studies_per_day * self.peak / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds: of a listener for an instance, of workers for a study.

    `variation` is the standard deviation over the mean: 0 is always the same, 1 is exponential.
    """

    instance: float
    gpu: float
    io: float
    variation: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """How many processes of each kind."""

    listener: int = 1
    gpu: int = 1
    io: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a crew makes of a load: seconds from the last image to the report, and what part of its
    time each kind is busy. At 1 or above it falls ever further behind."""

    median_s: float
    p95_s: float
    busy: dict[str, float]


def simulate(load: Load, times: Times, crew: Crew, *, seed: int = 0) -> Outcome:
    """Twenty thousand studies of the busiest hour, that hour going on for as long as it takes."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    arrivals, now = [], 0.0
    for _ in range(_STUDIES):
        now += chance.expovariate(load.per_second)
        arrivals.append(now)
    took = follow(arrivals, load, times, crew, chance)
    took = took[_STUDIES // 10 :]  # it begins empty, which a hospital does not
    return Outcome(
        median_s=statistics.median(took),
        p95_s=statistics.quantiles(took, n=20)[-1],
        busy={
            kind: load.per_second * seconds / getattr(crew, kind)
            for kind, seconds in _of_one_study(load, times).items()
        },
    )


def follow(
    arrivals: list[float], load: Load, times: Times, crew: Crew, chance: random.Random
) -> list[float]:
    """How many seconds each study takes, given the seconds at which they come."""
    ends = arrivals
    for kind, seconds in _of_one_study(load, times).items():
        ends = _pass(ends, seconds, times.variation, getattr(crew, kind), chance)
    return [end - arrival for arrival, end in zip(arrivals, ends, strict=True)]


def recommend(load: Load, times: Times, *, within_s: float) -> tuple[Crew, Outcome]:
    """The smallest crew by which 95 of 100 studies are reported within a time.

    Raises:
        InvalidInput: the times alone are longer, or hundreds of processes would be needed.
    """
    crew = Crew()
    while True:
        outcome = simulate(load, times, crew)
        if max(outcome.busy.values()) < 1 and outcome.p95_s <= within_s:
            return crew, outcome
        busiest = max(outcome.busy, key=lambda kind: outcome.busy[kind])
        count = getattr(crew, busiest) + 1
        if count > _MOST or (max(outcome.busy.values()) < 0.05 and outcome.p95_s > within_s):
            raise InvalidInput(
                f"scale: expected a crew that reports within {within_s:g} s, "
                f"got {outcome.p95_s:.1f} s from {crew}"
            )
        # Those that fall behind come first, in one step; then one at a time.
        enough = math.ceil(outcome.busy[busiest] * getattr(crew, busiest))
        crew = replace(crew, **{busiest: max(count, min(enough, _MOST))})


def _of_one_study(load: Load, times: Times) -> dict[str, float]:
    """What each crew has to do with a study, in the order of its walk."""
    return {"listener": times.instance * load.instances, "gpu": times.gpu, "io": times.io}


def _pass(
    arrivals: list[float], seconds: float, variation: float, servers: int, chance: random.Random
) -> list[float]:
    """When each ends, first come first served; in the order of `arrivals`."""
    free = [0.0] * servers
    heapq.heapify(free)
    ends = [0.0] * len(arrivals)
    for place in sorted(range(len(arrivals)), key=arrivals.__getitem__):
        begins = max(arrivals[place], heapq.heappop(free))
        ends[place] = begins + _draw(seconds, variation, chance)
        heapq.heappush(free, ends[place])
    return ends


def _draw(mean: float, variation: float, chance: random.Random) -> float:
    """A time of a gamma distribution."""
    if variation == 0:
        return mean
    shape = 1 / variation**2
    return chance.gammavariate(shape, mean / shape)
