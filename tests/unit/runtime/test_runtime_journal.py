"""What a child has done, in memory that survives it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import pytest

from headway_bus.ids import new_task_id
from headway_bus.records import AttemptEnd, Ended
from headway_runtime import journal as journals
from headway_runtime.journal import Journal

ENDS = [Ended(new_task_id(), 1, AttemptEnd.SUCCEEDED, 0.1, b"\x01") for _ in range(5)]


@pytest.fixture
def descriptor() -> Iterator[int]:
    descriptor = journals.make_file()
    yield descriptor
    os.close(descriptor)


def test_the_other_end_reads_what_was_never_sent(descriptor: int) -> None:
    writer, reader = Journal(descriptor), Journal(descriptor)
    assert reader.is_empty
    assert reader.sections() == (b"", b"")
    for ended in ENDS:
        writer.begun += 1
        assert writer.add_end(msgspec.msgpack.encode(ended))
    writer.add_log(msgspec.msgpack.encode("a record"))
    ends, logs = (bytes(section) for section in reader.sections())
    assert msgspec.msgpack.decode(ends, type=list[Ended]) == ENDS
    assert msgspec.msgpack.decode(logs) == ["a record"]
    assert (reader.begun, reader.ended_count) == (5, 5)
    writer.clear()
    assert reader.is_empty
    assert reader.begun == 5
    writer.close()
    reader.close()


def test_a_full_region_takes_no_more_and_keeps_what_it_has(descriptor: int) -> None:
    journal = Journal(descriptor)
    record = b"\xc4\xff" + b"x" * 255
    count = 0
    while journal.add_end(record):
        count += 1
    assert count == journal.ended_count == (journals.ENDS_BYTES - 5) // len(record)
    assert not journal.add_log(b"x" * journals.LOGS_BYTES)
    ends = bytes(journal.sections()[0])
    assert len(msgspec.msgpack.decode(ends)) == count
    journal.close()


def test_a_death_in_the_middle_of_a_record_leaves_the_earlier_ones(descriptor: int) -> None:
    writer, reader = Journal(descriptor), Journal(descriptor)
    writer.add_end(msgspec.msgpack.encode(ENDS[0]))
    used = writer._words[1] >> 32
    writer._view[64 + used : 64 + used + 4] = b"\x97\xc4\x10\x00"  # the beginning of the next one, never counted
    ends = bytes(reader.sections()[0])
    assert msgspec.msgpack.decode(ends, type=list[Ended]) == ENDS[:1]
    writer.close()
    reader.close()
