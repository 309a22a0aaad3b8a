"""Operations go in whole, in order, and are reported once for each commit."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from store_bench import SECONDS, Bench, call, end, new_tasks

from headway_bus.errors import StoreError
from headway_bus.ids import new_task_id, new_task_ids
from headway_bus.records import Blob, ErrorInfo, File, LogRecord, Reason, Status
from headway_controller.store import (
    AppendLogs,
    Described,
    DescribeTask,
    DropTasks,
    Durability,
    EndTask,
    NewTasks,
    Operation,
    Receipt,
    SaveState,
    StoredTask,
    TaskFilter,
    UpdateTask,
    blob_of,
)
from headway_controller.store.apply import FILE_BYTES
from headway_controller.store.bulk import MAX_ROWS
from headway_controller.store.writer import AT_ONCE_BYTES, AT_ONCE_ROWS, AT_ONCE_RUN


def unfinished(bench: Bench) -> list[StoredTask]:
    return [task for page in bench.store.load_unfinished() for task in page]


def test_a_task_comes_back_as_it_was_written(bench: Bench) -> None:
    options = call(job="roots", priority=3, meta={"size": 7})
    task = new_task_id()
    bench.write(NewTasks(options, 123.5, "client-1", [(task, b"\x00payload")]))
    (found,) = bench.store.find([task])
    assert (found.task, found.options, found.submitted, found.client, found.payload) == (
        task,
        options,
        123.5,
        "client-1",
        b"\x00payload",
    )
    assert found.end is None
    assert unfinished(bench) == [found]


def test_a_payload_may_be_a_memoryview(bench: Bench) -> None:
    task = new_task_id()
    bench.write(NewTasks(call(), 1.0, "c", [(task, memoryview(bytearray(b"frame")))]))
    assert bench.store.find([task])[0].payload == b"frame"


@pytest.mark.parametrize("count", [1, 2, 3, MAX_ROWS - 1, MAX_ROWS, MAX_ROWS + 1, 3 * MAX_ROWS + 5])
def test_any_number_of_rows_is_stored(bench: Bench, count: int) -> None:
    tasks = bench.add(count)
    assert [task.task for task in unfinished(bench)] == tasks
    bench.write(*[end(task) for task in tasks])
    assert unfinished(bench) == []
    assert bench.store.counts() == {"unfinished": 0, "succeeded": count}


def test_tasks_keep_the_order_of_submission_whatever_their_ids(bench: Bench) -> None:
    newer, older = new_task_id(2_000_000.0), new_task_id(1_000_000.0)
    bench.write(new_tasks([newer]))
    bench.write(new_tasks([older]))
    assert [task.task for task in unfinished(bench)] == [newer, older]


def test_a_known_task_stays_as_it_is_and_is_named_in_the_receipt(bench: Bench) -> None:
    first, second, third = new_task_ids(3)
    bench.write(new_tasks([second], payload=b"first version"))
    receipt = bench.write(new_tasks([first, second, third], payload=b"second version"))
    assert receipt.known == [second]
    assert {task.task: task.payload for task in unfinished(bench)} == {
        second: b"first version",
        first: b"second version",
        third: b"second version",
    }
    assert bench.store.counters()["tasks_known"] == 1


def test_an_ended_task_is_known_too(bench: Bench) -> None:
    (task,) = bench.add()
    bench.write(end(task, result=b"4"))
    assert bench.write(new_tasks([task])).known == [task]
    found = bench.store.find([task])[0].end
    assert found is not None
    assert found.result == b"4"


def test_a_task_that_comes_twice_in_one_write_is_one_task(bench: Bench) -> None:
    task = new_task_id()
    assert bench.write(new_tasks([task]), new_tasks([task])).known == [task]
    assert len(unfinished(bench)) == 1


def test_the_tasks_of_a_map_share_one_row_of_options(bench: Bench) -> None:
    for _ in range(3):
        bench.add(100, call(job="roots"))
    bench.add(1, call(job="other"))
    with bench.store._database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM options").fetchone()[0] == 2
    options = {id(task.options) for task in unfinished(bench)}
    assert len(options) == 2


def test_an_end_has_all_that_was_said(bench: Bench) -> None:
    (task,) = bench.add()
    error = ErrorInfo(Reason.EXCEPTION, "no", "builtins.ValueError", bases=["Exception"])
    fields = {"seconds": 9.5, "runtime": "runtime-1", "error": error, "failures": 2, "losses": 1, "predicted": 0.25}
    bench.write(EndTask(task, Status.FAILED, 3, 50.0, 40.0, story=b"story", expires=99.0, **fields))  # type: ignore[arg-type]
    (found,) = bench.store.find([task])
    assert (found.attempt, found.failures, found.losses, found.story) == (3, 2, 1, b"story")
    ended = found.end
    assert ended is not None
    assert (ended.status, ended.attempt, ended.ended, ended.started, ended.seconds) == (
        Status.FAILED,
        3,
        50.0,
        40.0,
        9.5,
    )
    assert (ended.runtime, ended.error, ended.predicted, ended.expires) == ("runtime-1", error, 0.25, 99.0)


def test_a_task_ends_once(bench: Bench) -> None:
    (task,) = bench.add()
    bench.write(end(task, result=b"first"))
    bench.write(end(task, Status.FAILED), end(task, Status.CANCELLED))
    found = bench.store.find([task])[0].end
    assert found is not None
    assert (found.status, found.result) == (Status.SUCCEEDED, b"first")
    assert bench.store.counters()["ends_repeated"] == 2


def test_what_belongs_to_no_task_has_no_effect(bench: Bench) -> None:
    stranger = new_task_id()
    record = LogRecord(stranger, 1, 0, "stdout", 1.0, "line")
    bench.write(end(stranger), UpdateTask(stranger), AppendLogs([record]), DropTasks([stranger]))
    assert bench.store.counts() == {"unfinished": 0}
    assert bench.store.logs(stranger).records == []


def test_new_updated_and_ended_in_one_write(bench: Bench) -> None:
    task = new_task_id()
    bench.write(new_tasks([task]), UpdateTask(task, attempt=1, failures=1), end(task, result=b"ok"))
    (found,) = bench.store.find([task])
    assert found.end is not None
    assert unfinished(bench) == []


def test_the_last_update_counts(bench: Bench) -> None:
    (task,) = bench.add()
    bench.write(UpdateTask(task, 1, failures=1, not_before=5.0, story=b"a"))
    bench.write(UpdateTask(task, 2, failures=1, losses=1, story=b"b"), UpdateTask(task, 3, 2, 1, 7.0, b"c"))
    (found,) = unfinished(bench)
    assert (found.attempt, found.failures, found.losses, found.not_before, found.story) == (3, 2, 1, 7.0, b"c")


def test_an_update_does_not_open_an_ended_task(bench: Bench) -> None:
    (task,) = bench.add()
    bench.write(end(task))
    bench.write(UpdateTask(task, attempt=9))
    assert unfinished(bench) == []
    assert bench.store.find([task])[0].attempt == 1


def test_a_task_can_be_opened_again_and_end_again(bench: Bench) -> None:
    (task,) = bench.add()
    bench.write(end(task, Status.FAILED))
    bench.write(UpdateTask(task, attempt=4, reopen=True))
    (found,) = unfinished(bench)
    assert (found.end, found.attempt, found.failures) == (None, 4, 0)
    bench.write(UpdateTask(task, reopen=True), end(task, result=b"at last"))
    ended = bench.store.find([task])[0].end
    assert ended is not None
    assert ended.result == b"at last"


def test_the_last_description_counts_and_outlives_end_and_reopening(bench: Bench) -> None:
    task, other = bench.add(2)
    first, second = Described("one", 1.0, b"1"), Described("zwei \U0001f600", 2.0, b"12")
    bench.write(DescribeTask(task, first), DescribeTask(new_task_id(), first))
    assert [each.described for each in unfinished(bench)] == [first, None]
    bench.write(end(task), DescribeTask(task, second), UpdateTask(task, reopen=True))
    assert [each.described for each in unfinished(bench)] == [second, None]
    bench.write(end(task), end(other))
    assert {each.task: each.described for each in bench.store.find_page(TaskFilter())} == {task: second, other: None}
    assert bench.store.find([task])[0].described == second


def test_dropping_leaves_nothing_behind(bench: Bench) -> None:
    content = bench.store.blobs.put(b"script")
    options = call(job="gone", files=[File("a.py", content)])
    dropped, kept = bench.add(1, options) + bench.add(1)
    record = LogRecord(dropped, 1, 0, "stdout", 1.0, "line")
    bench.write(AppendLogs([record], {dropped: 3}), UpdateTask(dropped, failures=1), end(dropped, result=b"r"))
    bench.write(DescribeTask(dropped, Described("gone", 1.0, b"")))
    bench.write(DropTasks([dropped]))
    assert bench.store.find([dropped]) == []
    assert [task.task for task in unfinished(bench)] == [kept]
    with bench.store._database.reading() as connection:
        sizes = {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        }
    assert {name: size for name, size in sizes.items() if size and name != "sqlite_sequence"} == {
        "tasks": 1,
        "unfinished": 1,
        "options": 1,
    }


def test_a_dropped_task_can_be_submitted_again_in_the_same_write(bench: Bench) -> None:
    (task,) = bench.add()
    bench.write(end(task))
    receipt = bench.write(DropTasks([task]), new_tasks([task], payload=b"again"))
    assert receipt.known == ()
    assert [found.payload for found in unfinished(bench)] == [b"again"]


def test_logs_come_back_in_order_and_once(bench: Bench) -> None:
    (task,) = bench.add()
    records = [LogRecord(task, 1, n, "stdout", 10.0 + n, f"line {n} é", {"loss": n} if n else {}) for n in range(5)]
    bench.write(AppendLogs([records[3], records[4]], {task: 2}))
    bench.write(AppendLogs(records, {task: 1}))
    found = bench.store.logs(task)
    assert (found.records, found.dropped) == (records, 3)


def test_logs_of_attempts_and_pages(bench: Bench) -> None:
    (task,) = bench.add()
    records = [LogRecord(task, attempt, n, "stdout", 1.0, "") for attempt in (1, 2) for n in range(3)]
    bench.write(AppendLogs(records))
    assert bench.store.logs(task, attempt=2).records == records[3:]
    assert bench.store.logs(task, after=2, limit=3).records == records[2:5]
    assert bench.store.logs(task, attempt=1, after=3).records == []


def test_state_is_kept_by_name(bench: Bench) -> None:
    bench.write(SaveState("predictor", b"\x00old"), SaveState("other", b""))
    bench.write(SaveState("predictor", b"\x00new"))
    assert bench.store.load_state("predictor") == b"\x00new"
    assert bench.store.load_state("other") == b""
    bench.write(SaveState("predictor", None))
    assert bench.store.load_state("predictor") is None


def test_a_blob_is_remembered_by_its_name(bench: Bench) -> None:
    arguments, result = blob_of(b"a" * 100), blob_of(b"r" * 200)
    task = new_task_id()
    bench.write(NewTasks(call(), 1.0, "c", [(task, arguments)]), end(task, result=result))
    (found,) = bench.store.find([task])
    assert found.end is not None
    assert (found.payload, found.end.result, found.end.result_size) == (arguments, result, 200)


def test_a_value_that_cannot_be_stored_fails_its_write_alone(bench: Bench) -> None:
    good, bad, also_good = new_task_ids(3)
    huge = UpdateTask(bad, attempt=2**70)
    with bench.store._database.writing:  # so that all three meet in one commit
        bench.store.write([new_tasks([good])], "good")
        bench.store.write([new_tasks([bad]), huge], "bad")
        bench.store.write([new_tasks([also_good])], "also good")
    receipts = {receipt.token: receipt.error for receipt in bench.desk.receipts(3)}
    assert receipts["good"] is None
    assert receipts["also good"] is None
    assert isinstance(receipts["bad"], StoreError)
    assert {task.task for task in unfinished(bench)} == {good, also_good}, "the bad write left its task behind"


@pytest.mark.parametrize("nonsense", [["not an operation"], [NewTasks(call(), 1.0, "c", [(new_task_id(), 5 + 5j)])]])  # type: ignore[list-item]
def test_nonsense_is_refused_and_the_writer_lives_on(bench: Bench, nonsense: list[Any]) -> None:
    bench.store.write(nonsense, "nonsense")
    (receipt,) = bench.desk.receipts(1)
    assert isinstance(receipt.error, StoreError)
    assert "cannot be stored" in str(receipt.error)
    bench.add()


def test_receipts_come_in_the_order_of_the_writes_and_once_for_a_commit(bench: Bench) -> None:
    with bench.store._database.writing:
        for n in range(50):
            bench.store.write([new_tasks(new_task_ids(2))], n)
        assert bench.store.backlog == 100
    commits = [bench.desk.commits.get(timeout=30.0)]
    while sum(map(len, commits)) < 50:
        commits.append(bench.desk.commits.get(timeout=30.0))
    assert [receipt.token for commit in commits for receipt in commit] == list(range(50))
    # The writer had taken at most the first write when the lock was still held.
    assert len(commits) <= 2
    assert bench.store.backlog == 0


def test_a_write_of_nothing_is_reported_in_its_place(bench: Bench) -> None:
    bench.store.write([new_tasks([new_task_id()])], 1)
    bench.store.write([], 2)
    assert [receipt.token for receipt in bench.desk.receipts(2)] == [1, 2]


def test_closing_stores_what_was_handed_over(bench: Bench) -> None:
    for n in range(20):
        bench.store.write([new_tasks(new_task_ids(500))], n)
    bench.store.close()
    assert [receipt.token for receipt in bench.desk.receipts(20)] == list(range(20))
    with pytest.raises(StoreError, match="closed"):
        bench.store.write([], "late")
    with pytest.raises(StoreError, match="closed"):
        bench.store.counts()


def test_a_desk_that_fails_does_not_stop_the_writer(bench: Bench) -> None:
    called = threading.Event()

    def failing(_: object) -> None:
        bench.store._writer._on_stored = bench.desk.commits.put
        called.set()
        raise RuntimeError("the loop is closed")

    bench.store._writer._on_stored = failing
    bench.store.write([], 1)
    assert called.wait(30.0)
    bench.add()
    assert bench.store.counters()["reports_failed"] == 1


def write_at_once(bench: Bench, *operations: Operation) -> Receipt | None:
    """As soon as the store is idle: the writer's thread counts a write as done a moment after its receipt."""
    deadline = time.monotonic() + SECONDS
    while bench.store._writer._writes != bench.store._writer._reported and time.monotonic() < deadline:
        time.sleep(0.001)
    return bench.store.write_at_once(operations, "token")


def test_a_small_write_to_an_idle_store_is_stored_before_the_call_returns(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "h.db")
    (task,) = new_task_ids(1)
    receipt = bench.store.write_at_once([new_tasks([task])], "here")
    assert receipt == Receipt("here")
    assert unfinished(bench)[0].task == task
    again = bench.store.write_at_once([new_tasks([task])], "again")
    assert again is not None and list(again.known) == [task]
    assert bench.desk.commits.empty(), "nothing came by the thread"
    bench.store.close()


def test_a_large_write_or_one_that_must_reach_the_disk_goes_to_the_thread(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "h.db")
    assert bench.store.write_at_once([new_tasks(new_task_ids(AT_ONCE_ROWS + 1))]) is None
    assert bench.store.write_at_once([new_tasks(new_task_ids(1), payload=bytes(AT_ONCE_BYTES + 1))]) is None
    bench.store.close()
    safe = Bench(tmp_path / "safe.db", Durability.FULL)
    assert safe.store.write_at_once([new_tasks(new_task_ids(1))]) is None
    safe.store.close()


def test_after_many_small_writes_one_goes_to_the_thread_which_looks_after_the_log(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "h.db")
    for number in range(AT_ONCE_RUN):
        assert bench.store.write_at_once([SaveState("x", b"%d" % number)]) is not None
    assert bench.store.write_at_once([SaveState("x", b"no")]) is None
    bench.add(1)
    assert write_at_once(bench, SaveState("x", b"again")) is not None
    bench.store.close()


def test_a_small_write_does_not_wait_for_another_programs_transaction(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "h.db")
    other = sqlite3.connect(tmp_path / "h.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    tasks = new_task_ids(1)
    assert bench.store.write_at_once([new_tasks(tasks)]) is None
    bench.store.write([new_tasks(tasks)], "token")  # the thread has the patience
    other.execute("ROLLBACK")
    other.close()
    assert bench.desk.receipts(1) == [Receipt("token")]
    assert [task.task for task in unfinished(bench)] == tasks
    bench.store.close()


def test_a_large_value_lies_in_a_file_and_its_row_says_which(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "h.db")
    large = os.urandom(FILE_BYTES)
    task, other = new_task_ids(2)
    bench.write(new_tasks([task], payload=large), new_tasks([other], payload=memoryview(large)[1:]))
    bench.write(end(task, result=memoryview(large)))
    found = {each.task: each for each in bench.store.find([task, other])}
    stored = found[task]
    assert isinstance(stored.payload, Blob) and bench.store.blobs.read(stored.payload) == large
    assert stored.end is not None and stored.end.result == blob_of(large), "it comes again: now it is hashed"
    assert bench.store.blobs.read(blob_of(large)) == large
    assert found[other].payload == large[1:], "a shorter one is in its row"
    bench.write(DropTasks([task]))
    assert bench.store.sweep_blobs(time.time() + 60) == 2
    assert bench.store.blobs.usage() == (0, 0)
    bench.store.close()


def test_a_store_in_memory_keeps_large_values_to_itself() -> None:
    bench = Bench(None, Durability.MEMORY)
    (task,) = new_task_ids(1)
    bench.write(new_tasks([task], payload=bytes(FILE_BYTES)))
    assert bench.store.find([task])[0].payload == bytes(FILE_BYTES)
    bench.store.close()
