"""Whose turn it is among many lanes: the same as if all were compared at every decision, in steps that grow with the lanes."""

from __future__ import annotations

import random

import pytest
from placement_cases import calls_of, committed, finish, options, with_runtimes

from headway_bus.ids import new_task_ids
from headway_bus.records import Requirements, RuntimeInfo
from headway_controller.placement import Scheduler
from headway_controller.placement.contest import Alone, Contest
from headway_controller.placement.lanes import Lane


def calls(scheduler: Scheduler, now: float) -> int:
    """Calls of Python functions that a dispatch makes."""
    return calls_of(lambda: scheduler.dispatcher.dispatch(now))


def union_of(parts: int, present: int) -> Scheduler:
    """A part for each of so many edges, of which so many are there."""
    scheduler = with_runtimes(*(RuntimeInfo(f"e{number}", slots=1, edge=True) for number in range(present)))
    for number, task in enumerate(new_task_ids(parts)):
        scheduler.enqueue(task, options(requirements=Requirements(runtime=f"e{number}")), 0.0, "a client")
    return scheduler


def test_giving_out_a_union_takes_steps_in_proportion_to_its_parts() -> None:
    few, many = calls(union_of(200, 200), 0.0), calls(union_of(1_600, 1_600), 0.0)
    assert many < 8.5 * few, f"{few} calls for 200 parts, {many} for 1,600"


def test_what_waits_for_runtimes_that_are_away_costs_the_decisions_of_others_nothing() -> None:
    steps = []
    for parts in (10, 2_000):
        scheduler = union_of(parts, 0)
        scheduler.dispatcher.dispatch(0.0)
        scheduler.add_runtime(RuntimeInfo("here", slots=1), 1.0)
        scheduler.dispatcher.dispatch(1.0)
        scheduler.enqueue(new_task_ids(1)[0], options(), 2.0)
        steps.append(calls(scheduler, 2.0))
    assert steps[0] == steps[1]


def test_a_part_is_given_out_when_its_runtime_comes_though_it_was_looked_at_in_vain() -> None:
    scheduler = union_of(3, 1)
    ((first, held),) = committed(scheduler, 0.0)
    assert first == "e0" and committed(scheduler, 1.0) == []
    scheduler.add_runtime(RuntimeInfo("e2", slots=1, edge=True), 2.0)
    assert [name for name, _ in committed(scheduler, 2.0)] == ["e2"]
    scheduler.enqueue(new_task_ids(1)[0], options(requirements=Requirements(runtime="e0")), 3.0, "a client")
    assert committed(scheduler, 3.0) == []
    finish(scheduler, "e0", held, 1.0, 4.0)
    assert [name for name, _ in committed(scheduler, 4.0)] == ["e0"]


def lanes_of(source: random.Random) -> list[Lane]:
    """Lanes of several namespaces and clients, with tasks of several priorities and times of arrival."""
    scheduler = Scheduler()
    scheduler.backlog.shares.weights["n1"] = 3.0
    for task in new_task_ids(source.randrange(1, 60)):
        wanted = Requirements(runtime=source.choice(("", "a", "b", "c")), slots=source.choice((1.0, 2.0)))
        kind = options(
            f"m:f{source.randrange(3)}",
            namespace=f"n{source.randrange(3)}",
            priority=source.randrange(3),
            requirements=wanted,
        )
        scheduler.enqueue(task, kind, source.choice((0.0, 0.0, 1.0, 400.0)), f"c{source.randrange(4)}")
    return list(scheduler.backlog.busy_lanes())


def least(lanes: list[Lane], now: float) -> Lane:
    """Whose turn it is, by comparing all."""

    def key(lane: Lane) -> tuple[float, ...]:
        found = lane.first(now)
        assert found is not None
        level, _, bucket = found
        return lane.line.share.had, -level, lane.line.had, bucket.head_key, lane.serial

    return min(lanes, key=key)


@pytest.mark.parametrize("seed", range(60))
def test_the_order_is_that_of_a_comparison_of_all(seed: int) -> None:
    source = random.Random(seed)
    lanes, now = lanes_of(source), 500.0
    contest = Contest(lanes, now) if len(lanes) > 1 else Alone(lanes[0], now)
    while (chosen := contest.head()) is not None:
        lane, tier, bucket = chosen
        assert lane is least(lanes, now)
        if source.random() < 0.2:
            contest.drop()
            lanes.remove(lane)
            continue
        lane.take(tier, bucket, 1)
        cost = source.choice((0.0, 1.0, 1.0, 5.0))
        lane.line.had += cost
        lane.line.share.had += cost / lane.line.share.weight
        if not lane.count:
            lanes.remove(lane)
        contest.again()
    assert lanes == []
