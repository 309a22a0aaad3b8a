"""Taking back: only what has not started, only where it helps, once, and all of it from a runtime that is closed."""

from __future__ import annotations

from placement_cases import committed, finish, options, teach, with_runtimes

from headway_bus.ids import TaskId, new_task_ids
from headway_bus.records import Options, RuntimeInfo
from headway_controller.placement import Scheduler


def stuck() -> tuple[Scheduler, Options, TaskId, TaskId, TaskId]:
    """Two runtimes behind long links; "a" runs a task and holds another, and "b" has just finished its only one."""
    scheduler = with_runtimes(RuntimeInfo("a", slots=1), RuntimeInfo("b", slots=1), round_trip=0.2)
    kind = options()
    teach(scheduler, kind, "a", 0.3, 50)
    first, second, third = new_task_ids(3)
    scheduler.enqueue_many(kind, [first, second, third], 0.0)
    sent = committed(scheduler, 0.0)
    held = {name: [task for runtime, task in sent if runtime == name] for name in "ab"}
    (loaded,) = [name for name, tasks in held.items() if len(tasks) == 2]
    assert loaded == "a"
    scheduler.started_many("a", [(held["a"][0], 0.0)], 0.2)
    scheduler.started_many("b", [(held["b"][0], 0.0)], 0.2)
    return scheduler, kind, held["a"][0], held["a"][1], held["b"][0]


def test_unstarted_work_is_asked_back_for_a_runtime_that_runs_dry() -> None:
    scheduler, kind, _, waiting, other = stuck()
    finish(scheduler, "b", other, 0.1, 0.3)
    assert committed(scheduler, 0.3) == []
    # The attempt on "a" runs on: 5 s after its start it is not expected to end soon.
    assert scheduler.take_backs(5.0) == [("a", [waiting])]
    scheduler.validate()
    assert scheduler.take_backs(5.0) == [], "asked for once"
    assert scheduler.returned("a", waiting, 5.2)
    scheduler.enqueue(waiting, kind, 0.0)
    assert committed(scheduler, 5.2) == [("b", waiting)]


def test_what_starts_before_the_answer_stays_where_it_is() -> None:
    scheduler, _, running, waiting, other = stuck()
    finish(scheduler, "b", other, 0.1, 0.3)
    assert committed(scheduler, 0.3) == []
    assert scheduler.take_backs(5.0) == [("a", [waiting])]
    finish(scheduler, "a", running, 5.0, 5.1)
    scheduler.started_many("a", [(waiting, 0.0)], 5.1)
    scheduler.validate()
    assert not scheduler.fleet.books["a"].recalled
    assert waiting in scheduler.fleet.books["a"].running


def test_nothing_is_asked_back_while_it_will_start_sooner_where_it_is() -> None:
    scheduler, _, _, _, other = stuck()
    finish(scheduler, "b", other, 0.1, 0.3)
    assert committed(scheduler, 0.3) == []
    assert scheduler.take_backs(0.35) == []


def test_a_draining_runtime_is_asked_for_all_that_has_not_started() -> None:
    scheduler, _, _, waiting, _ = stuck()
    scheduler.drain("a", True)
    assert scheduler.take_backs(0.3) == [("a", [waiting])]
    assert scheduler.take_backs(0.3) == []
    scheduler.validate()


def test_a_lost_runtime_forgets_what_was_asked_back() -> None:
    scheduler, _, running, waiting, _ = stuck()
    scheduler.drain("a", True)
    assert scheduler.take_backs(0.3)
    assert sorted(scheduler.remove_runtime("a")) == sorted([running, waiting])
    assert scheduler.fleet.outstanding() == 0
    assert not scheduler.returned("a", waiting, 0.4)
