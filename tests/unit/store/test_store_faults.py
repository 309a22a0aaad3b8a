"""A full disk, a locked database, a killed process: what was acknowledged is there, and what was refused is not."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from store_bench import Bench, end, new_tasks

from headway_bus.errors import StoreError
from headway_bus.ids import new_task_id, new_task_ids
from headway_controller.store import Durability, StoreDamaged, examine, open_store
from headway_controller.store.database import PAGE_BYTES

Opener = Callable[..., Bench]

FULL_DISK = """
import json, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from store_bench import Bench, end, new_tasks
from headway_bus.ids import new_task_ids
from headway_controller.store import Durability

folder, how = Path(sys.argv[2]), sys.argv[3]
filler = folder / "filler"
def make_room():
    if how == "tmpfs":
        filler.unlink()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

bench = Bench(folder / "headway.db", Durability(sys.argv[4]))
if how == "tmpfs":
    filler.write_bytes(bytes(2_000_000))
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
stored, refused, reasons = [], [], []
while len(refused) < 3:
    tasks = new_task_ids(20)
    receipt = bench.try_write(new_tasks(tasks, payload=bytes(1000)))
    (refused if receipt.error else stored).append([task.hex() for task in tasks])
    reasons += [str(receipt.error)] if receipt.error else []
seen = {task.task.hex() for page in bench.store.load_unfinished() for task in page}
make_room()
again = new_task_ids(20)
bench.write(new_tasks(again, payload=bytes(1000)))
bench.write(*[end(task) for task in again])
bench.store.close()
print(json.dumps({"stored": sum(stored, []), "refused": sum(refused, []), "seen": sorted(seen), "reasons": reasons}))
"""

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from headway_bus.ids import new_task_ids
from headway_controller.store import open_store
from store_bench import end, new_tasks

def report(receipts):
    for receipt in receipts:
        assert receipt.error is None
        print(receipt.token, flush=True)

store = open_store(Path(sys.argv[2]), report, sys.argv[3])
while True:
    tasks = new_task_ids(10)
    ended = tasks[:5]
    token = " ".join(task.hex() for task in tasks)
    while store.backlog > 2000:
        pass
    store.write([new_tasks(tasks), *[end(task) for task in ended]], token)
"""

HERE = str(Path(__file__).parent)


def fill_disk(folder: Path, how: str, mode: str, prefix: list[str]) -> dict[str, list[str]]:
    command = [*prefix, sys.executable, "-c", FULL_DISK, HERE, str(folder), how, mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def check_full_disk(found: dict[str, list[str]]) -> None:
    assert found["stored"], "the disk was full before the test began"
    assert found["seen"] == sorted(found["stored"]), "exactly what was acknowledged is in the store"
    for reason in found["reasons"]:
        assert "nothing was changed" in reason


@pytest.mark.parametrize("mode", ["normal", "full"])
def test_a_file_that_may_not_grow_refuses_and_recovers(tmp_path: Path, open_bench: Opener, mode: str) -> None:
    found = fill_disk(tmp_path, "limit", mode, [])
    check_full_disk(found)
    bench = open_bench(tmp_path / "headway.db")
    assert {task.task.hex() for page in bench.store.load_unfinished() for task in page} == set(found["stored"])
    assert bench.store.counts()["succeeded"] == 20
    assert bench.store.check().well


@pytest.mark.parametrize("mode", ["normal", "full"])
def test_a_full_disk_refuses_and_recovers(tmp_path: Path, mode: str) -> None:
    """On a file system of 3 MB of its own, which ends with the process that made it."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs the right to unshare")
    script = 'mount -t tmpfs -o size=3m headway "$0" && exec "$@"'
    found = fill_disk(tmp_path, "tmpfs", mode, ["unshare", "-m", "sh", "-c", script, str(tmp_path)])
    check_full_disk(found)
    assert all("is full" in reason for reason in found["reasons"]), found["reasons"]


def test_a_locked_database_refuses_until_it_is_free(tmp_path: Path, open_bench: Opener) -> None:
    bench = open_bench(tmp_path / "headway.db", Durability.NORMAL, lock_timeout=0.01)
    other = sqlite3.connect(tmp_path / "headway.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused, stored = new_task_ids(2)
    receipt = bench.try_write(new_tasks([refused]))
    assert isinstance(receipt.error, StoreError)
    assert "locked by another program" in str(receipt.error)
    assert bench.store.counts() == {"unfinished": 0}, "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    bench.write(new_tasks([stored]))
    assert [task.task for page in bench.store.load_unfinished() for task in page] == [stored]
    assert bench.store.counters()["writes_failed"] == 1


def test_a_refused_write_can_be_repeated(tmp_path: Path, open_bench: Opener) -> None:
    """The options of the refused write were rolled back with it, and must not be believed to be there."""
    bench = open_bench(tmp_path / "headway.db")
    task = new_task_id()
    bench.store._database.writer.execute(
        "CREATE TEMP TRIGGER fail BEFORE INSERT ON tasks BEGIN SELECT raise(ABORT, 'not now'); END"
    )
    assert "not now" in str(bench.try_write(new_tasks([task])).error)
    bench.store._database.writer.execute("DROP TRIGGER fail")
    bench.write(new_tasks([task]))
    assert bench.store.counts() == {"unfinished": 1}


def test_reading_goes_on_while_a_transaction_is_open(tmp_path: Path, open_bench: Opener) -> None:
    bench = open_bench(tmp_path / "headway.db")
    (task,) = bench.add()
    with bench.store._database.writing:
        bench.store._database.writer.execute("BEGIN IMMEDIATE")
        bench.store._database.writer.execute("DELETE FROM tasks")
        assert [found.task for found in bench.store.find([task])] == [task]
        bench.store._database.writer.execute("ROLLBACK")


def damage(path: Path, table: str) -> None:
    """Overwrite the first page of a table in a closed database."""
    with sqlite3.connect(path) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(b"\xff" * PAGE_BYTES)


def test_damage_that_is_met_later_ends_all_writing(tmp_path: Path, open_bench: Opener) -> None:
    path = tmp_path / "headway.db"
    bench = open_bench(path)
    (task,) = bench.add()
    bench.store.close()
    damage(path, "ends")
    assert not examine(path).well
    bench = open_bench(path)
    receipt = bench.try_write(end(task))
    assert isinstance(receipt.error, StoreDamaged)
    with pytest.raises(StoreDamaged, match="put back a backup"):
        bench.store.find([task])
    assert isinstance(bench.try_write(new_tasks([new_task_id()])).error, StoreDamaged)
    assert [found.task for page in bench.store.load_unfinished() for found in page] == [task], (
        "what is whole can be read"
    )
    assert not bench.store.check().well
    before = path.read_bytes()
    bench.store.close()
    assert path.read_bytes() == before


def test_damage_that_is_met_on_opening_lets_go_of_the_lock(tmp_path: Path, open_bench: Opener) -> None:
    path = tmp_path / "headway.db"
    bench = open_bench(path)
    bench.add()
    bench.store.close()
    damage(path, "tasks")
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=r"sqlite3 .* \.recover"):
            open_store(path, lambda receipts: None)


@pytest.mark.parametrize("mode", ["normal", "full"])
@pytest.mark.parametrize("commits", [1, 40, 300])
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, open_bench: Opener, mode: str, commits: int) -> None:
    path = tmp_path / "headway.db"
    command = [sys.executable, "-c", WRITER, HERE, str(path), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(commits)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
    whole = [line.split() for line in acknowledged if line.endswith("\n")]
    assert len(whole) >= commits
    bench = open_bench(path)
    unfinished = {task.task.hex() for page in bench.store.load_unfinished() for task in page}
    for tasks in whole:
        assert unfinished.isdisjoint(tasks[:5])
        assert unfinished.issuperset(tasks[5:])
    found = bench.store.find([bytes.fromhex(task) for tasks in whole for task in tasks])  # type: ignore[misc]
    assert len(found) == 10 * len(whole)
    # Writes that were not acknowledged are there whole or not at all: five of ten tasks of each are ended.
    counts = bench.store.counts()
    assert counts["unfinished"] == counts["succeeded"]
    assert bench.store.check().well


def test_a_store_that_was_never_closed_is_examined_without_change(tmp_path: Path) -> None:
    path = tmp_path / "headway.db"
    command = [sys.executable, "-c", WRITER, HERE, str(path), "normal"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert examine(path).well, "beside a controller that is running"
        writer.send_signal(signal.SIGKILL)
    before = path.read_bytes(), path.with_name("headway.db-wal").read_bytes()
    assert examine(path).well
    assert before == (path.read_bytes(), path.with_name("headway.db-wal").read_bytes())
    open_store(path, lambda receipts: None).close()
