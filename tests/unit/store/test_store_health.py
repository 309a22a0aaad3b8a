"""Checks that find what is wrong, and backups that are stores."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from store_bench import Bench, call, end, new_tasks

from headway_bus.errors import StoreError
from headway_bus.ids import new_task_id, new_task_ids
from headway_bus.records import Status
from headway_controller.store import Durability, NewTasks, examine
from headway_controller.store.schema import STEPS

Opener = Callable[..., Bench]


def test_a_store_that_is_well_says_what_is_in_it(bench: Bench) -> None:
    tasks = bench.add(5)
    bench.write(end(tasks[0]), end(tasks[1], Status.FAILED))
    health = bench.store.check()
    assert health.well
    assert f"schema {STEPS[-1].version}; 3 unfinished tasks, 2 ended" in health.findings


def test_a_missing_blob_is_found(bench: Bench) -> None:
    blob = bench.store.blobs.put(b"large")
    bench.write(NewTasks(call(), 1.0, "c", [(new_task_id(), blob)]))
    assert bench.store.check().well
    (file,) = [path for path in bench.store.blobs.folder.rglob("*") if path.is_file()]
    file.unlink()
    health = bench.store.check()
    assert not health.well
    assert "1 large values" in health.findings[0]


def test_what_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    assert examine(tmp_path / "headway.db").well
    (tmp_path / "headway.db").touch()
    assert examine(tmp_path / "headway.db").well
    assert [path.name for path in tmp_path.iterdir()] == ["headway.db"]


def test_a_backup_is_a_store(bench: Bench, tmp_path: Path, open_bench: Opener) -> None:
    blob = bench.store.blobs.put(b"large result")
    bench.store.blobs.put(b"that no task needs")
    tasks = bench.add(100, call(job="roots"))
    bench.write(*[end(task, result=blob) for task in tasks[:50]])
    target = tmp_path / "copy" / "backup.db"
    target.parent.mkdir()
    bench.store.backup(target)
    bench.write(*[end(task) for task in tasks[50:]])
    copy = open_bench(target)
    assert copy.store.counts() == {"unfinished": 50, "succeeded": 50}
    assert [task.task for page in copy.store.load_unfinished() for task in page] == tasks[50:]
    assert copy.store.blobs.read(blob) == b"large result"
    assert copy.store.blobs.usage() == (1, 12)
    assert copy.store.check().well
    copy.add()


def test_a_backup_overwrites_nothing(bench: Bench, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    target.write_text("precious")
    with pytest.raises(StoreError, match="does not overwrite"):
        bench.store.backup(target)
    assert target.read_text() == "precious"


def test_a_backup_into_nowhere_says_so(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        bench.store.backup(tmp_path / "nowhere" / "backup.db")
    assert not (tmp_path / "nowhere").exists()


def test_a_backup_beside_a_busy_writer_is_of_one_moment(tmp_path: Path, open_bench: Opener) -> None:
    """Every write stores ten tasks and ends five of them, so that a copy with half a write in it would show."""
    bench = open_bench(tmp_path / "headway.db", Durability.NORMAL)
    started, stop = threading.Event(), threading.Event()

    def write() -> None:
        while not stop.is_set():
            tasks = new_task_ids(10)
            bench.store.write([new_tasks(tasks), *[end(task) for task in tasks[:5]]])
            bench.desk.receipts(1)
            started.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert started.wait(30.0)
        copies = []
        for n in range(5):
            bench.store.backup(tmp_path / f"backup-{n}.db")
            copies.append(open_bench(tmp_path / f"backup-{n}.db").store)
    finally:
        stop.set()
        writer.join()
    for copy in copies:
        counts = copy.counts()
        assert counts["unfinished"] == counts["succeeded"] > 0
        assert copy.check().well
