"""Which files are opened, by whom, and what is never overwritten."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from store_bench import Bench, end, new_tasks

from headway_bus.errors import StoreError
from headway_bus.ids import new_task_id
from headway_controller.store import Durability, StoreDamaged, StoreHeld, examine, open_store, schema
from headway_controller.store.sqlite_store import SqliteStore

HOLDER = """
import sys
from pathlib import Path
from headway_controller.store import open_store
store = open_store(Path(sys.argv[1]), lambda receipts: None)
print("open", flush=True)
sys.stdin.read()
"""

Opener = Callable[..., Bench]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the lock and what SQLite keeps in shared memory, which hold no task."""
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock" and path.name[-4:] != "-shm"
    }


def test_everything_is_there_after_closing_and_opening(tmp_path: Path, open_bench: Opener) -> None:
    path = tmp_path / "new folder" / "headway.db"
    bench = open_bench(path)
    ended, waiting = bench.add(2)
    bench.write(end(ended, result=b"4"))
    bench.store.close()
    assert not path.with_name("headway.db-wal").exists(), "a closed store is one file"
    bench = open_bench(path)
    assert [task.task for page in bench.store.load_unfinished() for task in page] == [waiting]
    bench.write(new_tasks([new_task_id()]))
    assert bench.store.counts() == {"unfinished": 2, "succeeded": 1}


def test_a_read_that_outlasts_the_store_is_finished(tmp_path: Path, open_bench: Opener) -> None:
    path = tmp_path / "headway.db"
    bench = open_bench(path)
    bench.add(3)
    with bench.store._database.reading() as connection:
        bench.store.close()
        assert connection.execute("SELECT count(*) FROM tasks").fetchone()[0] == 3
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_a_new_state_folder_is_its_owners_alone(tmp_path: Path, open_bench: Opener) -> None:
    open_bench(tmp_path / "state" / "headway.db")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_memory_touches_no_file(tmp_path: Path, open_bench: Opener) -> None:
    bench = open_bench(tmp_path / "headway.db", Durability.MEMORY)
    bench.add(10)
    blobs = bench.store.blobs.folder
    bench.store.blobs.put(b"large")
    assert list(tmp_path.iterdir()) == []
    bench.store.close()
    assert not blobs.exists()


@pytest.mark.parametrize(("mode", "synchronous"), [(Durability.FULL, 2), (Durability.NORMAL, 1)])
def test_the_mode_decides_what_a_commit_waits_for(
    tmp_path: Path, open_bench: Opener, mode: Durability, synchronous: int
) -> None:
    writer = open_bench(tmp_path / "headway.db", mode).store._database.writer
    assert writer.execute("PRAGMA synchronous").fetchone()[0] == synchronous
    assert writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_an_unknown_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sometimes"):
        open_store(tmp_path / "headway.db", lambda receipts: None, "sometimes")


def test_a_second_store_on_the_same_file_is_told_who_has_it(tmp_path: Path, open_bench: Opener) -> None:
    bench = open_bench(tmp_path / "headway.db")
    with pytest.raises(StoreHeld, match=rf"headway\.db is in use by process {os.getpid()} on "):
        open_store(tmp_path / "headway.db", lambda receipts: None)
    bench.add()
    bench.store.close()
    open_bench(tmp_path / "headway.db").add()


def test_the_death_of_a_holder_frees_the_store(tmp_path: Path, open_bench: Opener) -> None:
    path = tmp_path / "headway.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreHeld, match=f"process {holder.pid} "):
            open_store(path, lambda receipts: None)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    open_bench(path).add()


@pytest.mark.parametrize("content", [b"not a database\n" * 100, b"x", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "headway.db"
    path.write_bytes(content)
    before = contents(tmp_path)
    with pytest.raises(StoreDamaged, match="left as it is"):
        open_store(path, lambda receipts: None)
    assert contents(tmp_path) == before
    assert not examine(path).well


def test_a_truncated_database_is_left_alone(tmp_path: Path, open_bench: Opener) -> None:
    path = tmp_path / "headway.db"
    bench = open_bench(path)
    bench.add(2000)
    bench.store.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = contents(tmp_path)
    with pytest.raises(StoreDamaged, match="damaged"):
        open_store(path, lambda receipts: None)
    assert contents(tmp_path) == before
    assert not examine(path).well


@pytest.mark.parametrize("leave", ["empty", "missing"])
def test_a_log_without_its_database_is_left_alone(tmp_path: Path, open_bench: Opener, leave: str) -> None:
    """SQLite by itself would delete the log, with every task that is in it."""
    path, log = tmp_path / "headway.db", tmp_path / "headway.db-wal"
    bench = open_bench(path)
    bench.add(10)
    saved = log.read_bytes()
    bench.store.close()
    assert saved
    log.write_bytes(saved)
    if leave == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    with pytest.raises(StoreDamaged, match=leave):
        open_store(path, lambda receipts: None)
    assert log.read_bytes() == saved
    assert not examine(path).well


def test_an_empty_file_becomes_a_store(tmp_path: Path, open_bench: Opener) -> None:
    path = tmp_path / "headway.db"
    path.touch()
    open_bench(path).add()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "headway.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE tasks (id)")
    connection.close()
    before = contents(tmp_path)
    with pytest.raises(StoreDamaged, match="another program"):
        open_store(path, lambda receipts: None)
    assert contents(tmp_path) == before
    assert "another program" in examine(path).findings[0]


def test_a_newer_schema_is_left_alone(tmp_path: Path, open_bench: Opener) -> None:
    path = tmp_path / "headway.db"
    open_bench(path).store.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = contents(tmp_path)
    with pytest.raises(StoreDamaged, match="schema 99; this one knows schemas up to"):
        open_store(path, lambda receipts: None)
    assert contents(tmp_path) == before


SECOND = schema.Step(
    schema.STEPS[-1].version + 1,
    ("ALTER TABLE tasks ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'", "CREATE INDEX tasks_colour ON tasks (colour)"),
)


def test_an_older_schema_is_brought_forward_with_all_its_tasks(tmp_path: Path, open_bench: Opener) -> None:
    path = tmp_path / "headway.db"
    bench = open_bench(path)
    tasks = bench.add(3)
    bench.store.close()
    store = SqliteStore(path, lambda receipts: None, steps=(*schema.STEPS, SECOND))
    try:
        assert {task.task for task in store.find(tasks)} == set(tasks)
        with store._database.reading() as connection:
            assert schema.version_of(connection) == SECOND.version
            assert connection.execute("SELECT colour FROM tasks").fetchall() == [("blue",)] * 3
    finally:
        store.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, open_bench: Opener) -> None:
    path = tmp_path / "headway.db"
    bench = open_bench(path)
    tasks = bench.add(3)
    bench.store.close()
    broken = schema.Step(SECOND.version + 1, ("DROP TABLE tasks", "INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(StoreError, match="nowhere"):
        SqliteStore(path, lambda receipts: None, steps=(*schema.STEPS, SECOND, broken))
    bench = open_bench(path)
    assert {task.task for task in bench.store.find(tasks)} == set(tasks)
    with bench.store._database.reading() as connection:
        assert schema.version_of(connection) == schema.STEPS[-1].version


def test_the_steps_are_numbered_without_a_gap() -> None:
    assert [step.version for step in schema.STEPS] == list(range(1, len(schema.STEPS) + 1))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match=str(tmp_path)):
            open_store(tmp_path / "headway.db", lambda receipts: None)
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StoreError, match="state"):
        open_store(tmp_path / "state" / "headway.db", lambda receipts: None)
