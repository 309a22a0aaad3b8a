"""Files copied and hashed a piece at a time."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import pytest

from headway_bus import copying


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(3 * copying.READ_BYTES + 7))
    return path


@pytest.mark.parametrize("has_ranges", [True, False], ids=["by the kernel", "by hand"])
def test_a_copy_is_the_same(source: Path, has_ranges: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "another file system")

    if not has_ranges:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    target = source.with_name("target")
    target.write_bytes(b"x" * (10 * copying.READ_BYTES))
    copying.copy(source, target)
    assert target.read_bytes() == source.read_bytes()


def test_a_kernel_that_gives_up_halfway_is_no_trouble(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_kernel, calls = os.copy_file_range, []

    def half(reader: int, writer: int, count: int, *offsets: int) -> int:
        calls.append(offsets)
        if len(calls) > 1:
            raise OSError(errno.EINVAL, "no more")
        return by_kernel(reader, writer, 1000, *offsets)

    monkeypatch.setattr(os, "copy_file_range", half)
    copying.copy(source, source.with_name("target"))
    assert source.with_name("target").read_bytes() == source.read_bytes() and calls == [(0, 0), (1000, 1000)]


def test_a_copy_can_be_stopped(source: Path) -> None:
    with pytest.raises(copying.CopyStoppedError):
        copying.copy(source, source.with_name("target"), lambda: True)


@pytest.mark.parametrize("name", ["x" * 255, "试" * 85], ids=["letters", "characters of three bytes"])
def test_a_name_may_be_as_long_as_the_disk_takes_it(source: Path, name: str) -> None:
    target = source.parent / "folder" / name
    copying.copy_whole(source, target)
    assert target.read_bytes() == source.read_bytes()
    copying.write_whole(target, b"anew")
    assert target.read_bytes() == b"anew" and list(target.parent.iterdir()) == [target]
    others = [copying.partial_of(target.with_name(each)).name for each in (name, "y" + name[1:], "a")]
    assert len(set(others)) == 3 and others[2] == ".a.part"


@pytest.mark.parametrize("name", ["model.bin", "x" * 255])
def test_what_a_killed_process_left_of_the_same_is_removed(source: Path, name: str) -> None:
    target = source.parent / "folder" / name
    killed = subprocess.Popen(["true"])
    killed.wait()
    target.parent.mkdir()
    left = copying.partial_of(target, f".{killed.pid}")
    others = [
        copying.partial_of(target, f".{os.getppid()}"),
        copying.partial_of(target.with_name("other"), f".{killed.pid}"),
        target.with_name(f".{target.name[:9]}.mine.part"),
    ]
    for path in (left, *others):
        path.write_bytes(b"half")
    copying.copy_whole(source, target)
    assert sorted(target.parent.iterdir()) == sorted([target, *others])


def test_where_there_is_no_room_nothing_is_begun(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "ROOM_BYTES", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 1 << 40, 1000))  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="bytes are needed, and 1000 are free on the disk of"):
        copying.copy_whole(source, source.parent / "folder" / "target")
    assert not list((source.parent / "folder").iterdir())


def test_a_copy_that_fails_leaves_what_was_there(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = source.parent / "folder" / "target"
    copying.copy_whole(source, target)
    before = target.read_bytes()
    source.write_bytes(b"another content")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="No space left"):
        copying.copy_whole(source, target)
    assert target.read_bytes() == before and [path.name for path in target.parent.iterdir()] == ["target"]


def test_hashing_holds_one_piece_and_copies_on_the_way(source: Path) -> None:
    content = source.read_bytes()
    expected = hashlib.blake2b(content, digest_size=32).digest(), len(content)
    del content
    tracemalloc.start()
    try:
        assert copying.hash_of(source) == expected
        assert copying.hash_of(source, source.with_name("copied")) == expected
        assert tracemalloc.get_traced_memory()[1] < 2 * copying.READ_BYTES
    finally:
        tracemalloc.stop()
    assert source.with_name("copied").read_bytes() == source.read_bytes()


def test_room_is_asked_for_what_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 30, 1 << 30, copying.ROOM_BYTES))  # type: ignore[attr-defined]
    copying.check_room(tmp_path, 1000)
    with pytest.raises(OSError, match=f"{copying.ROOM_BYTES} bytes are needed") as caught:
        copying.check_room(tmp_path, copying.ROOM_BYTES)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("name", ["a", "a/b.c", "..a/b"])
def test_names_that_stay_within(name: str) -> None:
    assert copying.stays_within(name)


@pytest.mark.parametrize("name", ["", ".", "/a", "../a", "a/../../b", "a\\b", "a\0b", "C:b"])
def test_names_that_lead_out(name: str) -> None:
    assert not copying.stays_within(name)
