"""Messages on a stream, in whatever pieces they arrive."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway_runtime.pipes import HEAD, MAX_PART_BYTES, Parcel, Reader, Writer, pack, write_all

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def plain(parcel: Parcel) -> tuple[bytes, bytes, bytes, list[bytes]]:
    return parcel.first, parcel.second, parcel.third, [bytes(frame) for frame in parcel.frames]


parcels = st.tuples(
    st.binary(max_size=50), st.binary(max_size=5), st.binary(max_size=5), st.lists(st.binary(max_size=3000), max_size=3)
)


@given(st.lists(parcels, min_size=1, max_size=5), st.lists(st.integers(1, 2000), min_size=1, max_size=20))
def test_every_cut_of_the_stream_gives_the_same_messages(
    messages: list[tuple[bytes, bytes, bytes, list[bytes]]], cuts: list[int]
) -> None:
    data = b"".join(bytes(buffer) for message in messages for buffer in pack(*message))
    left, right = socket.socketpair()
    with left, right:
        right.setblocking(False)
        reader = Reader(right)
        found = []
        at = turn = 0
        while at < len(data):
            step = cuts[turn % len(cuts)]
            left.sendall(data[at : at + step])
            at, turn = at + step, turn + 1
            try:
                while True:
                    found += [plain(parcel) for parcel in reader.read()]
            except BlockingIOError:
                pass
    assert found == messages


def test_a_long_frame_is_received_in_place(pair: Pair) -> None:
    left, right = pair
    frame = bytes(range(256)) * 4000
    left.setblocking(False)
    writer = Writer(left)
    writer.write(pack(b"first", frames=[frame]))
    reader = Reader(right)
    found: list[Parcel] = []
    while not found:
        if writer.is_waiting:
            writer.flush()
        found += reader.read()
    assert found[0].frames == [frame]
    assert isinstance(found[0].frames[0], memoryview)
    assert not writer.is_waiting


def test_the_end_of_the_stream(pair: Pair) -> None:
    left, right = pair
    write_all(left, pack(b"last"))
    left.close()
    reader = Reader(right)
    assert plain(reader.read()[0]) == (b"last", b"", b"", [])
    with pytest.raises(EOFError):
        reader.read()


def test_a_stream_out_of_step_is_given_up(pair: Pair) -> None:
    left, right = pair
    left.sendall(HEAD.pack(MAX_PART_BYTES + 1, 0, 0, 0))
    with pytest.raises(EOFError):
        Reader(right).read()
