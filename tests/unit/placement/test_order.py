"""Order: ageing among sizes and priorities, batches of a map, tasks that come back, expectations that change."""

from __future__ import annotations

from itertools import pairwise

from placement_cases import committed, finish, options, teach, with_runtimes

from headway_bus.ids import new_task_ids
from headway_bus.records import RuntimeInfo
from headway_controller.placement.lanes import PRIORITY_AGEING


def test_a_long_task_is_not_starved_by_a_stream_of_short_ones() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    long, short = options("m:long"), options("m:short")
    teach(scheduler, long, "a", 10.0, 50)
    teach(scheduler, short, "a", 1.0, 50)
    (patient,) = new_task_ids(1)
    scheduler.enqueue(patient, long, 0.0)
    scheduler.enqueue_many(short, new_task_ids(2), 0.0)
    now = 0.0
    while now < 1000.0:
        for runtime, task in committed(scheduler, now):
            if task == patient:
                assert 150.0 < now < 250.0
                return
            finish(scheduler, runtime, task, 1.0, now + 1.0)
        now += 1.0
        scheduler.enqueue_many(short, new_task_ids(1), now)
    raise AssertionError("the long task never had its turn")


def test_a_low_priority_is_not_starved_by_a_stream_of_higher_ones() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    low, high = options(priority=0), options(priority=2)
    teach(scheduler, low, "a", 1.0, 50)
    (patient,) = new_task_ids(1)
    scheduler.enqueue(patient, low, 0.0)
    now = 0.0
    while now < 10 * PRIORITY_AGEING:
        scheduler.enqueue_many(high, new_task_ids(2), now)
        for runtime, task in committed(scheduler, now):
            if task == patient:
                assert now > PRIORITY_AGEING
                return
            finish(scheduler, runtime, task, 1.0, now + 1.0)
        now += 1.0
    raise AssertionError("the task of low priority never had its turn")


def test_tasks_of_one_map_keep_their_order_while_their_expectation_moves() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    kind = options()
    tasks = new_task_ids(200)
    for at, task in enumerate(tasks):
        scheduler.enqueue(task, kind, at * 1e-3)
    order = []
    now = 1.0
    for turn in range(200):
        ((runtime, task),) = committed(scheduler, now)
        order.append(task)
        now += 1.0
        finish(scheduler, runtime, task, 1.5 ** (turn % 7) * 10.0, now)
    assert order == tasks


def test_what_comes_back_goes_before_what_came_later() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    kind = options()
    first, second, third = new_task_ids(3)
    for at, task in enumerate((first, second, third)):
        scheduler.enqueue(task, kind, float(at))
    assert committed(scheduler, 3.0) == [("a", first)]
    assert scheduler.returned("a", first, 4.0)
    scheduler.enqueue(first, kind, 0.0)
    assert committed(scheduler, 4.0) == [("a", first)]


def test_waiting_tasks_are_sorted_anew_when_their_run_times_become_known() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    sizes = [1.3**number for number in range(40, 0, -1)]
    tasks = dict(zip(new_task_ids(len(sizes)), sizes, strict=True))
    for task, size in tasks.items():
        scheduler.enqueue(task, options(meta={"size": 1000.0 * size}), 0.0)
    now = 0.0
    order = []
    for _ in sizes:
        ((runtime, task),) = committed(scheduler, now)
        order.append(tasks[task])
        now += 1.0
        finish(scheduler, runtime, task, tasks[task], now)
    assert order[:3] == sizes[:3], "nothing is known yet: in the order of arrival"
    falls = sum(size > following for size, following in pairwise(order[15:]))
    assert falls <= 2, "the shortest go first by then, but for those not looked at again yet"


def test_what_nobody_knows_is_not_taken_to_be_done_in_no_time() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    short = options("m:short")
    teach(scheduler, short, "a", 0.1, 50)
    teach(scheduler, options("m:long"), "a", 10.0, 50)
    (new,), (known,) = new_task_ids(1), new_task_ids(1)
    scheduler.enqueue(new, options("m:new"), 0.0)
    scheduler.enqueue(known, short, 0.0)
    assert committed(scheduler, 0.0) == [("a", known)], (
        "such tasks run about a second here, says what was seen of others"
    )


def test_a_removed_batch_leaves_nothing_behind() -> None:
    scheduler = with_runtimes()
    kind = options()
    tasks = new_task_ids(1000)
    scheduler.enqueue_many(kind, tasks, 0.0)
    for task in tasks:
        scheduler.remove(task, kind)
        scheduler.remove(task, kind)
    assert scheduler.queued == 0
    scheduler.validate()
    scheduler.enqueue_many(kind, tasks, 1.0)
    scheduler.add_runtime(RuntimeInfo("a", slots=2000), 1.0)
    assert [task for _, task in committed(scheduler, 1.0)] == tasks
