"""Strategies by name: what each chooses, switching while tasks wait, and what happens when one is broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from placement_cases import committed, finish, options, teach, with_runtimes

from headway_bus.ids import new_task_ids
from headway_bus.records import RuntimeInfo
from headway_controller.placement import Scheduler
from headway_controller.placement.strategies import BUILT_IN, Probabilistic, RoundRobin, Weighted
from headway_controller.placement.views import RuntimeView, TaskView


def three(slots: float = 1.0) -> Scheduler:
    return with_runtimes(*(RuntimeInfo(name, slots=slots) for name in "abc"))


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_strategy_brings_all_tasks_to_an_end(name: str) -> None:
    scheduler = three()
    scheduler.use_strategy(name)
    waiting = set(new_task_ids(30))
    scheduler.enqueue_many(options(), sorted(waiting), 0.0)
    now = 0.0
    while waiting:
        now += 1.0
        sent = committed(scheduler, now)
        assert sent, f"{len(waiting)} tasks wait and nothing is sent"
        for runtime, task in sent:
            waiting.remove(task)
            finish(scheduler, runtime, task, 0.5, now + 0.5)
    assert scheduler.queued == 0


def test_round_robin_is_cyclic_for_each_target_by_itself() -> None:
    scheduler = three(slots=100)
    scheduler.use_strategy("round_robin")
    chosen: dict[str, list[str]] = {"m:x": [], "m:y": []}
    for step in range(12):
        target = ("m:x", "m:y")[step % 2]
        scheduler.enqueue_many(options(target), new_task_ids(1), float(step))
        chosen[target] += [runtime for runtime, _ in committed(scheduler, float(step))]
    assert chosen["m:x"] == chosen["m:y"] == ["a", "b", "c"] * 2


@pytest.mark.parametrize("name", ["headway_completion", "shortest_queue", "round_robin", "weighted"])
def test_ten_equal_tasks_on_three_equal_runtimes_spread_four_three_three(name: str) -> None:
    scheduler = three()
    scheduler.use_strategy(name)
    teach(scheduler, options(), "a", 10.0)
    scheduler.enqueue_many(options(), new_task_ids(10), 0.0)
    committed(scheduler, 0.0)
    counts = [state.planned + state.committed + state.running for state in scheduler.queues("", 0.0)]
    assert sorted(counts) == [3, 3, 4]


def test_an_unknown_name_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="round_robin"):
        three().use_strategy("nope")


def test_switching_takes_the_waiting_tasks_along() -> None:
    scheduler = three()
    kind = options()
    tasks = new_task_ids(9)
    scheduler.use_strategy("round_robin")
    scheduler.enqueue_many(kind, tasks, 0.0)
    assert len(committed(scheduler, 0.0)) == 3
    assert sum(state.planned for state in scheduler.queues("", 0.0)) == 6
    for name in ("headway_completion", "po2", "fifo"):
        scheduler.use_strategy(name)
        scheduler.validate()
        assert committed(scheduler, 0.0) == []
        assert scheduler.queued == 6


def test_a_planned_task_can_be_removed_and_its_runtime_lost() -> None:
    scheduler = three()
    kind = options()
    tasks = new_task_ids(9)
    scheduler.use_strategy("round_robin")
    scheduler.enqueue_many(kind, tasks, 0.0)
    sent = {task for _, task in committed(scheduler, 0.0)}
    left = [task for task in tasks if task not in sent]
    scheduler.remove(left[0], kind)
    scheduler.validate()
    assert scheduler.queued == 5
    lost = scheduler.remove_runtime("a")
    assert len(lost) == 1
    assert committed(scheduler, 1.0) == []
    scheduler.validate()
    assert sum(state.planned for state in scheduler.queues("", 1.0)) == 5


class Broken:
    def choose(self, task: TaskView, candidates: Sequence[RuntimeView], now: float) -> str | None:
        raise RuntimeError("out of ideas")


class Elsewhere:
    def choose(self, task: TaskView, candidates: Sequence[RuntimeView], now: float) -> str | None:
        return "nowhere"


class Holding:
    def choose(self, task: TaskView, candidates: Sequence[RuntimeView], now: float) -> str | None:
        return None if now < 5.0 else candidates[0].name


@pytest.mark.parametrize("strategy", [Broken(), Elsewhere()])
def test_a_strategy_that_fails_is_set_aside_and_the_default_goes_on(strategy: Broken | Elsewhere) -> None:
    scheduler = three()
    scheduler.use_strategy("mine", strategy)
    scheduler.enqueue_many(options(), new_task_ids(3), 0.0)
    assert len(committed(scheduler, 0.0)) == 3
    (notice,) = scheduler.notices()
    assert (notice.kind, notice.name) == ("strategy-failed", "mine")
    assert scheduler.binder.name == "headway_completion"


def test_a_strategy_may_hold_a_task() -> None:
    scheduler = three()
    scheduler.use_strategy("mine", Holding())
    scheduler.enqueue_many(options(), new_task_ids(1), 0.0)
    assert committed(scheduler, 0.0) == []
    assert len(committed(scheduler, 5.0)) == 1


def views(scheduler: Scheduler) -> list[RuntimeView]:
    return [RuntimeView(book, 0.0) for book in scheduler.fleet.books.values()]


TASK = TaskView("t", "default", 0, 1.0, 0.5, True)


def test_weighted_is_more_cautious_with_more_weight() -> None:
    scheduler = with_runtimes(RuntimeInfo("sure", slots=1), RuntimeInfo("unsure", slots=1))
    sure, unsure = (scheduler.fleet.books[name] for name in ("sure", "unsure"))
    sure.planned, sure.planned_mean, sure.planned_variance = 1, 10.0, 0.0
    unsure.planned, unsure.planned_mean, unsure.planned_variance = 1, 9.0, 16.0
    assert Weighted(0.0).choose(TASK, views(scheduler), 0.0) == "unsure"
    assert Weighted(0.5).choose(TASK, views(scheduler), 0.0) == "sure"
    assert Weighted(9.0).error_weight == 1.0


def test_probabilistic_prefers_the_shorter_queue_more_often_and_not_always() -> None:
    scheduler = with_runtimes(RuntimeInfo("short", slots=1), RuntimeInfo("long", slots=1))
    short, long = (scheduler.fleet.books[name] for name in ("short", "long"))
    short.planned, short.planned_mean, short.planned_variance = 1, 10.0, 100.0
    long.planned, long.planned_mean, long.planned_variance = 1, 20.0, 400.0
    strategy = Probabilistic(seed=7)
    counts = Counter(strategy.choose(TASK, views(scheduler), 0.0) for _ in range(400))
    assert counts["short"] > 1.5 * counts["long"] > 0


def test_round_robin_does_not_remember_targets_without_bound() -> None:
    strategy = RoundRobin()
    scheduler = three()
    for number in range(RoundRobin.MAX_TARGETS + 10):
        strategy.choose(TASK._replace(target=str(number)), views(scheduler)[:1], 0.0)
    assert len(strategy._next) <= RoundRobin.MAX_TARGETS + 1


def test_a_planned_task_that_is_cancelled_after_its_demand_changed_is_never_sent() -> None:
    """A runtime that joins with a pattern splits a demand in two: what was planned under the old one must be found."""
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    scheduler.use_strategy("po2")
    plain, page = options("m:plain"), options("ocr.page:read")
    first, second = new_task_ids(2)
    scheduler.enqueue(first, plain, 0.0)
    scheduler.enqueue(second, page, 0.0)
    assert committed(scheduler, 0.0) == [("a", first)]
    scheduler.add_runtime(RuntimeInfo("b", slots=1, serves=["call:ocr.*", "call"]), 0.1)
    scheduler.remove(second, page)
    assert committed(scheduler, 0.2) == []
    scheduler.validate()


def test_min_time_counts_the_error_of_the_queue_and_the_speed_of_the_machine() -> None:
    scheduler = with_runtimes(RuntimeInfo("fast", slots=1, speed=4.0), RuntimeInfo("slow", slots=1))
    scheduler.use_strategy("min_time")
    teach(scheduler, options(), "slow", 1.0, times=100)
    scheduler.enqueue_many(options(), new_task_ids(4), 0.0)
    committed(scheduler, 0.0)
    counts = {each.runtime: each.planned + each.committed + each.running for each in scheduler.queues("", 0.0)}
    assert counts["fast"] > counts["slow"]
