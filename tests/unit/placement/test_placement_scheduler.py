"""The scheduler: commits, books, order, candidates."""

from __future__ import annotations

import math

from placement_cases import committed, finish, options, teach, with_runtimes

from headway_bus.ids import new_task_ids
from headway_bus.records import Kind, Options, Requirements, RuntimeInfo
from headway_controller.placement import Scheduler


def test_unknown_work_is_committed_to_free_slots_and_no_further() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=2), RuntimeInfo("b", slots=1), round_trip=1.0)
    tasks = new_task_ids(10)
    scheduler.enqueue_many(options(), tasks, 0.0)
    sent = committed(scheduler, 0.0)
    assert sorted(runtime for runtime, _ in sent) == ["a", "a", "b"]
    assert {task for _, task in sent} == set(tasks[:3])
    assert scheduler.queued == 7
    assert committed(scheduler, 0.1) == []


def test_a_finished_attempt_makes_room_for_the_next_in_order() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    first, second = new_task_ids(2)
    kind = options()
    scheduler.enqueue(first, kind, 0.0)
    scheduler.enqueue(second, kind, 0.0)
    assert committed(scheduler, 0.0) == [("a", first)]
    finish(scheduler, "a", first, 1.0, 1.0)
    assert committed(scheduler, 1.0) == [("a", second)]


def test_short_tasks_are_committed_ahead_by_the_hundred_and_long_ones_are_not() -> None:
    for seconds, least, most in ((0.0005, 100, 1000), (60.0, 4, 4)):
        scheduler = with_runtimes(RuntimeInfo("a", slots=4), round_trip=0.02)
        kind = options()
        teach(scheduler, kind, "a", seconds, 200)
        scheduler.enqueue_many(kind, new_task_ids(10_000), 0.0)
        assert least <= len(committed(scheduler, 0.0)) <= most


def test_the_faster_runtime_gets_the_task() -> None:
    scheduler = with_runtimes(RuntimeInfo("slow", slots=1), RuntimeInfo("fast", slots=1, speed=4.0))
    teach(scheduler, options(), "slow", 1.0)
    scheduler.enqueue_many(options(), new_task_ids(1), 0.0)
    assert [runtime for runtime, _ in committed(scheduler, 0.0)] == ["fast"]


def test_priority_goes_first_then_the_shortest_expected() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    long, short, urgent = options("m:long"), options("m:short"), options("m:long", priority=1)
    teach(scheduler, long, "a", 10.0)
    teach(scheduler, short, "a", 0.1)
    a, b, c = new_task_ids(3)
    scheduler.enqueue(a, long, 0.0)
    scheduler.enqueue(b, short, 0.0)
    scheduler.enqueue(c, urgent, 0.0)
    order = []
    for step in range(3):
        ((_, task),) = committed(scheduler, float(step))
        order.append(task)
        finish(scheduler, "a", task, 0.5, step + 0.5)
    assert order == [c, b, a]


def test_a_fifo_queue_keeps_the_order_of_arrival() -> None:
    scheduler = Scheduler(fifo_queues=["line"])
    scheduler.add_runtime(RuntimeInfo("a", slots=1), 0.0)
    long, short = options("m:long", queue="line"), options("m:short", queue="line")
    teach(scheduler, long, "a", 10.0)
    teach(scheduler, short, "a", 0.1)
    a, b = new_task_ids(2)
    scheduler.enqueue(a, long, 0.0)
    scheduler.enqueue(b, short, 0.0)
    assert committed(scheduler, 0.0) == [("a", a)]


def test_ten_equal_tasks_on_three_equal_runtimes_spread_four_three_three() -> None:
    scheduler = with_runtimes(*(RuntimeInfo(name, slots=4) for name in "abc"))
    scheduler.enqueue_many(options(), new_task_ids(10), 0.0)
    counts: dict[str, int] = {}
    for runtime, _ in committed(scheduler, 0.0):
        counts[runtime] = counts.get(runtime, 0) + 1
    assert sorted(counts.values()) == [3, 3, 4]


def test_a_lost_runtime_gives_its_tasks_back_once() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=3))
    tasks = new_task_ids(3)
    scheduler.enqueue_many(options(), tasks, 0.0)
    assert len(committed(scheduler, 0.0)) == 3
    lost = scheduler.remove_runtime("a")
    assert sorted(lost) == sorted(tasks)
    scheduler.add_runtime(RuntimeInfo("b", slots=3), 1.0)
    scheduler.enqueue_many(options(), lost, 0.0)
    assert sorted(task for _, task in committed(scheduler, 1.0)) == sorted(tasks)


def test_a_removed_task_is_not_committed_and_may_come_back() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    kind = options()
    first, second, third = new_task_ids(3)
    scheduler.enqueue_many(kind, [first, second, third], 0.0)
    scheduler.remove(first, kind)
    scheduler.remove(second, kind)
    assert scheduler.queued == 1
    assert committed(scheduler, 0.0) == [("a", third)]
    scheduler.enqueue(second, kind, 0.0)
    finish(scheduler, "a", third, 1.0, 1.0)
    assert committed(scheduler, 1.0) == [("a", second)]


def test_candidates_by_labels_name_kind_pattern_and_code_by_value() -> None:
    scheduler = with_runtimes(
        RuntimeInfo("plain", slots=9),
        RuntimeInfo("labelled", slots=9, labels={"zone": "x"}),
        RuntimeInfo("narrow", slots=9, serves=["call:ocr.*"]),
        RuntimeInfo("model", slots=9, serves=["model:llm"]),
        RuntimeInfo("trusting", slots=9, by_value=True, serves=["call"]),
    )
    cases = {
        "labelled": options(requirements=Requirements(labels={"zone": "x"})),
        "narrow": options(requirements=Requirements(runtime="narrow"), target="ocr.page:read"),
        "model": Options(Kind.MODEL, "llm"),
        "trusting": options(by_value=True),
        "plain": options(requirements=Requirements(runtime="plain")),
    }
    for runtime, kind in cases.items():
        scheduler.enqueue_many(kind, new_task_ids(1), 0.0)
        assert [name for name, _ in committed(scheduler, 0.0)] == [runtime]
    scheduler.enqueue_many(options(requirements=Requirements(runtime="narrow")), new_task_ids(1), 0.0)
    assert committed(scheduler, 0.0) == []


def test_scarce_resources_are_never_exceeded() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=8, gpus=["g0", "g1"], memory=10, cpu=4, custom={"licence": 1}))
    half = options(requirements=Requirements(gpu=0.5))
    scheduler.enqueue_many(half, new_task_ids(9), 0.0)
    assert len(committed(scheduler, 0.0)) == 4
    scheduler = with_runtimes(RuntimeInfo("a", slots=8, gpus=["g0", "g1"], memory=10, cpu=4, custom={"licence": 1}))
    scheduler.enqueue_many(options(requirements=Requirements(custom={"licence": 1})), new_task_ids(3), 0.0)
    assert len(committed(scheduler, 0.0)) == 1
    scheduler.enqueue_many(options(requirements=Requirements(memory=4)), new_task_ids(3), 0.0)
    assert len(committed(scheduler, 0.0)) == 2


def test_three_start_failures_in_a_row_set_a_runtime_aside_and_it_is_tried_again() -> None:
    scheduler = with_runtimes(RuntimeInfo("bad", slots=1))
    kind = options()
    tasks = new_task_ids(5)
    scheduler.enqueue_many(kind, tasks, 0.0)
    for step in range(3):
        ((_, task),) = committed(scheduler, float(step))
        scheduler.start_failed("bad", task, step + 0.5, "no module named torch")
    assert committed(scheduler, 4.0) == []
    (notice,) = scheduler.notices()
    assert notice.kind == "set-aside"
    assert "torch" in notice.text
    assert scheduler.next_wake() < math.inf
    assert len(committed(scheduler, scheduler.next_wake())) == 1
    assert [notice.kind for notice in scheduler.notices()] == ["tried-again"]


def test_a_runtime_that_was_started_anew_is_not_said_to_be_tried_again() -> None:
    scheduler = with_runtimes(RuntimeInfo("bad", slots=1))
    scheduler.set_aside("bad", "it fails", 30.0)
    scheduler.remove_runtime("bad")
    scheduler.add_runtime(RuntimeInfo("bad", slots=1), 1.0)
    scheduler.enqueue(new_task_ids(1)[0], options(), 1.0)
    assert len(committed(scheduler, 1.0)) == 1
    assert committed(scheduler, 30.0) == [] and scheduler.notices() == []


def test_a_draining_runtime_gets_nothing_until_it_is_resumed() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    scheduler.drain("a", True)
    scheduler.enqueue_many(options(), new_task_ids(1), 0.0)
    assert committed(scheduler, 0.0) == []
    scheduler.drain("a", False)
    assert len(committed(scheduler, 1.0)) == 1


def test_what_a_runtime_holds_is_adopted_and_counted() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=2))
    running, held = new_task_ids(2)
    scheduler.adopt("a", running, options(), 5.0, age=3.0)
    scheduler.adopt("a", held, options(), 5.0)
    scheduler.enqueue_many(options(), new_task_ids(1), 5.0)
    assert committed(scheduler, 5.0) == []
    finish(scheduler, "a", running, 3.0, 6.0)
    assert len(committed(scheduler, 6.0)) == 1


def test_a_new_pattern_moves_waiting_tasks_to_where_they_may_go() -> None:
    scheduler = with_runtimes(RuntimeInfo("other", slots=1, serves=["command"]))
    tasks = new_task_ids(2)
    scheduler.enqueue_many(options("ocr.page:read"), tasks, 0.0)
    assert committed(scheduler, 0.0) == []
    scheduler.add_runtime(RuntimeInfo("new", slots=2, serves=["call:ocr.*"]), 1.0)
    assert sorted(committed(scheduler, 1.0)) == sorted(("new", task) for task in tasks)
