"""What is measured: the sets of scenarios, and how one is run and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.placement import ideal, workloads
from benchmarks.placement.simulator import Link, simulate

from headway_controller.placement import Scheduler

SPEEDS = (1.0, 1.0, 2.0, 4.0)
FULL_COUNT = 40_000
QUICK_COUNT = 6_000
UNCOUNTED = 0.1
"""The share of tasks at the beginning that is not counted."""


class Scenario(NamedTuple):
    group: str
    work: str
    load: float
    delay: float
    runtimes: int

    @property
    def name(self) -> str:
        return f"{self.group} {self.work} load {self.load:g} delay {self.delay * 1e3:g} ms"


class Outcome(NamedTuple):
    """Latencies in seconds; ratios to the ideal central queue."""

    scenario: Scenario
    policy: str
    mean: float
    p95: float
    p99: float
    mean_ratio: float
    p99_ratio: float
    makespan: float
    stable: bool
    decision: float
    taken_back: int
    covered50: float
    covered90: float
    waited50: float
    waited90: float
    bias: float
    mean_wait: float
    tasks: int


def first_set() -> Iterator[Scenario]:
    """8 runtimes, five kinds of work, links up to 50 ms: 45 scenarios."""
    for delay in (0.0002, 0.005, 0.05):
        for work in ("exp", "logn", "bim", "bimkey", "feat"):
            for load in (0.5, 0.7, 0.9):
                yield Scenario("first", work, load, delay, 8)


def second_set() -> Iterator[Scenario]:
    """16 runtimes, six kinds of work, five loads, short links: 60 scenarios."""
    for delay in (0.0002, 0.005):
        for work in workloads.NAMES:
            for load in (0.5, 0.6, 0.7, 0.8, 0.9):
                yield Scenario("second", work, load, delay, 16)


def quick_set() -> Iterator[Scenario]:
    """One of each kind of work and delay."""
    for scenario in [*first_set(), *second_set()]:
        if scenario.load == 0.7:
            yield scenario


def immediate(policy: str) -> Scheduler:
    """A scheduler of a controller that decides at every event: it need not cover its own batch interval."""
    scheduler = Scheduler(batch_interval=0.0)
    scheduler.use_strategy(policy)
    return scheduler


def run(
    scenario: Scenario,
    count: int,
    seed: int = 1,
    policy: str = "headway_completion",
    make_scheduler: Callable[[str], Scheduler] = immediate,
    declared: bool = False,
) -> Outcome:
    speeds = [SPEEDS[index % len(SPEEDS)] for index in range(scenario.runtimes)]
    rate = scenario.load * sum(speeds) / workloads.MEAN_WORK
    tasks = workloads.make(scenario.work, count, rate, seed)
    reference = sorted(ideal.latencies(tasks, speeds, scenario.delay)[int(count * UNCOUNTED) :])
    links = [Link(speed, scenario.delay) for speed in speeds]
    scheduler = make_scheduler(policy)
    result = simulate(tasks, links, scheduler, declared=declared)
    seen = sorted(result.latencies[int(count * UNCOUNTED) :])
    scores, waited = result.scores.get("", {}), result.scores.get("*", {})
    return Outcome(
        scenario,
        policy,
        sum(seen) / len(seen),
        quantile(seen, 0.95),
        quantile(seen, 0.99),
        sum(seen) / sum(reference),
        quantile(seen, 0.99) / quantile(reference, 0.99),
        result.makespan,
        result.backlog < max(0.05 * count, 500),
        result.decision,
        result.taken_back,
        scores.get("p50", 0.0),
        scores.get("p90", 0.0),
        waited.get("p50", 0.0),
        waited.get("p90", 0.0),
        scores.get("bias", 0.0),
        scores.get("mean", 0.0),
        count,
    )


def quantile(ordered: Sequence[float], p: float) -> float:
    return ordered[min(int(p * len(ordered)), len(ordered) - 1)]
