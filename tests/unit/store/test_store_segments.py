"""Values that came inside messages: written once, hashed only when they come again, checked when they are read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from store_bench import Bench, end, new_tasks

from headway_bus.errors import StoreError
from headway_bus.ids import new_task_ids
from headway_bus.records import Blob
from headway_controller.store import BlobFolder, blobs, segments, ways
from headway_controller.store.apply import FILE_BYTES
from headway_controller.store.segments import Segments
from headway_controller.store.ways import FileWriter, Way

USUAL = Way(False, 0, ways.NEVER)
FUTURE = 2**40


def values(count: int, size: int = 100_000) -> list[bytes]:
    return [os.urandom(size + number) for number in range(count)]


@pytest.fixture
def place(tmp_path: Path) -> Segments:
    return Segments(tmp_path / "segments")


def test_what_is_put_is_read_whole_and_in_parts(place: Segments) -> None:
    stored = [(place.put(value), value) for value in values(5)]
    for blob, value in stored:
        assert blob.named and blob.size == len(value)
        assert place.has(blob)
        assert place.read(blob, 0, blob.size) == value
        assert place.read(blob, 70_000, 50_000) == value[70_000:]
    assert place.usage()[0] == 1, "one file for all of them"
    other = Segments(place.folder)
    assert other.read(stored[3][0], 0, 10) == stored[3][1][:10], "another process"


def test_a_name_cannot_be_made_from_another(place: Segments) -> None:
    first, second = place.put(b"mine" * 30_000), place.put(b"theirs" * 20_000)
    forged = Blob(second.hash[:16] + first.hash[16:], second.size, named=True)
    assert not place.has(forged)
    with pytest.raises(FileNotFoundError):
        place.read(forged, 0, 100)
    with pytest.raises(FileNotFoundError):
        place.read(Blob(second.hash, second.size + 1, named=True), 0, 100)


@pytest.mark.parametrize("kind", [segments.CRC32, 3])
def test_a_value_that_looks_like_the_head_of_another_is_none(place: Segments, kind: int) -> None:
    first = place.put(b"mine" * 30_000)
    segment, pages, size, _ = segments.NAME.unpack(first.hash)
    at = pages - (-(segments.HEAD_BYTES + size) // ways.PAGE_BYTES)  # where the next value will lie
    reach = 3 * ways.PAGE_BYTES
    name = segments.NAME.pack(segment, at + 1, reach, bytes(16))
    head = segments.sealed(segments.SUM.pack(name, kind, 0), bytes(segments.SECRET_BYTES))
    crafted = place.put(bytes(ways.PAGE_BYTES - segments.HEAD_BYTES) + head)
    assert segments.NAME.unpack(crafted.hash)[1] == at
    place.put(b"theirs" * 20_000)
    with (place.folder / segment.hex()).open("rb") as file:
        file.seek((at + 1) * ways.PAGE_BYTES)
        assert file.read(len(head)) == head, "it lies where the name says"
    with pytest.raises(FileNotFoundError):
        place.read(Blob(name, reach, named=True), 0, reach)


def test_damage_is_seen_by_whoever_reads(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path)
    value = os.urandom(300_000)
    blob = folder.put_new(value)
    folder.close()
    (path,) = (tmp_path / "segments").iterdir()
    with path.open("r+b") as file:
        file.seek(200_000)
        file.write(bytes(100))
    with pytest.raises(StoreError, match="damaged on the disk"):
        BlobFolder(tmp_path).read_part(blob, 0, 1000)


def test_a_full_segment_is_followed_by_another(place: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 250_000)
    stored = [place.put(value) for value in values(4)]
    assert place.usage()[0] == 2
    large = place.put(bytes(1_000_000))
    assert place.read(large, 999_999, 10) == b"\0"
    assert all(place.has(blob) for blob in stored)


def test_a_segment_is_removed_with_its_last_value_and_gives_room_back_before(place: Segments) -> None:
    stored = values(8)
    names = [place.put(value) for value in stored]
    assert place.sweep(set(), 0.0) == 0, "too young"
    kept = {names[0].hash, names[5].hash}
    before = place.usage()[1]
    assert place.sweep(kept, FUTURE) == 0
    for number in (0, 5):
        assert place.read(names[number], 0, 1_000_000) == stored[number]
    after = place.usage()[1]
    assert after <= before
    assert place.put(b"next" * 20_000).hash[:8] != names[0].hash[:8], "what was swept is not written to again"
    assert place.sweep(set(), FUTURE) == 2
    assert place.usage() == (0, 0)


def test_a_copy_keeps_what_is_removed_here(place: Segments, tmp_path: Path) -> None:
    stored = values(3)
    names = [place.put(value) for value in stored]
    assert place.copy_to(tmp_path / "copy", {names[1].hash}) == 1
    place.put(os.urandom(500_000))
    place.sweep({names[0].hash}, FUTURE)
    copy = Segments(tmp_path / "copy")
    assert [copy.read(blob, 0, blob.size) for blob in names] == stored
    assert copy.usage()[1] < 500_000, "what came after is not in it"


def test_what_is_missing_is_found(place: Segments) -> None:
    names = {place.put(value).hash for value in values(3)}
    lost = os.urandom(32)
    assert place.missing({*names, lost}) == {lost}
    os.truncate(next(place.folder.iterdir()), 150_000)
    assert len(place.missing(names)) == 2


def test_a_value_that_finds_no_room_leaves_nothing(place: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    first = place.put(b"first" * 20_000)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(FileWriter, "write", full)
    with pytest.raises(OSError, match="no room"):
        place.put(bytes(100_000))
    monkeypatch.undo()
    second = place.put(b"second" * 20_000)
    assert place.read(first, 0, 5) == b"first"
    assert place.read(second, 0, 6) == b"second"


# ------------------------------------------------------------------------------------------------------ ways to write


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, ways.STAGE_BYTES - 5, 2 * ways.STAGE_BYTES + 77])
@pytest.mark.parametrize("way", ways.possible_ways(), ids=lambda way: "direct" if way.is_direct else hex(way.flags))
def test_every_way_writes_the_same(tmp_path: Path, way: Way, size: int) -> None:
    writer = FileWriter([way, USUAL])
    content = os.urandom(size)
    path = tmp_path / "file"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    at = writer.write(descriptor, [b"head", memoryview(content)], 0)
    after = writer.write(descriptor, [b"next"], at)
    os.close(descriptor)
    assert at % ways.PAGE_BYTES == 0 and at - size - 4 < ways.PAGE_BYTES and after == at + ways.PAGE_BYTES
    data = path.read_bytes()
    assert data[: size + 4] == b"head" + content
    assert data[at : at + 4] == b"next"


def test_a_way_that_a_file_does_not_take_is_given_up(tmp_path: Path) -> None:
    writer = FileWriter([Way(False, 1 << 30, 1.0), USUAL])
    with (tmp_path / "file").open("wb") as file:
        writer.write(file.fileno(), [b"content"], 0)
    assert writer.way == USUAL
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="there is no way past the memory")
def test_less_than_a_page_of_room_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: 1808)
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match="No space"):
        FileWriter().write(file.fileno(), [bytes(20_000)], 0)


def test_the_last_way_is_never_given_up(tmp_path: Path) -> None:
    writer = FileWriter([Way(False, 0, 1.0), USUAL])
    with (tmp_path / "file").open("wb") as file:
        for _ in range(2):
            with pytest.raises(OSError, match="Invalid argument"):
                writer.write(file.fileno(), [b"content"], -ways.PAGE_BYTES)
        writer.write(file.fileno(), [b"content"], 0)
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_slow_way_is_left_for_a_time(tmp_path: Path) -> None:
    slow = Way(False, 0, -1.0)
    writer = FileWriter([slow, USUAL])
    megabyte = bytes(1 << 20)
    with (tmp_path / "file").open("wb") as file:
        for _ in range(ways.LOOK_BYTES >> 20):
            assert writer.way is slow
            writer.write(file.fileno(), [megabyte], 0)
        for _ in range(ways.REST_BYTES >> 20):
            assert writer.way is USUAL
            writer.write(file.fileno(), [megabyte], 0)
    assert writer.way is slow, "it is tried again"


# ------------------------------------------------------------------------------------------------------ what a value costs


class Counted:
    """Bytes that were hashed and written since the store was made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hashed = self.written = 0
        blob_of, write = blobs.blob_of, FileWriter.write

        def hashing(data: bytes | memoryview) -> Blob:
            self.hashed += len(data)
            return blob_of(data)

        def writing(writer: FileWriter, descriptor: int, buffers: list[bytes | memoryview], at: int) -> int:
            self.written += sum(map(len, buffers))
            return write(writer, descriptor, buffers, at)

        monkeypatch.setattr(blobs, "blob_of", hashing)
        monkeypatch.setattr(FileWriter, "write", writing)


def test_an_argument_and_a_result_are_each_written_once_and_never_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    bench = Bench(tmp_path / "h.db")
    argument, result = os.urandom(1 << 20), os.urandom(1 << 20)
    (task,) = new_task_ids(1)
    bench.write(new_tasks([task], payload=memoryview(argument)))
    bench.write(end(task, result=memoryview(result)))
    assert counted.hashed == 0
    assert counted.written == (2 << 20) + 2 * segments.HEAD_BYTES + segments.SECRET_BYTES
    stored = bench.store.find([task])[0]
    assert isinstance(stored.payload, Blob) and stored.end is not None and isinstance(stored.end.result, Blob)
    assert bench.store.blobs.read(stored.payload) == argument
    assert bench.store.blobs.read(stored.end.result) == result
    assert bench.store.check().well
    bench.store.close()


def test_equal_values_are_kept_twice_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    bench = Bench(tmp_path / "h.db")
    value = os.urandom(FILE_BYTES)
    tasks = new_task_ids(10)
    bench.write(*(new_tasks([task], payload=value) for task in tasks))
    assert counted.written == FILE_BYTES + segments.HEAD_BYTES + segments.SECRET_BYTES, "the first time in a segment"
    assert counted.hashed == 9 * FILE_BYTES, "from the second time on in a file by its hash"
    assert bench.store.blobs.usage()[0] == 2
    found = bench.store.find(tasks)
    assert all(isinstance(each.payload, Blob) and bench.store.blobs.read(each.payload) == value for each in found)
    bench.store.close()


def test_a_submission_that_comes_again_leaves_no_second_value(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "h.db")
    (task,) = new_task_ids(1)
    bench.write(new_tasks([task], payload=os.urandom(FILE_BYTES)))
    first = bench.store.find([task])[0].payload
    bench.write(new_tasks([task], payload=os.urandom(FILE_BYTES)))
    bench.write(end(task, result=os.urandom(FILE_BYTES)))
    bench.write(end(task, result=os.urandom(FILE_BYTES)))
    stored = bench.store.find([task])[0]
    assert stored.payload == first and stored.end is not None
    occupied = bench.store.blobs.usage()[1]
    assert bench.store.sweep_blobs(FUTURE) == 0, "the segment holds what is wanted"
    assert bench.store.blobs.usage()[1] < occupied, "what came again gives its room back"
    assert isinstance(stored.end.result, Blob) and len(bench.store.blobs.read(stored.end.result)) == FILE_BYTES
    bench.store.close()
