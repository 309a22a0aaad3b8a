"""Folders and large values."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from headway_bus import copying
from headway_bus.errors import BusError
from headway_bus.ids import TaskId
from headway_bus.records import Blob
from headway_runtime.files import PartialBlob, WorkFolder, is_in_use, outputs_prefix


def blob_of(content: bytes) -> Blob:
    return Blob(hashlib.blake2b(content, digest_size=32).digest(), len(content))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[WorkFolder]:
    folder = WorkFolder(tmp_path / "work")
    folder.open(b"instance")
    yield folder
    folder.close()


def store(folder: WorkFolder, content: bytes, age: float = 0.0) -> Blob:
    blob = blob_of(content)
    path = folder.blob_path(blob)
    path.write_bytes(content)
    os.utime(path, (1e9 - age, 1e9 - age))
    return blob


def test_only_one_runtime_works_in_a_folder(folder: WorkFolder) -> None:
    assert is_in_use(folder.path)
    with pytest.raises(BusError, match="another runtime works in"):
        WorkFolder(folder.path).open(b"another!")
    folder.close()
    assert not is_in_use(folder.path)
    assert not is_in_use(folder.path / "missing")


def test_folders_are_private_and_used_again_when_left_clean(folder: WorkFolder) -> None:
    path = folder.take_folder()
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o700
    folder.give_folder(path)
    assert folder.take_folder() == path
    (Path(path) / "left").write_text("behind")
    folder.give_folder(path)
    assert not Path(path).exists()
    another = folder.take_folder()
    assert another != path
    Path(another).chmod(0o777)
    folder.give_folder(another)
    assert folder.take_folder() != another


def test_what_an_earlier_runtime_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "attempts" / "1" / "deep").mkdir(parents=True)
    folder = WorkFolder(tmp_path)
    folder.open(b"instance")
    assert not list(folder.attempts.iterdir())
    folder.close(remove=True)
    assert not tmp_path.exists()


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../outside", "a/../../outside", "a\0b", "."])
def test_names_that_leave_the_folder_are_refused(folder: WorkFolder, name: str) -> None:
    blob = store(folder, b"content")
    with pytest.raises(ValueError, match="does not stay within"):
        folder.place(blob, folder.take_folder(), name)


def test_files_are_placed_with_their_folders(folder: WorkFolder) -> None:
    path = folder.place(store(folder, b"content"), folder.take_folder(), "a/b/c.txt")
    assert path.read_bytes() == b"content"


def test_a_value_in_parts_is_there_when_it_is_whole_and_right(folder: WorkFolder) -> None:
    content = b"0123456789"
    blob = blob_of(content)
    partial = PartialBlob(folder, blob)
    assert not partial.add(content[:6])
    assert not folder.has_blob(blob)
    assert partial.add(content[6:])
    assert folder.has_blob(blob)


@pytest.mark.parametrize("named", [False, True])
def test_only_what_a_hash_will_check_goes_on_where_it_was(folder: WorkFolder, named: bool) -> None:
    content = b"0123456789"
    blob = replace(blob_of(content), named=named)
    folder.blob_path(blob).with_suffix(".part").write_bytes(content[:6])
    partial = PartialBlob(folder, blob)
    assert partial.has_earlier is not named
    if partial.has_earlier:
        partial.read_earlier()
    assert partial.add(content[partial.offset :])
    assert folder.blob_path(blob).read_bytes() == content


@pytest.mark.parametrize("content", [b"012345678X", b"0123456789 and more"])
def test_a_value_that_is_another_is_refused(folder: WorkFolder, content: bytes) -> None:
    blob = blob_of(b"0123456789")
    with pytest.raises(ValueError, match="hash"):
        PartialBlob(folder, blob).add(content)
    assert not folder.has_blob(blob)
    assert not list(folder.blobs.iterdir())


def test_values_not_touched_for_longest_go_first_and_those_in_use_stay(folder: WorkFolder) -> None:
    oldest, middle, newest = (store(folder, bytes([age]) * 100, age) for age in (30, 20, 10))
    folder.trim(200, {oldest.hash})
    assert [folder.has_blob(blob) for blob in (oldest, middle, newest)] == [True, False, True]


def test_a_hash_is_never_a_path(folder: WorkFolder) -> None:
    with pytest.raises(ValueError, match="32"):
        folder.blob_path(Blob(b"../../etc", 3))


def test_a_copy_that_was_broken_off_does_not_count_as_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = WorkFolder(tmp_path, keep=True)
    folder.open(b"instance")
    own = folder.own_folder((TaskId(bytes(16)), 1))
    blob = store(folder, b"0123456789")

    def half(_: Path, target: Path, __: object) -> None:
        target.write_bytes(b"01234")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(copying, "copy", half)
        folder.place(blob, own, "data.csv")
    path = folder.place(blob, own, "data.csv")
    assert path.read_bytes() == b"0123456789" and [each.name for each in Path(own).iterdir()] == ["data.csv"]
    path.write_bytes(b"changed")
    assert folder.place(blob, own, "data.csv").read_bytes() == b"changed", "what the attempt made of it stays"
    folder.close()


def test_what_is_being_written_is_not_trimmed_and_what_dead_processes_left_is(folder: WorkFolder) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    living = [f"{outputs_prefix()}7.part", f"{'a' * 64}.{os.getpid()}"]
    dead = [f"outputs-{ended.pid}-7.part", f"{'b' * 64}.{ended.pid}", f"{'c' * 64}.part"]
    for name in living + dead:
        (folder.blobs / name).write_bytes(bytes(100))
    folder.trim(0, set())
    assert sorted(path.name for path in folder.blobs.iterdir()) == sorted(living)


def test_room_for_a_large_value_is_made_of_what_nobody_needs(
    folder: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest, needed, older, fresh = (store(folder, bytes([age]) * 100, age) for age in (40, 30, 20, 0))
    free = copying.ROOM_BYTES * 2 - 150
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 1 << 40, free))  # type: ignore[attr-defined]
    folder.free_up(1000, {needed.hash}, 1e9 - 10)
    assert folder.blob_path(oldest).exists(), "for a small one nothing has to go"
    folder.free_up(copying.ROOM_BYTES, {needed.hash}, 1e9 - 10)
    assert [folder.blob_path(blob).exists() for blob in (oldest, needed, older, fresh)] == [False, True, False, True]


def test_a_file_with_the_longest_of_names_is_placed(folder: WorkFolder, tmp_path: Path) -> None:
    placed = folder.place(store(folder, b"abc"), str(tmp_path / "attempt"), "deep/" + "x" * 255)
    assert placed.read_bytes() == b"abc" and list(placed.parent.iterdir()) == [placed]
