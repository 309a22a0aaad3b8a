"""Fair shares: between namespaces by weight, within one by priority and then between its clients; nobody saves up idle time."""

from __future__ import annotations

from collections import Counter

from placement_cases import committed, finish, options, teach, with_runtimes

from headway_bus.ids import TaskId, new_task_ids
from headway_bus.records import Options, RuntimeInfo
from headway_controller.placement import Scheduler
from headway_controller.placement.fairness import LINES
from headway_controller.placement.strategies import BUILT_IN, DEFAULT


def shares_of(
    scheduler: Scheduler, whose: dict[TaskId, str], turns: int, lengths: dict[str, float] | None = None
) -> Counter[str]:
    """How many of whose tasks one slot gets to in so many turns."""
    found: Counter[str] = Counter()
    now = 0.0
    for _ in range(turns):
        for runtime, task in committed(scheduler, now):
            found[whose[task]] += 1
            seconds = (lengths or {}).get(whose[task], 1.0)
            now += seconds
            finish(scheduler, runtime, task, seconds, now)
    return found


def line_up(scheduler: Scheduler, kinds: dict[str, Options], count: int = 1000) -> dict[TaskId, str]:
    whose = {}
    for name, kind in kinds.items():
        tasks = new_task_ids(count)
        scheduler.enqueue_many(kind, tasks, 0.0, name)
        whose.update(dict.fromkeys(tasks, name))
    return whose


def test_one_task_of_another_client_is_next_though_a_million_wait() -> None:
    """Within the namespace, and without keys, where every client is in the same one."""
    for theirs in (options(), options(namespace="theirs")):
        scheduler = with_runtimes(RuntimeInfo("a", slots=2))
        teach(scheduler, theirs, "a", 0.5)
        million = options()
        ids = [TaskId(number.to_bytes(16, "big")) for number in range(1_000_000)]
        scheduler.enqueue_many(million, ids, 0.0, "alice")
        started = committed(scheduler, 0.0)
        assert started
        (one,) = new_task_ids(1)
        scheduler.enqueue(one, theirs, 0.1, "bob")
        for runtime, task in started[:1]:
            finish(scheduler, runtime, task, 0.5, 0.5)
        assert committed(scheduler, 0.5)[0][1] == one


def test_namespaces_share_by_weight() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    scheduler.backlog.shares.weights = {"red": 3.0}
    kinds = {"red": options(namespace="red"), "blue": options(namespace="blue")}
    for kind in kinds.values():
        teach(scheduler, kind, "a", 1.0, 50)
    found = shares_of(scheduler, line_up(scheduler, kinds), 400)
    assert abs(found["red"] - 300) <= 3


def test_shares_are_of_work_and_not_of_tasks() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    long, short = options("m:long", namespace="long"), options("m:short", namespace="short")
    teach(scheduler, long, "a", 10.0, 50)
    teach(scheduler, short, "a", 1.0, 50)
    found = shares_of(scheduler, line_up(scheduler, {"long": long, "short": short}), 220, {"long": 10.0})
    assert abs(found["short"] - 200) <= 10


def test_a_priority_counts_within_a_namespace_and_not_beyond_it() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    kinds = {
        "low": options(namespace="red"),
        "high": options(namespace="red", priority=5),
        "other": options(namespace="blue"),
    }
    for kind in kinds.values():
        teach(scheduler, kind, "a", 1.0, 50)
    found = shares_of(scheduler, line_up(scheduler, kinds), 100)
    assert found["low"] == 0
    assert abs(found["high"] - found["other"]) <= 1


def test_whoever_was_idle_has_saved_nothing_up() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    kinds = {"early": options(namespace="early"), "late": options(namespace="late")}
    for kind in kinds.values():
        teach(scheduler, kind, "a", 1.0, 50)
    whose = line_up(scheduler, {"early": kinds["early"]})
    assert shares_of(scheduler, whose, 200) == {"early": 200}
    whose |= line_up(scheduler, {"late": kinds["late"]})
    found = shares_of(scheduler, whose, 100)
    assert abs(found["early"] - found["late"]) <= 2


def test_clients_beyond_those_that_have_a_line_share_one_and_are_found_again() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    kind = options()
    tasks = new_task_ids(2 * LINES)
    for place, task in enumerate(tasks):
        scheduler.enqueue(task, kind, 0.0, f"client{place}")
    scheduler.validate()
    for place, task in enumerate(tasks):
        scheduler.remove(task, kind, f"client{place}")
        scheduler.validate()
    assert scheduler.queued == 0


def test_strict_order_of_arrival_is_for_all_the_clients_of_a_namespace() -> None:
    scheduler = Scheduler(fifo_queues=["line"])
    scheduler.add_runtime(RuntimeInfo("a", slots=1), 0.0)
    kind = options(queue="line")
    tasks = new_task_ids(20)
    for place, task in enumerate(tasks):
        scheduler.enqueue(task, kind, float(place), "alice" if place % 5 else "bob")
    order = []
    for turn in range(20):
        for runtime, task in committed(scheduler, 20.0 + turn):
            order.append(task)
            finish(scheduler, runtime, task, 1.0, 21.0 + turn)
    assert order == tasks


def test_who_waits_in_which_line_survives_a_change_of_strategy() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    kind = options()
    tasks = {name: new_task_ids(3) for name in ("alice", "bob")}
    for name, ids in tasks.items():
        scheduler.enqueue_many(kind, ids, 0.0, name)
    for strategy in (*BUILT_IN, DEFAULT):
        scheduler.use_strategy(strategy)
        scheduler.validate()
    for name, ids in tasks.items():
        for task in ids:
            scheduler.remove(task, kind, name)
            scheduler.validate()
    assert scheduler.queued == 0


def test_a_wait_is_foretold_by_whose_it_is() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    kind = options()
    teach(scheduler, kind, "a", 1.0, 50)
    scheduler.enqueue_many(kind, new_task_ids(1000), 0.0, "alice")
    assert scheduler.expectation(kind, 0.0, "alice").seconds > 500.0
    assert scheduler.expectation(kind, 0.0, "bob").seconds < 5.0
