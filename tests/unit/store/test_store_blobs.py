"""Large values arrive in parts, in any number of attempts, and are what their names say."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from store_bench import Bench, call, end

from headway_bus import copying
from headway_bus.errors import StoreError
from headway_bus.records import Blob, File
from headway_controller.store import BlobFolder, DropTasks, blob_of

DATA = bytes(range(256)) * 40


@pytest.fixture(params=[False, True], ids=["normal", "flushed"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobFolder:
    return BlobFolder(tmp_path / "blobs", flush=request.param)


def test_parts_make_a_whole(blobs: BlobFolder) -> None:
    blob = blob_of(DATA)
    at = 0
    while at < blob.size:
        assert not blobs.has(blob)
        at = blobs.put_part(blob, at, DATA[at : at + 1000])
    assert blobs.has(blob)
    assert blobs.read(blob) == DATA
    assert blobs.read_part(blob, 5000, 300) == DATA[5000:5300]
    assert blobs.read_part(blob, blob.size - 10, 300) == DATA[-10:]
    assert blobs.read_part(blob, blob.size, 300) == b""
    assert blobs.usage() == (1, len(DATA))


def test_a_sender_is_told_where_to_go_on(blobs: BlobFolder) -> None:
    blob = blob_of(DATA)
    assert blobs.put_part(blob, 0, b"") == 0
    assert blobs.put_part(blob, 0, DATA[:3000]) == 3000
    assert blobs.put_part(blob, 0, DATA[:3000]) == 3000, "a part that comes twice"
    assert blobs.put_part(blob, 6000, DATA[6000:7000]) == 3000, "a part that comes too early"
    assert BlobFolder(blobs.folder).put_part(blob, 0, b"") == 3000, "after a restart"
    assert blobs.put_part(blob, 3000, DATA[3000:]) == blob.size
    assert blobs.put_part(blob, 0, DATA[:3000]) == blob.size, "what is there is not written again"
    assert blobs.read(blob) == DATA


def test_a_wrong_hash_throws_the_parts_away(blobs: BlobFolder) -> None:
    blob = blob_of(DATA)
    blobs.put_part(blob, 0, b"!" + DATA[1:4000])
    with pytest.raises(StoreError, match="from the beginning"):
        blobs.put_part(blob, 4000, DATA[4000:])
    assert not blobs.has(blob)
    assert blobs.put_part(blob, 0, b"") == 0
    assert blobs.put_part(blob, 0, DATA) == blob.size


def test_an_empty_blob_is_a_blob(blobs: BlobFolder) -> None:
    blob = blob_of(b"")
    assert blobs.put_part(blob, 0, b"") == 0
    assert blobs.has(blob)
    assert blobs.read(blob) == b""


def test_put_goes_on_from_what_is_there(blobs: BlobFolder) -> None:
    blobs.put_part(blob_of(DATA), 0, DATA[:123])
    assert blobs.put(DATA) == blob_of(DATA)
    assert blobs.put(DATA) == blob_of(DATA)
    assert blobs.read(blob_of(DATA)) == DATA


@pytest.mark.parametrize(
    ("offset", "data"), [(-1, b""), (0, DATA + b"!"), (len(DATA), b"!"), (len(DATA) + 1, b"")], ids=str
)
def test_a_part_outside_of_the_blob_is_refused(blobs: BlobFolder, offset: int, data: bytes) -> None:
    with pytest.raises(StoreError, match="does not fit"):
        blobs.put_part(blob_of(DATA), offset, data)


@pytest.mark.parametrize("name", [b"", b"../../../../etc/passwd", b"x" * 33, b"x" * 31])
def test_a_name_that_is_no_hash_is_refused(blobs: BlobFolder, name: bytes) -> None:
    for refused in (lambda b: blobs.put_part(b, 0, b"a"), lambda b: blobs.read_part(b, 0, 1), blobs.has):
        with pytest.raises(StoreError, match="not a blob"):
            refused(Blob(name, 1))


def test_names_are_made_of_the_hash_alone(blobs: BlobFolder) -> None:
    blob = blobs.put(DATA)
    assert [path.relative_to(blobs.folder).as_posix() for path in blobs.folder.rglob("*") if path.is_file()] == [
        f"{blob.hash.hex()[:2]}/{blob.hash.hex()}"
    ]


def test_what_is_not_there_is_said(blobs: BlobFolder) -> None:
    with pytest.raises(StoreError, match="not in the store"):
        blobs.read(blob_of(DATA))
    blobs.put_part(blob_of(DATA), 0, DATA[:10])
    with pytest.raises(StoreError, match="not in the store"):
        blobs.read_part(blob_of(DATA), 0, 5)
    blobs.put(DATA)
    with pytest.raises(StoreError, match="not part of a blob"):
        blobs.read_part(blob_of(DATA), len(DATA) + 1, 5)


def test_a_wrong_size_is_said(blobs: BlobFolder) -> None:
    blob = blobs.put(DATA)
    with pytest.raises(StoreError, match=f"{len(DATA)} bytes, not 5"):
        blobs.put_part(Blob(blob.hash, 5), 0, b"")
    assert not blobs.has(Blob(blob.hash, 5))


def test_a_disk_that_takes_only_half_a_part_leaves_nothing_of_it(
    blobs: BlobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob, write, calls = blob_of(DATA), os.write, []

    def half(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) % 2 == 0:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    assert blobs.put_part(blob, 0, DATA[:1000]) == 1000
    monkeypatch.setattr(os, "write", half)
    with pytest.raises(StoreError, match="no room"):
        blobs.put_part(blob, 1000, DATA[1000:3000])
    assert calls == [2000, 1000]
    monkeypatch.undo()
    assert blobs.usage() == (0, 0), "others need the room"
    assert blobs.put_part(blob, 0, DATA) == blob.size


def test_two_senders_of_the_same_blob_help_each_other(blobs: BlobFolder) -> None:
    data = os.urandom(200_000)
    blob = blob_of(data)

    def send() -> None:
        at = 0
        while at < blob.size:
            at = blobs.put_part(blob, at, data[at : at + 777])

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert blobs.read(blob) == data


def test_sweeping_takes_what_is_old_and_not_wanted(blobs: BlobFolder) -> None:
    wanted, unwanted = blobs.put(b"wanted"), blobs.put(b"unwanted")
    young, asked = blobs.put(b"young"), blobs.put(b"asked about")
    part = blob_of(DATA)
    blobs.put_part(part, 0, DATA[:10])
    for path in blobs.folder.rglob("*"):
        if path.is_file() and path.name != young.hash.hex():
            os.utime(path, (1000.0, 1000.0))
    foreign = blobs.folder / "ab" / "notes.txt"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("a person's own")
    os.utime(foreign, (1000.0, 1000.0))
    blobs.put_part(asked, 0, b"")  # a client is about to submit a task that refers to it
    assert blobs.sweep({wanted.hash}, before=2000.0) == 2
    assert [blobs.has(blob) for blob in (wanted, unwanted, young, asked)] == [True, False, True, True]
    assert blobs.put_part(part, 0, b"") == 0
    assert foreign.exists()


def test_the_store_sweeps_what_its_tasks_do_not_need(tmp_path: Path, open_bench: Callable[..., Bench]) -> None:
    from headway_bus.ids import new_task_ids
    from headway_bus.records import File
    from headway_controller.store import DropTasks, NewTasks

    bench = open_bench(tmp_path / "headway.db")
    blobs = bench.store.blobs
    argument, result, script, stray = (blobs.put(text) for text in (b"argument", b"result", b"script", b"stray"))
    first, second = new_task_ids(2)
    options = call(files=[File("main.py", script)])
    bench.write(NewTasks(call(), 1.0, "c", [(first, argument)]), NewTasks(options, 1.0, "c", [(second, b"")]))
    bench.write(end(first, result=result))
    late = 1e12
    assert bench.store.sweep_blobs(before=0.0) == 0
    assert bench.store.sweep_blobs(late) == 1
    assert not blobs.has(stray)
    bench.write(DropTasks([first]))
    assert bench.store.sweep_blobs(late) == 2
    assert blobs.has(script)
    bench.write(DropTasks([second]))
    assert bench.store.sweep_blobs(late) == 1
    assert blobs.usage() == (0, 0)


def test_a_blob_is_hashed_as_it_comes_and_not_read_again(blobs: BlobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10 GiB that would be half a minute in which no other blob is served."""
    read = []
    monkeypatch.setattr(copying, "hash_of", read.append)
    blob = blob_of(DATA)
    for at in range(0, blob.size, 1000):
        blobs.put_part(blob, at, DATA[at : at + 1000])
    assert blobs.has(blob) and not read and not blobs._growing


def test_what_another_process_began_is_hashed_when_it_is_whole(blobs: BlobFolder) -> None:
    blob = blob_of(DATA)
    BlobFolder(blobs.folder).put_part(blob, 0, b"!" + DATA[1:4000])
    with pytest.raises(StoreError, match="another hash"):
        blobs.put_part(blob, 4000, DATA[4000:])
    assert blobs.put_part(blob, 0, DATA[:4000]) == 4000
    assert BlobFolder(blobs.folder).put_part(blob, 4000, DATA[4000:]) == blob.size


def test_what_does_not_fit_is_refused_at_once(blobs: BlobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(20 << 30, 19 << 30, 1 << 30))  # type: ignore[attr-defined]
    small = blobs.put(DATA)
    with pytest.raises(StoreError, match=f"{10 << 30} bytes does not fit .* has {1 << 30} bytes free"):
        blobs.put_part(Blob(b"h" * 32, 10 << 30), 0, DATA)
    assert blobs.usage() == (1, small.size)


def test_files_beside_a_result_are_kept_with_it_and_go_with_it(bench: Bench) -> None:
    (task,) = bench.add(1)
    files = [File("a/one", bench.store.blobs.put(b"1" * 2000)), File("two", bench.store.blobs.put(b"2" * 3000))]
    bench.write(end(task, result=b"value", files=tuple(files)))
    bench.write(end(task, result=b"late", files=(File("three", Blob(b"h" * 32, 1)),)))
    (found,) = bench.store.find([task])
    assert found.end is not None
    assert (found.end.result, found.end.files, found.end.result_size) == (b"value", files, 5005)
    assert bench.store.sweep_blobs(time.time() + 60) == 0
    bench.write(DropTasks([task]))
    assert bench.store.sweep_blobs(time.time() + 60) == 2
