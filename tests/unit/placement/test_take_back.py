"""Taking back: only what has not started, only where it helps, once, and all of it from a runtime that is closed."""

from __future__ import annotations

import gc
from typing import NamedTuple

import pytest
from placement_cases import calls_of, committed, finish, options, teach, with_runtimes

from headway_bus.ids import TaskId, new_task_ids
from headway_bus.records import Options, Requirements, RuntimeInfo
from headway_controller.placement import Scheduler


class Stuck(NamedTuple):
    """Two runtimes behind long links: ``loaded`` runs a task and holds another, ``other`` runs the third."""

    scheduler: Scheduler
    kind: Options
    loaded: str
    running: TaskId
    waiting: TaskId
    other: str
    third: TaskId


def stuck() -> Stuck:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1), RuntimeInfo("b", slots=1), round_trip=0.2)
    kind = options()
    teach(scheduler, kind, "a", 0.1, 50)
    scheduler.enqueue_many(kind, new_task_ids(3), 0.0)
    held: dict[str, list[TaskId]] = {}
    for runtime, task in committed(scheduler, 0.0):
        held.setdefault(runtime, []).append(task)
    (other, (third,)), (loaded, (running, waiting)) = sorted(held.items(), key=lambda item: len(item[1]))
    scheduler.started_many(loaded, [(running, 0.0)], 0.2)
    scheduler.started_many(other, [(third, 0.0)], 0.2)
    return Stuck(scheduler, kind, loaded, running, waiting, other, third)


def test_unstarted_work_is_asked_back_for_a_runtime_that_runs_dry() -> None:
    world = stuck()
    scheduler = world.scheduler
    finish(scheduler, world.other, world.third, 0.1, 0.3)
    assert committed(scheduler, 0.3) == []
    # The attempt before it runs on: 5 s after its start it is not expected to end soon.
    assert scheduler.take_backs(5.0) == [(world.loaded, [world.waiting])]
    scheduler.validate()
    assert scheduler.take_backs(5.0) == [], "asked for once"
    assert scheduler.returned(world.loaded, world.waiting, 5.2)
    scheduler.enqueue(world.waiting, world.kind, 0.0)
    assert committed(scheduler, 5.2) == [(world.other, world.waiting)]


def test_what_starts_before_the_answer_stays_where_it_is() -> None:
    world = stuck()
    scheduler = world.scheduler
    finish(scheduler, world.other, world.third, 0.1, 0.3)
    assert committed(scheduler, 0.3) == []
    assert scheduler.take_backs(5.0) == [(world.loaded, [world.waiting])]
    finish(scheduler, world.loaded, world.running, 5.0, 5.1)
    scheduler.started_many(world.loaded, [(world.waiting, 0.0)], 5.1)
    scheduler.validate()
    assert not scheduler.fleet.books[world.loaded].recalled
    assert world.waiting in scheduler.fleet.books[world.loaded].running


def test_a_task_that_is_stuck_is_asked_back_though_nobody_is_free() -> None:
    world = stuck()
    assert world.scheduler.take_backs(30.0) == [(world.loaded, [world.waiting])]


def test_nothing_is_asked_back_while_it_will_start_sooner_where_it_is() -> None:
    world = stuck()
    finish(world.scheduler, world.other, world.third, 0.1, 0.3)
    assert committed(world.scheduler, 0.3) == []
    assert world.scheduler.take_backs(0.31) == []


def test_a_draining_runtime_is_asked_for_all_that_has_not_started() -> None:
    world = stuck()
    world.scheduler.drain(world.loaded, True)
    assert world.scheduler.take_backs(0.3) == [(world.loaded, [world.waiting])]
    assert world.scheduler.take_backs(0.3) == []
    world.scheduler.validate()


@pytest.mark.parametrize("name", ["headway_completion", "round_robin"])
def test_a_machine_that_is_set_aside_gives_back_what_it_has_not_started(name: str) -> None:
    world = stuck()
    scheduler = world.scheduler
    scheduler.use_strategy(name)
    scheduler.set_aside(world.loaded, "it fails", 100.0)
    assert scheduler.take_backs(0.3, paused=True) == [(world.loaded, [world.waiting])]
    assert scheduler.returned(world.loaded, world.waiting, 0.4)
    scheduler.enqueue(world.waiting, world.kind, 0.0)
    finish(scheduler, world.other, world.third, 0.1, 0.4)
    assert committed(scheduler, 0.4) == [(world.other, world.waiting)]


def test_while_nothing_is_given_out_nothing_is_asked_back_for_another() -> None:
    world = stuck()
    assert world.scheduler.take_backs(30.0, paused=True) == []
    assert world.scheduler.take_backs(30.0) == [(world.loaded, [world.waiting])]


def test_a_lost_runtime_forgets_what_was_asked_back() -> None:
    world = stuck()
    world.scheduler.drain(world.loaded, True)
    assert world.scheduler.take_backs(0.3)
    assert sorted(world.scheduler.remove_runtime(world.loaded)) == sorted([world.running, world.waiting])
    assert world.scheduler.fleet.recalls.count == 0
    assert not world.scheduler.returned(world.loaded, world.waiting, 0.4)


def test_calls_are_counted_without_those_of_a_collection_of_garbage() -> None:
    def note(phase: str, _: object) -> None:
        """As somebody else in the process may have it called."""

    def make_garbage() -> None:
        kept = []
        for _ in range(100):
            kept.append([kept])

    before = gc.get_threshold()
    gc.callbacks.append(note)
    gc.set_threshold(1)
    try:
        assert calls_of(make_garbage) == 1
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(note)


def test_what_to_ask_back_costs_the_same_to_find_however_much_is_on_its_way_back() -> None:
    steps = []
    for closed in (2, 200):
        world = stuck()
        scheduler = world.scheduler
        for number, task in enumerate(new_task_ids(closed)):
            scheduler.add_runtime(RuntimeInfo(f"closed-{number}", slots=1), 0.2)
            scheduler.enqueue(task, options(requirements=Requirements(runtime=f"closed-{number}")), 0.2)
        assert len(committed(scheduler, 0.2)) == closed
        for number in range(closed):
            scheduler.drain(f"closed-{number}", True)
        finish(scheduler, world.other, world.third, 0.1, 0.3)
        assert committed(scheduler, 0.3) == []
        assert len(scheduler.take_backs(0.3)) == closed == scheduler.fleet.recalls.count
        scheduler.fleet.holders = {scheduler.fleet.books[world.loaded]: None}
        # Room for one, and more than one is on its way to it.
        steps.append(calls_of(lambda: scheduler.take_backs(5.0)))  # noqa: B023  # called at once
        scheduler.validate()
        assert scheduler.fleet.recalls.count == closed
    assert steps[0] == steps[1]
