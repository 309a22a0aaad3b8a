"""Small writes that are noted first: stored when the call returns, seen by every reader, moved into the tables soon."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from store_bench import SECONDS, Bench, call, end, lone_end, new_tasks

from headway_bus.errors import StoreError
from headway_bus.ids import TaskId, new_task_id, new_task_ids
from headway_bus.records import File, Status
from headway_controller.store import EndTask, Operation, SaveState, StoreDamaged, blob_of
from headway_controller.store.journal import MAX_BYTES
from headway_controller.store.writer import MOVE_ROWS

Opener = Callable[..., Bench]

NOTE_AND_DIE = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from store_bench import Bench, lone_end, new_tasks
from headway_bus.ids import new_task_ids

bench = Bench(Path(sys.argv[2]) / "headway.db")
first, second = new_task_ids(2)
with bench.store._database.writing:  # the thread cannot move anything
    for operations in ([new_tasks([first]), lone_end(first)], [new_tasks([second])]):
        receipt = bench.store.write_at_once(operations)
        assert receipt is not None and receipt.error is None
    print(first.hex(), second.hex(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def note(bench: Bench, *operations: Operation) -> None:
    """At once, and into the journal: not by the thread, and not into the tables."""
    before = len(bench.store._writer._journal.rows)
    with bench.store._database.writing:
        receipt = bench.store.write_at_once(operations, "noted")
        assert receipt is not None
        assert receipt.error is None
        assert len(bench.store._writer._journal.rows) == before + 1


def rows_in_table(path: Path) -> int:
    with closing(sqlite3.connect(path / "headway.db")) as other:
        return int(other.execute("SELECT count(*) FROM journal").fetchone()[0])


def test_what_is_noted_is_seen_by_whoever_reads(tmp_path: Path, open_bench: Opener) -> None:
    bench = open_bench(tmp_path / "headway.db")
    first, second = new_task_ids(2)
    with bench.store._database.writing:
        note(bench, new_tasks([first]), lone_end(first))
        note(bench, new_tasks([second]))
        assert rows_in_table(tmp_path) == 2, "committed, and in the file"
        (found,) = bench.store.find([first])
    assert (found.payload, found.client, found.submitted, found.options) == (b"arguments", "client-1", 1000.0, call())
    assert found.end is not None
    assert (found.end.result, found.end.seconds, found.end.runtime, found.end.predicted) == (b"value", 0.5, "r1", 0.25)
    assert bench.store.find_statuses([first, second]) == {first: Status.SUCCEEDED, second: None}
    assert bench.store.counts() == {"unfinished": 1, "succeeded": 1}
    assert rows_in_table(tmp_path) == 0, "moved, not copied"


def test_what_is_noted_outlives_kill_9(tmp_path: Path, open_bench: Opener) -> None:
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", NOTE_AND_DIE, here, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == -signal.SIGKILL, done.stderr
    first, second = (TaskId(bytes.fromhex(text)) for text in done.stdout.split())
    assert rows_in_table(tmp_path) == 2
    bench = open_bench(tmp_path / "headway.db")
    assert [task.task for page in bench.store.load_unfinished() for task in page] == [second]
    (found,) = bench.store.find([first])
    assert found.end is not None
    assert found.end.result == b"value"
    bench.write(end(second))
    assert bench.store.check().well


def test_a_task_that_is_known_is_not_noted_again(tmp_path: Path, open_bench: Opener) -> None:
    bench = open_bench(tmp_path / "headway.db")
    noted, stored = new_task_ids(2)
    note(bench, new_tasks([noted]))
    again = bench.store.write_at_once([new_tasks([noted])])
    assert again is not None
    assert list(again.known) == [noted]
    bench.write(new_tasks([stored]))
    assert bench.try_write(new_tasks([stored])).known == [stored]
    assert bench.store.counts() == {"unfinished": 2}


@pytest.mark.parametrize("kind", ["large", "blob", "files", "secret", "two", "failed", "state"])
def test_what_is_rare_goes_into_the_tables_at_once(tmp_path: Path, open_bench: Opener, kind: str) -> None:
    bench = open_bench(tmp_path / "headway.db")
    task, other = new_task_ids(2)
    operations: dict[str, Operation] = {
        "large": new_tasks([task], payload=bytes(MAX_BYTES)),
        "blob": new_tasks([task], payload=blob_of(b"x")),  # type: ignore[arg-type]
        "files": new_tasks([task], call(files=[File("name", blob_of(b"x"))])),
        "secret": new_tasks([task], call(secret=True)),
        "two": new_tasks([task, other]),
        "failed": EndTask(task, Status.FAILED, 1, 1001.0),
        "state": SaveState("x", b"y"),
    }
    with bench.store._database.writing:
        note(bench, new_tasks([other]))
        receipt = bench.store.write_at_once([operations[kind]])
        assert receipt is not None
        assert receipt.error is None
        assert not bench.store._writer._journal.rows, "what came before it was moved before it"
    assert rows_in_table(tmp_path) == 0


def test_what_is_noted_is_moved_without_anybody_asking(tmp_path: Path, open_bench: Opener) -> None:
    bench = open_bench(tmp_path / "headway.db")
    for count in (1, MOVE_ROWS):
        for _ in range(count):
            note(bench, new_tasks([new_task_id()]))
        deadline = time.monotonic() + SECONDS
        while rows_in_table(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.005)
        assert rows_in_table(tmp_path) == 0
    assert bench.store.counts() == {"unfinished": 1 + MOVE_ROWS}


def test_an_end_that_comes_by_the_thread_finds_the_task_that_was_noted(tmp_path: Path, open_bench: Opener) -> None:
    bench = open_bench(tmp_path / "headway.db")
    (task,) = new_task_ids(1)
    note(bench, new_tasks([task]))
    bench.write(end(task))
    assert bench.store.counts() == {"unfinished": 0, "succeeded": 1}


def test_one_row_that_does_not_fit_keeps_nobody_else_back(tmp_path: Path, open_bench: Opener) -> None:
    bench = open_bench(tmp_path / "headway.db")
    first, bad, last = new_task_ids(3)
    with bench.store._database.writing:
        for task in (first, bad, last):
            note(bench, new_tasks([task]))
        bench.store._database.writer.execute(
            f"CREATE TEMP TRIGGER fail BEFORE INSERT ON tasks WHEN new.id = X'{bad.hex()}' "
            "BEGIN SELECT raise(ABORT, 'not this one'); END"
        )
    bench.write(SaveState("x", b"y"))
    assert [task.task for page in bench.store.load_unfinished() for task in page] == [first, last]
    assert rows_in_table(tmp_path) == 1, "it is kept for a person to look at"


def test_a_reader_is_told_why_it_cannot_see_what_was_noted(tmp_path: Path, open_bench: Opener) -> None:
    bench = open_bench(tmp_path / "headway.db", lock_timeout=0.01)
    (task,) = new_task_ids(1)
    with bench.store._database.writing:
        note(bench, new_tasks([task]))
        with closing(sqlite3.connect(tmp_path / "headway.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match=r"it is stored, but cannot be read yet: .* locked by another program"):
                bench.store.find([task])
            with pytest.raises(StoreError, match="locked by another program"):
                list(bench.store.load_unfinished())
            assert bench.store.find([new_task_id()]) == [], "of others it has missed nothing"
            assert bench.store.counts() == {"unfinished": 0}
            other.execute("ROLLBACK")
        assert [found.task for found in bench.store.find([task])] == [task]


def test_a_row_that_cannot_be_read_is_damage_and_nothing_is_changed(tmp_path: Path, open_bench: Opener) -> None:
    open_bench(tmp_path / "headway.db").store.close()
    with closing(sqlite3.connect(tmp_path / "headway.db", isolation_level=None)) as other:
        other.execute("INSERT INTO journal (body) VALUES (X'c1')")
    with pytest.raises(StoreDamaged, match="row 1 of the table journal cannot be read"):
        Bench(tmp_path / "headway.db")
    assert rows_in_table(tmp_path) == 1
