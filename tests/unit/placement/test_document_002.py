"""What document 002 expects of the scheduler itself: its acceptance examples S-A3 to S-A5, and the verbs behind its door."""

from __future__ import annotations

from itertools import pairwise

import pytest
from placement_cases import committed, finish, options, teach, with_runtimes

from headway_bus.ids import TaskId, new_task_ids
from headway_bus.records import Kind, Options, QueueState, RuntimeInfo
from headway_controller.extensions import use_predictor
from headway_controller.placement import Scheduler


def state_of(scheduler: Scheduler, runtime: str, now: float) -> QueueState:
    (found,) = [each for each in scheduler.queues("", now) if each.runtime == runtime]
    return found


def planned(scheduler: Scheduler, now: float) -> dict[str, int]:
    return {each.runtime: each.planned for each in scheduler.queues("", now)}


def stated(cost: float) -> Options:
    """A task whose caller says how many milliseconds it takes (S-14)."""
    return Options(Kind.CALL, "m:f", meta={"server_time_cost": cost})


def test_a3_the_expectation_and_the_count_come_to_zero_and_the_error_shrinks() -> None:
    """300 ms of work in five tasks; after completions of 60, 55, 70, 50 and 65 ms nothing is expected any more."""
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    teach(scheduler, options(), "a", 0.060, times=200)
    scheduler.use_strategy("shortest_queue")
    tasks = new_task_ids(5)
    scheduler.enqueue_many(options(), tasks, 0.0)
    committed(scheduler, 0.0)
    before = state_of(scheduler, "a", 0.0)
    assert before.waiting.expectation == pytest.approx(0.3, rel=0.15)
    assert before.planned + before.committed + before.running == 5
    now, errors = 0.0, [before.waiting.error]
    for task, milliseconds in zip(tasks, (60, 55, 70, 50, 65), strict=True):
        scheduler.started("a", task, options(), now)
        now += milliseconds / 1000
        finish(scheduler, "a", task, milliseconds / 1000, now)
        committed(scheduler, now)
        errors.append(state_of(scheduler, "a", now).waiting.error)
    after = state_of(scheduler, "a", now)
    assert (after.waiting.expectation, after.waiting.error) == (0.0, 0.0)
    assert after.planned + after.committed + after.running == 0
    assert errors == sorted(errors, reverse=True)


def test_a3_a_task_that_takes_longer_than_was_expected_leaves_no_negative_wait() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    teach(scheduler, options(), "a", 0.030, times=200)
    (task,) = new_task_ids(1)
    scheduler.enqueue(task, options(), 0.0)
    committed(scheduler, 0.0)
    scheduler.started("a", task, options(), 0.0)
    assert state_of(scheduler, "a", 0.075).waiting.expectation >= 0.0
    finish(scheduler, "a", task, 0.080, 0.080)
    assert state_of(scheduler, "a", 0.080).waiting.expectation == 0.0


def test_a4_the_wait_grows_by_each_prediction_and_shrinks_on_each_completion() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    teach(scheduler, options(), "a", 2.0, times=200)
    tasks = new_task_ids(6)
    seen = [state_of(scheduler, "a", 0.0).waiting.expectation]
    for task in tasks:
        scheduler.enqueue(task, options(), 0.0)
        committed(scheduler, 0.0)
        seen.append(state_of(scheduler, "a", 0.0).waiting.expectation)
    steps = [later - earlier for earlier, later in pairwise(seen)]
    assert steps == pytest.approx([2.0] * 6, rel=0.15)
    falling = []
    for place, task in enumerate(tasks):
        finish(scheduler, "a", task, 2.0, 2.0 * (place + 1))
        committed(scheduler, 2.0 * (place + 1))
        falling.append(state_of(scheduler, "a", 2.0 * (place + 1)).waiting.expectation)
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == 0.0


def test_a4_a_stated_cost_is_the_prediction() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    use_predictor(scheduler, "server_time_cost")
    for cost in (100.0, 250.0):
        scheduler.enqueue_many(stated(cost), new_task_ids(1), 0.0)
    committed(scheduler, 0.0)
    waiting = state_of(scheduler, "a", 0.0).waiting
    assert waiting.expectation == pytest.approx(0.35, rel=0.05)
    assert waiting.error == pytest.approx((0.05 * 100 + 0.05 * 250) ** 0.5 / 1000, rel=0.01)


@pytest.mark.parametrize("strategy", ["headway_completion", "shortest_queue", "round_robin"])
def test_a5_what_a_lost_runtime_had_goes_to_another_that_serves_the_model_and_ends_once(strategy: str) -> None:
    model = Options(Kind.MODEL, "ocr")
    serves = ["model:ocr"]
    scheduler = with_runtimes(
        RuntimeInfo("a", slots=3, serves=serves), RuntimeInfo("other", slots=9, serves=["model:llm"])
    )
    scheduler.use_strategy(strategy)
    tasks = new_task_ids(3)
    scheduler.enqueue_many(model, tasks, 0.0)
    assert {runtime for runtime, _ in committed(scheduler, 0.0)} == {"a"}
    scheduler.add_runtime(RuntimeInfo("b", slots=1, serves=serves), 1.0)
    held = scheduler.remove_runtime("a")
    assert sorted(held) == sorted(tasks)
    for task in held:
        scheduler.enqueue(task, model, 1.0)
    ended: list[TaskId] = []
    now = 1.0
    while len(ended) < 3:
        for runtime, task in committed(scheduler, now):
            assert runtime == "b"
            finish(scheduler, runtime, task, 0.5, now + 0.5)
            ended.append(task)
        now += 1.0
    assert sorted(ended) == sorted(tasks)
    assert scheduler.finished_many("a", [(tasks[0], 0.5)], now) == 0, "its late report counts for nothing"


def test_s13_the_shortest_queue_and_of_equal_ones_the_one_with_fewer_tasks() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1), RuntimeInfo("b", slots=1))
    scheduler.use_strategy("shortest_queue")
    teach(scheduler, options("m:long"), "a", 10.0)
    teach(scheduler, options("m:short"), "a", 1.0)
    scheduler.enqueue_many(options("m:long"), new_task_ids(1), 0.0)
    sent = committed(scheduler, 0.0)
    scheduler.enqueue_many(options("m:short"), new_task_ids(4), 0.0)
    sent += committed(scheduler, 0.0)
    assert [runtime for runtime, _ in sent] == ["a", "b"]
    counts = {each.runtime: each.planned + each.committed + each.running for each in scheduler.queues("", 0.0)}
    assert sorted(counts.values()) == [1, 4], "four seconds of short ones are less than ten"


def test_s42_a_runtime_that_joins_has_work_at_once() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    for strategy in ("headway_completion", "shortest_queue", "round_robin"):
        scheduler.use_strategy(strategy)
        scheduler.enqueue_many(options(), new_task_ids(6), 0.0)
        committed(scheduler, 0.0)
        scheduler.add_runtime(RuntimeInfo(f"new-{strategy}", slots=1), 1.0)
        scheduler.enqueue_many(options(), new_task_ids(6), 1.0)
        assert f"new-{strategy}" in {runtime for runtime, _ in committed(scheduler, 1.0)}


def test_s41_a_draining_runtime_keeps_what_runs_and_its_plan_moves() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1), RuntimeInfo("b", slots=1))
    scheduler.use_strategy("round_robin")
    scheduler.enqueue_many(options(), new_task_ids(6), 0.0)
    running = dict(committed(scheduler, 0.0))
    for runtime, task in running.items():
        scheduler.started(runtime, task, options(), 0.0)
    assert planned(scheduler, 0.0) == {"a": 2, "b": 2}
    scheduler.drain("a", True)
    committed(scheduler, 1.0)
    assert planned(scheduler, 1.0) == {"a": 0, "b": 4}
    assert state_of(scheduler, "a", 1.0).running == 1
    finish(scheduler, "a", running["a"], 1.0, 2.0)
    assert committed(scheduler, 2.0) == []
