"""Waiting times: for a task before it is submitted, per runtime, and how they are scored."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from placement_cases import calls_of, committed, finish, options, teach, with_runtimes

from headway_bus.ids import new_task_ids
from headway_bus.records import Kind, Options, RuntimeInfo
from headway_controller.placement.lanes import Tier


def test_with_room_the_wait_is_the_way() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1), round_trip=0.02)
    teach(scheduler, options(), "a", 1.0)
    runtime, start, end = scheduler.waiting(options(), 0.0, "")
    assert runtime == "a"
    assert start.known
    assert start.expectation == pytest.approx(0.01)
    assert end.expectation == pytest.approx(1.02, rel=0.1)
    assert start.p50 <= start.p90
    assert end.p50 <= end.p90


def test_without_a_runtime_the_wait_is_unknown_and_says_why() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    runtime, start, _ = scheduler.waiting(Options(Kind.MODEL, "llm"), 0.0, "")
    assert runtime == ""
    assert not start.known
    assert "no runtime" in start.why


def test_the_wait_grows_with_what_is_ahead_and_falls_as_work_ends() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=2), RuntimeInfo("b", slots=2))
    kind = options()
    teach(scheduler, kind, "a", 1.0, 50)
    said: list[float] = []
    for _ in range(40):
        scheduler.enqueue_many(kind, new_task_ids(1), 0.0)
        said.append(scheduler.expectation(kind, 0.0).seconds)
    assert said == sorted(said)
    assert said[-1] == pytest.approx(10.0, rel=0.2)
    sent = committed(scheduler, 0.0)
    falling = [scheduler.expectation(kind, 0.0).seconds]
    now = 0.0
    while sent:
        now += 1.0
        for runtime, task in sent:
            finish(scheduler, runtime, task, 1.0, now)
        sent = committed(scheduler, now)
        falling.append(scheduler.expectation(kind, now).seconds)
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == 0.0


def test_a_short_task_is_told_that_it_will_overtake_long_ones() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    long, short = options("m:long"), options("m:short")
    teach(scheduler, long, "a", 10.0, 50)
    teach(scheduler, short, "a", 0.1, 50)
    scheduler.enqueue_many(long, new_task_ids(20), 0.0)
    committed(scheduler, 0.0)
    assert scheduler.expectation(short, 0.0).seconds < 15.0
    assert scheduler.expectation(long, 0.0).seconds > 150.0


def test_queues_grow_by_each_task_and_shrink_on_completion() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1), RuntimeInfo("b", slots=1))
    kind = options()
    teach(scheduler, kind, "a", 10.0, 50)
    sums = []
    for _ in range(8):
        scheduler.enqueue_many(kind, new_task_ids(1), 0.0)
        committed(scheduler, 0.0)
        sums.append(sum(state.waiting.expectation for state in scheduler.queues("module:function", 0.0)))
    growth = [after - before for before, after in itertools.pairwise(sums)]
    assert all(each == pytest.approx(10.0, rel=0.2) for each in growth)
    runtime, task = next((b.name, t) for b in scheduler.fleet.books.values() for t in [*b.committed, *b.running])
    finish(scheduler, runtime, task, 10.0, 10.0)
    committed(scheduler, 10.0)
    assert sum(state.waiting.expectation for state in scheduler.queues("", 10.0)) < sums[-1]


@pytest.mark.parametrize(
    ("before", "took", "after"),
    [([60.0] * 5, [60, 55, 70, 50, 65], 0.0), ([0.03], [0.08], 0.0)],
    ids=["S-A3", "clamped"],
)
def test_a_queue_that_has_ended_is_empty_and_sure_of_it(before: list[float], took: list[float], after: float) -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    kind = options()
    teach(scheduler, kind, "a", before[0], 20)
    tasks = new_task_ids(len(before))
    scheduler.enqueue_many(kind, tasks, 0.0)
    now = 0.0
    for seconds in took:
        ((runtime, task),) = committed(scheduler, now)
        now += seconds
        finish(scheduler, runtime, task, seconds, now)
    (state,) = scheduler.queues("", now)
    assert (state.waiting.expectation, state.waiting.error) == (after, 0.0)
    assert (state.planned, state.committed, state.running) == (0, 0, 0)


def test_a_closed_runtime_promises_nothing() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    scheduler.drain("a", True)
    (state,) = scheduler.queues("", 0.0)
    assert not state.waiting.known


def test_the_plan_of_a_million_tasks_is_dealt_in_portions() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1), RuntimeInfo("b", slots=3))
    kind = options()
    teach(scheduler, kind, "a", 1.0, 50)
    scheduler.enqueue_many(kind, new_task_ids(100_000), 0.0)
    states = {state.runtime: state for state in scheduler.queues("", 0.0)}
    assert states["a"].planned + states["b"].planned == 100_000
    assert states["b"].planned == pytest.approx(75_000, rel=0.05)
    assert states["a"].waiting.expectation == pytest.approx(states["b"].waiting.expectation, rel=0.05)


def test_what_was_said_of_waits_is_scored_and_comes_true_nine_times_in_ten() -> None:
    scheduler = with_runtimes(*(RuntimeInfo(f"r{number}", slots=1) for number in range(3)))
    source = random.Random(3)
    kind = options()
    ends: list[tuple[float, str, bytes, float]] = []
    arrival = now = 0.0
    for task in new_task_ids(6000):
        arrival += source.expovariate(2.7)
        while ends and min(ends)[0] <= arrival:
            now, runtime, done, seconds = min(ends)
            ends.remove(min(ends))
            scheduler.finished_many(runtime, [(done, seconds)], now)  # type: ignore[list-item]
            for name, started in committed(scheduler, now):
                length = source.expovariate(1.0)
                scheduler.started_many(name, [(started, 0.0)], now)
                ends.append((now + length, name, started, length))
        now = arrival
        scheduler.enqueue(task, kind, now)
        for name, started in committed(scheduler, now):
            length = source.expovariate(1.0)
            scheduler.started_many(name, [(started, 0.0)], now)
            ends.append((now + length, name, started, length))
    scores = scheduler.scores()
    assert scores["*"]["count"] == 1000
    assert 0.86 < scores["*"]["p90"] < 0.94
    assert 0.44 < scores["*"]["p50"] < 0.56
    assert abs(scores["*"]["bias"]) < 0.15 * scores["*"]["mean"]
    assert set(scores) == {"", "*", "call:module:function"}


class Walked(list[Tier]):
    """The tiers of a lane, and how often they were walked through."""

    times = 0

    def __iter__(self) -> Iterator[Tier]:
        self.times += 1
        return super().__iter__()


def test_what_one_has_waiting_is_counted_once_however_many_others_wait() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    kind = options()
    teach(scheduler, kind, "a", 1.0)
    for number in range(50):
        scheduler.enqueue_many(kind, new_task_ids(2), 0.0, f"client-{number}")
    scheduler.enqueue_many(kind, new_task_ids(2), 0.0, "mine")
    work = scheduler.catalogue.work_of(kind)
    mine = scheduler.backlog.lane_of(work, scheduler.backlog.line_of(work, "mine"))
    mine.top = walked = Walked(mine.top)
    _, start, _ = scheduler.waiting(kind, 0.0, "mine")
    assert start.expectation > 50.0 and walked.times <= 3


def test_one_who_has_much_waiting_waits_longer_than_one_who_comes_anew() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    kind = options()
    teach(scheduler, kind, "a", 1.0)
    scheduler.enqueue_many(kind, new_task_ids(100), 0.0, "busy")
    _, busy, _ = scheduler.waiting(kind, 0.0, "busy")
    _, new, _ = scheduler.waiting(kind, 0.0, "new")
    assert busy.expectation > 20 * new.expectation > 0.0


def test_many_clients_that_submit_the_like_in_one_moment_are_told_from_few_reckonings() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    kind = options()
    teach(scheduler, kind, "a", 1e-4, 50)
    scheduler.enqueue_many(kind, new_task_ids(1_000), 0.0, "busy")
    waits: list[float] = []

    def submit_from_all(now: float) -> None:
        for number in range(200):
            waits.append(scheduler.start(kind, now, f"client-{number}")[1].expectation)
            scheduler.enqueue(new_task_ids(1)[0], kind, now, f"client-{number}")

    steps = calls_of(lambda: submit_from_all(1.0))
    alone = calls_of(lambda: scheduler.waiting(kind, 1.0, "another"))
    assert steps < 200 * (alone / 4), f"{steps} calls for 200 submissions, {alone} for one that is reckoned anew"
    assert waits[0] == waits[1] < waits[-1] < scheduler.start(kind, 1.0, "busy")[1].expectation
    assert scheduler.start(kind, 2.0, "client-0")[1].expectation != waits[0], "another moment"
