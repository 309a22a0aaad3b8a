"""Secret arguments in the store: what lies in the file, what is read back, and what happens when the key is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway_bus.errors import StoreError
from headway_bus.ids import TaskId, new_task_ids
from headway_bus.records import Blob, Kind, Options
from headway_controller.checks import find_task_fault
from headway_controller.store import NewTasks, Receipt
from headway_controller.store.sealing import KEY_FILE, Sealer
from headway_controller.store.sqlite_store import SqliteStore

pytest.importorskip("cryptography", reason="pip install 'headway[secret]'")

WORD = b"an argument that is nobody's business"


def ignore(receipts: list[Receipt]) -> None:
    assert all(receipt.error is None for receipt in receipts)


def store_with(path: Path, value: bytes) -> TaskId:
    (task,) = new_task_ids(1)
    store = SqliteStore(path, ignore)
    store.write([NewTasks(Options(Kind.CALL, "a:f", secret=True), 1.0, "alice", [(task, value)])])
    store.close()
    return task


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("repeats", [1, 10_000])
def test_it_lies_in_no_file_and_is_read_back(tmp_path: Path, repeats: int) -> None:
    path = tmp_path / "headway.db"
    task = store_with(path, WORD * repeats)
    assert WORD not in contents(tmp_path)
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    store = SqliteStore(path, ignore)
    try:
        assert store.find([task])[0].payload == WORD * repeats
        assert [each.payload for page in store.load_unfinished() for each in page] == [WORD * repeats]
        store.backup(tmp_path / "copy")
        assert WORD not in contents(tmp_path)
    finally:
        store.close()


def test_without_its_key_it_is_empty_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "headway.db"
    task = store_with(path, WORD)
    (tmp_path / KEY_FILE).write_bytes(b"k" * 32)
    store = SqliteStore(path, ignore)
    try:
        assert store.find([task])[0].payload == b""
        assert store.counters()["secrets_unreadable"] == 1
    finally:
        store.close()


def test_it_is_bound_to_its_task(tmp_path: Path) -> None:
    sealer = Sealer(tmp_path)
    mine, other = new_task_ids(2)
    sealed = sealer.seal(mine, WORD)
    assert sealer.open(mine, sealed) == WORD and sealer.open(other, sealed) == b""
    assert sealer.seal(mine, WORD) != sealed


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(b"k" * 32)
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(StoreError, match="chmod 600"):
        Sealer(tmp_path).seal(new_task_ids(1)[0], WORD)


def test_in_a_blob_it_is_refused() -> None:
    from headway_bus.messages import Group

    group = Group(Options(Kind.CALL, "a:f", secret=True), [(new_task_ids(1)[0], Blob(b"h" * 32, 10))])
    assert "not encrypted" in find_task_fault(group, 0, 1 << 30)
