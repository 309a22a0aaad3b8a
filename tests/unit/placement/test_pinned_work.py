"""Tasks that name their runtime: they wait for it, cost nothing while it has no room, and go when it has some."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from placement_cases import committed, finish, options, teach, with_runtimes

from headway_bus.ids import TaskId, new_task_ids
from headway_bus.records import Options, Requirements, RuntimeInfo
from headway_controller.placement import Scheduler
from headway_controller.placement.fleet import Choice, Fleet
from headway_controller.placement.work import Work

Held = dict[str, TaskId]


def on(runtime: str, **fields: object) -> Options:
    return options(requirements=Requirements(runtime=runtime), **fields)


def one_each(scheduler: Scheduler, names: list[str], now: float) -> Held:
    """A task for each of these runtimes."""
    held = {}
    for name, task in zip(names, new_task_ids(len(names)), strict=True):
        scheduler.enqueue(task, on(name), now)
        held[name] = task
    return held


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The runtimes named by the work for which one was chosen, or looked for in vain."""
    seen: list[str] = []
    choose = Fleet.choose

    def note(fleet: Fleet, work: Work, now: float, later: float = 0.0) -> Choice | None:
        seen.append(work.demand.runtime)
        return choose(fleet, work, now, later)

    monkeypatch.setattr(Fleet, "choose", note)
    yield seen


def test_work_for_runtimes_without_room_is_not_looked_at(chosen: list[str]) -> None:
    names = [f"r{number}" for number in range(100)]
    scheduler = with_runtimes(*(RuntimeInfo(name, slots=1) for name in names))
    running = one_each(scheduler, names, 0.0)
    assert len(committed(scheduler, 0.0)) == 100
    waiting = one_each(scheduler, names, 1.0)
    chosen.clear()
    assert scheduler.dispatcher.dispatch(1.0) == [] and chosen == []
    finish(scheduler, "r7", running["r7"], 1.0, 2.0)
    (commit,) = scheduler.dispatcher.dispatch(2.0)
    assert (commit.runtime, commit.tasks) == ("r7", [waiting["r7"]]) and chosen == ["r7"]


def test_a_runtime_that_may_be_used_again_gets_what_waits_for_it(chosen: list[str]) -> None:
    scheduler = with_runtimes(*(RuntimeInfo(name, slots=1) for name in ("drains", "aside")))
    waiting = one_each(scheduler, ["drains", "aside", "away"], 0.0)
    scheduler.drain("drains", True)
    scheduler.set_aside("aside", "it fails", 30.0)
    chosen.clear()
    assert scheduler.dispatcher.dispatch(1.0) == [] and chosen == []
    assert scheduler.next_wake() == 30.0
    assert committed(scheduler, 30.0) == [("aside", waiting["aside"])]
    scheduler.drain("drains", False)
    assert committed(scheduler, 31.0) == [("drains", waiting["drains"])]
    scheduler.add_runtime(RuntimeInfo("away", slots=1), 32.0)
    assert committed(scheduler, 32.0) == [("away", waiting["away"])]


def test_short_work_is_committed_ahead_and_again_before_the_runtime_runs_dry() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1), round_trip=0.1)
    kind = on("a")
    teach(scheduler, kind, "a", 0.01, 50)
    tasks = new_task_ids(200)
    scheduler.enqueue_many(kind, tasks, 0.0)
    held = [task for _, task in committed(scheduler, 0.0)]
    assert 10 < len(held) < 100
    now = 0.05
    least = len(held)
    done = []
    while held and len(done) < 100:
        task = held.pop(0)
        now += 0.01
        scheduler.started_many("a", [(task, 0.01)], now)
        finish(scheduler, "a", task, 0.01, now)
        done.append(task)
        least = min(least, len(held))
        held += [each for _, each in committed(scheduler, now)]
    assert done == tasks[:100] and least > 10, "a round trip of work is there all the time"


def test_an_edge_gets_what_it_may_begin_while_it_is_cut_off() -> None:
    scheduler = with_runtimes(RuntimeInfo("e", slots=1, edge=True))
    first, *others = new_task_ids(5)
    scheduler.enqueue(first, on("e"), 0.0)
    assert committed(scheduler, 0.0) == [("e", first)]
    scheduler.enqueue_many(on("e", offline=60.0), others, 1.0)
    assert [task for _, task in committed(scheduler, 1.0)] == others


def test_what_an_edge_gets_only_when_all_of_it_is_free_is_not_looked_at_before(chosen: list[str]) -> None:
    scheduler = with_runtimes(RuntimeInfo("e", slots=1, cpu=1.0, edge=True))
    kind = options(requirements=Requirements(runtime="e", cpu=1.0), offline=60.0)
    first, second = new_task_ids(2)
    scheduler.enqueue_many(kind, (first, second), 0.0)
    assert committed(scheduler, 0.0) == [("e", first)]
    chosen.clear()
    assert scheduler.dispatcher.dispatch(1.0) == [] and chosen == []
    finish(scheduler, "e", first, 1.0, 2.0)
    assert committed(scheduler, 2.0) == [("e", second)]
