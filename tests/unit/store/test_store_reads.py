"""What listings, prefixes and counts find, and that they do not walk through the whole history for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_bench import Bench, call, end, new_tasks

from headway_bus.ids import TaskId, named_task_id, new_task_id, new_task_ids, text_of
from headway_bus.records import Status
from headway_controller.store import DropTasks, JobCount, NewTasks, TaskFilter
from headway_controller.store.listing import selection
from headway_controller.store.sqlite_store import SqliteStore

FAILED = frozenset({Status.FAILED})


def ids(bench: Bench, which: TaskFilter, limit: int = 100, before: TaskId | bytes = b"") -> list[TaskId]:
    return [task.task for task in bench.store.find_page(which, limit, before)]


def test_recovery_comes_in_pages_that_leave_nothing_out(bench: Bench) -> None:
    tasks = bench.add(25)
    bench.write(*[end(task) for task in tasks[::3]])
    pages = list(bench.store.load_unfinished(page=4))
    assert [task.task for page in pages for task in page] == [task for n, task in enumerate(tasks) if n % 3]
    assert {len(page) for page in pages} == {4}


def test_find_takes_many_and_passes_over_unknown_ones(bench: Bench) -> None:
    tasks = bench.add(2500)
    found = bench.store.find([*tasks, new_task_id()])
    assert {task.task for task in found} == set(tasks)
    assert bench.store.find([]) == []


def test_statuses_of_many(bench: Bench) -> None:
    tasks = bench.add(1500)
    bench.write(*[end(task, Status.FAILED) for task in tasks[::2]])
    expected = {task: None if n % 2 else Status.FAILED for n, task in enumerate(tasks)}
    assert bench.store.find_statuses([*tasks, new_task_id()]) == expected
    assert bench.store.find_statuses([]) == {}


def test_pages_go_from_the_newest_to_the_oldest(bench: Bench) -> None:
    tasks = [task for _ in range(5) for task in bench.add(2)]
    first = ids(bench, TaskFilter(), limit=4)
    second = ids(bench, TaskFilter(), limit=4, before=first[-1])
    third = ids(bench, TaskFilter(), limit=4, before=second[-1])
    assert first + second + third == tasks[::-1]
    assert ids(bench, TaskFilter(), before=third[-1]) == []


def test_a_page_goes_on_where_its_mark_was_purged(bench: Bench) -> None:
    tasks = [new_task_id(1_000_000.0 + n) for n in range(6)]
    bench.write(*[new_tasks([task]) for task in tasks])
    bench.write(DropTasks([tasks[3]]))
    assert ids(bench, TaskFilter(), before=tasks[3]) == [tasks[2], tasks[1], tasks[0]]
    bench.write(DropTasks([tasks[0]]))
    assert ids(bench, TaskFilter(), before=tasks[0]) == []


def test_a_listing_leaves_payloads_and_results_out(bench: Bench) -> None:
    (task,) = bench.add(payload=b"x" * 1000)
    bench.write(end(task, result=b"y" * 500))
    (found,) = bench.store.find_page(TaskFilter())
    assert found.end is not None
    assert (found.payload, found.end.result, found.end.result_size) == (b"", b"", 500)


def test_every_field_of_a_filter_filters(bench: Bench) -> None:
    (a,) = bench.add(1, call(job="roots", queue="fast", name="alpha"))
    (b,) = bench.add(1, call(job="roots", queue="slow", name="beta"))
    (c,) = bench.add(1, call("statistics:mean", queue="fast"))
    (d,) = bench.add(1, call(job="other"))
    bench.write(end(a, runtime="one"), end(b, Status.FAILED, runtime="two"))
    expected: dict[TaskFilter, list[TaskId]] = {
        TaskFilter(): [d, c, b, a],
        TaskFilter(job="roots"): [b, a],
        TaskFilter(job="none"): [],
        TaskFilter(queue="fast"): [c, a],
        TaskFilter(name="al*"): [a],
        TaskFilter(name="statistics:*"): [c],  # who gave no name is found by the target
        TaskFilter(runtime="two"): [b],
        TaskFilter(unfinished=True): [d, c],
        TaskFilter(unfinished=True, runtime="two"): [],
        TaskFilter(unfinished=True, job="other", queue="default"): [d],
        TaskFilter(unfinished=True, ends=FAILED): [d, c, b],
        TaskFilter(ends=FAILED): [b],
        TaskFilter(ends=FAILED, job="roots", queue="slow"): [b],
        TaskFilter(ends=FAILED, queue="fast"): [],
        TaskFilter(ends=frozenset({Status.SUCCEEDED, Status.FAILED}), job="roots"): [b, a],
        TaskFilter(ends=frozenset({Status.SUCCEEDED})): [a],
    }
    assert {which: ids(bench, which) for which in expected} == expected


@pytest.mark.parametrize(
    "which",
    [
        TaskFilter(job="roots"),
        TaskFilter(job="roots", unfinished=True),
        TaskFilter(unfinished=True, queue="fast"),
        TaskFilter(ends=FAILED),
        TaskFilter(ends=frozenset({Status.FAILED, Status.CANCELLED}), queue="fast"),
    ],
)
def test_a_selective_listing_does_not_walk_through_all_tasks(tmp_path: Path, which: TaskFilter) -> None:
    store = SqliteStore(tmp_path / "headway.db", lambda receipts: None)
    try:
        query, values = selection(which, 1000)
        with store._database.reading() as connection:
            plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + query, values)]
    finally:
        store.close()
    assert not [line for line in plan if line.startswith(("SCAN tasks", "SCAN ends", "SCAN options"))], plan


def test_a_prefix_finds_the_ids_that_begin_so(bench: Bench) -> None:
    tasks = bench.add(300)
    wanted = text_of(tasks[7])
    for length in (1, 2, 5, 8, 16, 17, 26):
        matching = {task for task in tasks if text_of(task).startswith(wanted[:length])}
        assert set(bench.store.find_by_prefix(wanted[:length], limit=1000)) == matching, length
    assert bench.store.find_by_prefix(wanted.upper()[:9]) == [tasks[7]]
    assert len(bench.store.find_by_prefix("", limit=3)) == 0
    assert bench.store.find_by_prefix("not an id") == []
    assert bench.store.find_by_prefix("z" * 26) == []
    assert len(bench.store.find_by_prefix(wanted[:1], limit=1)) == 1


def test_letters_that_look_like_digits_are_read_as_such(bench: Bench) -> None:
    task = TaskId(bytes(16))
    bench.write(new_tasks([task]))
    assert bench.store.find_by_prefix("oO0o") == [task]
    assert bench.store.find_by_prefix("o" * 20) == [task]
    assert bench.store.find_by_prefix("l") == []


def test_a_callers_own_key_is_found(bench: Bench) -> None:
    key = "nightly/2026-01-01"
    task = named_task_id(key)
    bench.write(new_tasks([task], call(key=key)))
    bench.add(3)
    assert bench.store.find_by_key(key) == [task]
    assert bench.store.find_by_key("nightly") == []
    assert bench.store.find_by_key("") == []


def test_jobs_are_counted_by_end(bench: Bench) -> None:
    tasks = bench.add(4, call(job="roots")) + bench.add(1, call(job="roots", priority=2))
    bench.add(2, call(job="other"))
    bench.add(7)
    bench.write(*[end(task) for task in tasks[:2]], end(tasks[4], Status.FAILED))
    roots = JobCount("roots", {"unfinished": 2, "succeeded": 2, "failed": 1}, 1000.0, 2000.0)
    assert bench.store.job_counts("roots") == [roots]
    assert bench.store.job_counts() == [JobCount("other", {"unfinished": 2}, 1000.0, 0.0), roots]
    assert bench.store.job_counts("none") == []
    assert bench.store.counts() == {"unfinished": 11, "succeeded": 2, "failed": 1}


def test_the_expired_are_those_past_their_own_time_or_the_general_one(bench: Bench) -> None:
    own, never, general, young, running = tasks = new_task_ids(5)
    bench.write(NewTasks(call(), 1.0, "c", [(task, b"") for task in tasks]))
    bench.write(
        end(own, expires=2100.0),
        end(never, expires=float("inf")),
        end(general),
        end(young).__class__(young, Status.SUCCEEDED, 1, 2990.0),
    )
    assert set(bench.store.find_expired(now=3000.0, retention=100.0)) == {own, general}
    assert bench.store.find_expired(now=2050.0, retention=100.0) == []
    assert len(bench.store.find_expired(now=3000.0, retention=0.0, limit=2)) == 2
    assert running not in bench.store.find_expired(now=1e12, retention=0.0)


def test_options_that_were_dropped_are_not_taken_for_others(bench: Bench) -> None:
    """Readers remember options by number, so a number must not come back with another meaning."""
    (first,) = bench.add(1, call("old:target"))
    assert bench.store.find([first])[0].options.target == "old:target"
    bench.write(end(first), DropTasks([first]))
    (second,) = bench.add(1, call("new:target"))
    assert bench.store.find([second])[0].options.target == "new:target"
