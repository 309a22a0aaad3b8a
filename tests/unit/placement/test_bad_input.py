"""Nonsense from users, runtimes and clocks: nothing breaks, every estimate stays finite, and the offender is counted."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from placement_cases import committed, options, with_runtimes

from headway_bus.ids import new_task_ids
from headway_bus.records import Estimate, RuntimeInfo
from headway_controller.placement import Scheduler

META: list[dict[str, Any]] = [
    {"size": math.nan},
    {"size": math.inf, "other": -math.inf},
    {"size": -5.0},
    {"size": -1e308},
    {"size": 10**400},
    {"word": "x" * 1_000_000},
    {"k" * 1_000_000: 1.0},
    {str(key): float(key) for key in range(10_000)},
    {str(key): "w" * 100 for key in range(10_000)},
    {"nothing": None, "list": [1, 2], "map": {"a": 1}},
]
COUNTED = [0, 1, 4, 7, 8, 9]
"""Those of which something is left out; the others are odd, and of use."""

DURATIONS = [0.0, -1.0, -1e300, math.nan, math.inf, 3.2e7, 1e300]


def is_sound(estimate: Estimate) -> bool:
    values = (estimate.expectation, estimate.error, estimate.p50, estimate.p90)
    return all(math.isfinite(value) and value >= 0.0 for value in values) and estimate.p50 <= estimate.p90 * (1 + 1e-9)


def check(scheduler: Scheduler, now: float, **meta: Any) -> None:
    scheduler.validate()
    for queue in scheduler.queues("", now):
        assert is_sound(queue.waiting), queue
    kind = options(meta=dict(meta))
    for behind in (0, 7, 10**9):
        _, starts, ends = scheduler.waiting(kind, now, "", behind)
        assert is_sound(starts), starts
        assert is_sound(ends), ends


@pytest.mark.parametrize("place", range(len(META)))
def test_meta_of_any_kind(place: int) -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=2))
    kind = options(meta=META[place])
    for turn in range(20):
        now = float(turn)
        scheduler.enqueue_many(kind, new_task_ids(3), now)
        for runtime, task in committed(scheduler, now):
            scheduler.started_many(runtime, [(task, 0.0)], now)
            scheduler.finished_many(runtime, [(task, 0.3)], now + 0.3)
        check(scheduler, now, **META[place])
        scheduler.explain(kind, now)
    assert (scheduler.counters["refused_meta"] > 0) is (place in COUNTED)


@pytest.mark.parametrize("seconds", DURATIONS)
def test_durations_of_any_length(seconds: float) -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=2), RuntimeInfo("b", slots=2))
    for turn in range(40):
        now = float(turn)
        scheduler.enqueue_many(options(), new_task_ids(6), now)
        for runtime, task in committed(scheduler, now):
            scheduler.started_many(runtime, [(task, 0.0)], now)
            scheduler.finished_many(runtime, [(task, seconds if turn % 2 else 0.5)], now + 0.5)
        check(scheduler, now)
    assert all(book.speed > 0.0 and math.isfinite(book.speed) for book in scheduler.fleet.books.values())
    if seconds == math.inf or seconds == 1e300:
        assert scheduler.counters["refused_durations"] > 0


@pytest.mark.parametrize("seed", range(5))
def test_a_clock_that_jumps(seed: int) -> None:
    """Backwards, forwards, by a year; news that are older than the task; ages and round trips that make no sense."""
    source = Random(seed)
    scheduler = with_runtimes(RuntimeInfo("a", slots=2), RuntimeInfo("b", slots=1))
    now = 1e6
    for _ in range(150):
        now += source.choice([0.001, 0.1, 10.0, -0.5, -3600.0, 3.2e7, -3.2e7])
        scheduler.enqueue_many(options(), new_task_ids(source.randint(1, 4)), now)
        scheduler.update_runtime("a", now, source.choice([0.0, 0.01, -1.0, math.nan, math.inf, 1e9]))
        for runtime, task in committed(scheduler, now):
            age = source.choice([0.0, 1.0, 1e9])
            scheduler.started_many(runtime, [(task, age)], now)
            if source.random() < 0.7:
                scheduler.finished_many(runtime, [(task, source.random())], now, [source.choice([0.0, 5.0, 1e9])])
        scheduler.take_backs(now)
        check(scheduler, now)
    for score in scheduler.scores().values():
        assert all(math.isfinite(value) for value in score.values())


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan, math.inf, 1e300])
def test_a_runtime_that_says_it_is_infinitely_fast(speed: float) -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1, speed=speed), RuntimeInfo("b", slots=1))
    scheduler.enqueue_many(options(), new_task_ids(4), 0.0)
    committed(scheduler, 0.0)
    check(scheduler, 0.0)
