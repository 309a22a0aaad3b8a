"""Files on their way out of and into this machine, and what a task left."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

import headway
from headway import blobs as blobs_module
from headway.blobs import Arriving, FileSource
from headway.outputs import Output, outputs_of, save
from headway_bus import copying
from headway_bus.errors import BusError, PayloadError, Refused
from headway_bus.messages import BlobHave, BlobPut
from headway_bus.records import Blob, File

CONTENT = bytes(range(256)) * 20


def blob_of(content: bytes) -> Blob:
    return Blob(hashlib.blake2b(content, digest_size=32).digest(), len(content))


# ------------------------------------------------------------------------------------------ out


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(CONTENT)
    return path


def test_a_source_is_hashed_and_read_in_parts(path: Path) -> None:
    source = FileSource(path)
    assert source.blob == blob_of(CONTENT)
    assert source.read(100, 1000) == CONTENT[100:1100]


@pytest.mark.parametrize("change", [b"another, of another length", CONTENT[::-1]], ids=["length", "content"])
def test_a_source_that_is_changed_while_it_is_sent_is_an_error_with_its_name(path: Path, change: bytes) -> None:
    source = FileSource(path)
    path.write_bytes(change)
    os.utime(path, (1, 1))
    with pytest.raises(headway.BundleError, match=r"data\.bin was changed while it was sent"):
        source.read(0, 1000)


def test_a_source_that_vanishes_is_an_error_with_its_name(path: Path) -> None:
    source = FileSource(path)
    path.unlink()
    with pytest.raises(headway.BundleError, match=r"data\.bin vanished while it was sent"):
        source.read(0, 1000)
    with pytest.raises(headway.BundleError, match=r"data\.bin cannot be read: No such file"):
        FileSource(path)


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(headway.BundleError, match=f"{path} is no regular file"):
            FileSource(path)


class Bus:
    """The bus's end of what is sent to it. ``there``: what it has of a content from earlier."""

    def __init__(self, there: bytes) -> None:
        self.limits = SimpleNamespace(blob_part=1_000, payload_limit=1 << 30, file_limit=1 << 30)
        self.parts = asyncio.Semaphore(16)
        self.there = there
        self.refused = 0

    async def ask(
        self, make: Callable[[int], BlobPut], frames: list[bytes], timeout: float
    ) -> tuple[BlobHave, list[bytes]]:
        put = make(1)
        if put.offset == len(self.there):
            self.there += bytes(frames[0])
        if len(self.there) == put.blob.size and blob_of(self.there) != put.blob:
            self.there = b""
            self.refused += 1
            raise Refused("invalid", "another hash; thrown away")
        return BlobHave(1, put.blob, len(self.there)), []


def sent(bus: Any, content: bytes) -> Blob:
    return asyncio.run(blobs_module.store(bus, content))


def test_what_suffered_on_the_bus_is_sent_again_from_the_beginning() -> None:
    bus = Bus(bytes(3_000))
    assert sent(bus, CONTENT) == blob_of(CONTENT)
    assert bus.there == CONTENT and bus.refused == 1


def test_what_is_refused_of_what_was_all_ours_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = Bus(b"")
    other = Blob(b"h" * 32, len(CONTENT))

    async def name(_: object) -> Blob:
        return other

    monkeypatch.setattr(blobs_module, "blob_of", name)
    with pytest.raises(Refused, match="another hash"):
        sent(bus, CONTENT)
    assert bus.refused == 1


# ------------------------------------------------------------------------------------------ in


def test_a_file_is_in_its_place_when_it_is_whole_and_right(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    arriving = Arriving(blob_of(CONTENT), target)
    arriving.add(CONTENT[:1000])
    assert not target.exists()
    arriving.add(CONTENT[1000:])
    arriving.finish()
    arriving.close()
    assert target.read_bytes() == CONTENT and [each.name for each in target.parent.iterdir()] == ["target"]


def test_what_came_before_a_cut_is_not_fetched_again(tmp_path: Path) -> None:
    target = tmp_path / "target"
    first = Arriving(blob_of(CONTENT), target)
    first.add(CONTENT[:1000])
    first.close()
    second = Arriving(blob_of(CONTENT), target)
    assert second.offset == 1000
    second.add(CONTENT[1000:])
    second.finish()
    second.close()
    assert target.read_bytes() == CONTENT
    other = Arriving(blob_of(b"other"), target)
    assert other.offset == 0, "what has come of another file is no part of this one"
    other.close()


def test_what_no_hash_will_check_begins_anew(tmp_path: Path) -> None:
    blob = replace(blob_of(CONTENT), named=True)
    first = Arriving(blob, tmp_path / "target")
    first.add(bytes(1000))
    first.close()
    second = Arriving(blob, tmp_path / "target")
    assert second.offset == 0
    second.add(CONTENT)
    second.finish()
    second.close()
    assert (tmp_path / "target").read_bytes() == CONTENT


@pytest.mark.parametrize("names", [("one", "two"), ("one", "one")], ids=["two places", "one place"])
def test_two_that_fetch_the_same_at_once_do_not_spoil_each_other(tmp_path: Path, names: tuple[str, str]) -> None:
    both = [Arriving(blob_of(CONTENT), tmp_path / name) for name in names]
    for part in (CONTENT[:1000], CONTENT[1000:]):
        for each in both:
            each.add(part)
    for each in both:
        each.finish()
        each.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(names, CONTENT)


def test_the_second_of_two_leaves_nothing_when_it_is_broken_off(tmp_path: Path) -> None:
    first, second = (Arriving(blob_of(CONTENT), tmp_path / name) for name in ("one", "two"))
    first.add(CONTENT[:1000])
    second.add(CONTENT[:500])
    second.close()
    first.close()
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == CONTENT[:1000]


def test_what_arrives_damaged_is_thrown_away(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"earlier")
    arriving = Arriving(blob_of(CONTENT), target)
    arriving.add(b"!" + CONTENT[1:])
    with pytest.raises(BusError, match=f"target: {len(CONTENT)} bytes arrived damaged"):
        arriving.finish()
    arriving.close()
    assert target.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [target]


def test_a_disk_that_fills_up_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    arriving = Arriving(blob_of(CONTENT), tmp_path / "target")
    arriving.add(CONTENT[:1000])
    monkeypatch.setattr(copying, "write_all", full)
    with pytest.raises(OSError, match="No space left"):
        arriving.add(CONTENT[1000:])
    arriving.close()
    assert not list(tmp_path.iterdir())


def test_what_cannot_fit_is_refused_before_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 1 << 40, 1 << 30))  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="are free on the disk of"):
        Arriving(Blob(b"h" * 32, 10 << 30), tmp_path / "target")
    assert not list(tmp_path.iterdir())


def test_what_somebody_else_has_added_to_is_not_put_into_its_place(tmp_path: Path) -> None:
    arriving = Arriving(blob_of(CONTENT), tmp_path / "target")
    arriving.add(CONTENT)
    (part,) = tmp_path.iterdir()
    with part.open("ab") as file:
        file.write(b"!")
    with pytest.raises(BusError, match="arrived damaged"):
        arriving.finish()
    arriving.close()
    assert not list(tmp_path.iterdir())


def test_one_that_is_broken_off_is_over_when_nothing_is_written_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the next one would begin with a file that still grows."""
    may_write, add = threading.Event(), Arriving.add

    async def check() -> None:
        loop, writes = asyncio.get_running_loop(), asyncio.Event()

        def add_slowly(self: Arriving, data: bytes | bytearray) -> None:
            loop.call_soon_threadsafe(writes.set)
            assert may_write.wait(20)
            add(self, data)

        async def part(*_: object) -> bytearray:
            return bytearray(CONTENT[:1000])

        monkeypatch.setattr(Arriving, "add", add_slowly)
        monkeypatch.setattr(blobs_module, "_part", part)
        connection: Any = SimpleNamespace(limits=SimpleNamespace(blob_part=1000))
        fetching = asyncio.create_task(blobs_module.fetch_file(connection, blob_of(CONTENT), tmp_path / "target"))
        await writes.wait()
        fetching.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not fetching.done()
        may_write.set()
        with pytest.raises(asyncio.CancelledError):
            await fetching

    asyncio.run(check())
    (left,) = tmp_path.iterdir()
    assert left.stat().st_size == 1000


# ------------------------------------------------------------------------------------------ what a task left


def test_outputs_are_those_in_the_value_and_those_beside_it() -> None:
    blob = Blob(b"h" * 32, 10 << 30)
    value = {"exit_code": 0, "outputs": {"b": b"small"}}
    assert outputs_of(value, [File("a/large", blob)]) == {
        "a/large": Output("a/large", 10 << 30, blob),
        "b": Output("b", 5, b"small"),
    }
    assert outputs_of(None, [File("", blob)]) == {"": Output("", 10 << 30, blob)}
    assert outputs_of(b"12", []) == {"": Output("", 2, b"12")}
    assert outputs_of({"outputs": [1]}, []) == outputs_of({"outputs": {"a": 1}}, []) == {}
    assert outputs_of(42, []) == outputs_of({"exit_code": 0}, []) == {}
    assert list(outputs_of({"outputs": {1: b"", "": b"", "a": b""}}, [])) == ["a"]


# ------------------------------------------------------------------------------------------ saved


def saved(target: Path, *paths: str) -> list[Path]:
    connection: Any = None  # nothing of it is fetched
    return asyncio.run(save(connection, {path: Output(path, 1, b"x") for path in paths}, target))


def test_files_are_saved_under_names_as_odd_as_a_disk_takes_them(tmp_path: Path) -> None:
    names = ["12:30.log", "deep/two\nlines", "back\\slash", "试" * 85, "x" * 255]
    assert saved(tmp_path / "new", *names) == [tmp_path / "new" / name for name in names]
    found = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert sorted(found) == sorted(tmp_path / "new" / name for name in names)


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "a\0", "link/x", "link/deep/x"])
def test_nothing_is_saved_where_one_leads_out(tmp_path: Path, path: str) -> None:
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "link").symlink_to(outside)
    with pytest.raises(PayloadError, match="nothing was written"):
        saved(target, "a", path)
    assert not list(outside.iterdir()) and [each.name for each in target.iterdir()] == ["link"]


def test_a_link_in_a_files_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.write_bytes(b"mine")
    (target / "a").symlink_to(outside)
    saved(target, "a")
    assert outside.read_bytes() == b"mine" and (target / "a").read_bytes() == b"x" and not (target / "a").is_symlink()


@pytest.mark.parametrize("path", ["", "a"], ids=["a call's result", "an output"])
def test_where_a_folder_is_nothing_is_fetched(tmp_path: Path, path: str) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError, match="there is a folder of that name; nothing was written"):
        saved(tmp_path, path)
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
