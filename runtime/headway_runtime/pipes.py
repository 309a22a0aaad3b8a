"""Messages on a stream between the runtime and a process of its own.

A message is a head, three small parts, and payload frames, each with its length before it. Long frames are received into
the memory they stay in; a second copy of 100 MiB would cost more than everything else about the attempt.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from headway_bus.endpoint import Frame

HEAD = struct.Struct("<IIII")
"""Bytes of the three parts, and the number of frames that follow them."""

SIZE = struct.Struct("<Q")
READ_BYTES = 256 * 1024
MAX_PART_BYTES = 64 * 1024 * 1024
"""A part beyond this is no part: the stream is out of step. Payloads travel as frames, so parts stay far below."""


class Parcel(NamedTuple):
    """One message: three encoded parts (any may be empty) and payload frames."""

    first: bytes
    second: bytes
    third: bytes
    frames: list[Frame]


def pack(first: Frame, second: Frame = b"", third: Frame = b"", frames: Sequence[Frame] = ()) -> list[Frame]:
    """The buffers of one message, to be written one after the other."""
    buffers: list[Frame] = [HEAD.pack(len(first), len(second), len(third), len(frames)), first]
    if second:
        buffers.append(second)
    if third:
        buffers.append(third)
    for frame in frames:
        buffers += (SIZE.pack(len(frame)), frame)
    return buffers


class Reader:
    """Cuts what arrives on a stream socket into messages."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        # One for all reads: a new one of this size is memory of its own from the kernel each time, given back when it
        # shrinks to what came, which costs a lone attempt more than reading it.
        self._room = memoryview(bytearray(READ_BYTES))
        self._rest = b""
        self._parcel: Parcel | None = None
        self._frames_left = 0
        self._frame = memoryview(b"")
        self._filled = 0

    def read(self) -> list[Parcel]:
        """What one receive call completes. Raises EOFError at the end, BlockingIOError if there is nothing."""
        if self._filled < len(self._frame):
            count = self._stream.recv_into(self._frame[self._filled :])
            if not count:
                raise EOFError
            self._filled += count
            return self._cut(b"") if self._filled == len(self._frame) else []
        count = self._stream.recv_into(self._room)
        if not count:
            raise EOFError
        data = bytes(self._room[:count])
        return self._cut(self._rest + data if self._rest else data)

    def _cut(self, data: bytes) -> list[Parcel]:
        parcels: list[Parcel] = []
        at, size = 0, len(data)
        while True:
            if self._parcel is not None:
                at = self._take_frames(data, at)
                if self._frames_left:
                    break
                parcels.append(self._parcel)
                self._parcel = None
            if size - at < HEAD.size:
                break
            first, second, third, frames = HEAD.unpack_from(data, at)
            if max(first, second, third) > MAX_PART_BYTES:
                raise EOFError("the stream is out of step")
            body = at + HEAD.size
            end = body + first + second + third
            if end > size:
                break
            middle = body + first
            self._parcel = Parcel(data[body:middle], data[middle : middle + second], data[middle + second : end], [])
            self._frames_left = frames
            at = end
        self._rest = data[at:] if at < size else b""
        return parcels

    def _take_frames(self, data: bytes, at: int) -> int:
        """Complete frames of the open parcel from ``data``; returns how far it got."""
        assert self._parcel is not None
        if len(self._frame):  # a long one, received in place
            if self._filled < len(self._frame):
                return at
            self._parcel.frames.append(self._frame)
            self._frame, self._filled = memoryview(b""), 0
            self._frames_left -= 1
        while self._frames_left and len(data) - at >= SIZE.size:
            (length,) = SIZE.unpack_from(data, at)
            start = at + SIZE.size
            if len(data) - start >= length:
                self._parcel.frames.append(data[start : start + length])
                at = start + length
                self._frames_left -= 1
                continue
            self._frame = memoryview(bytearray(length))
            self._filled = len(data) - start
            self._frame[: self._filled] = data[start:]
            return len(data)
        return at


class Writer:
    """Writes to a stream socket that does not block; what it does not take waits here, in order."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._waiting: deque[memoryview] = deque()

    @property
    def is_waiting(self) -> bool:
        """Whether ``flush`` must be called when the socket can be written to."""
        return bool(self._waiting)

    def write(self, buffers: Sequence[Frame]) -> None:
        """Raises OSError when the other end is gone."""
        self._waiting.extend(memoryview(buffer) for buffer in buffers if len(buffer))
        self.flush()

    def flush(self) -> None:
        waiting = self._waiting
        while waiting:
            try:
                sent = self._stream.sendmsg(list(waiting)[:64] if len(waiting) > 64 else waiting)
            except BlockingIOError:
                return
            while waiting and sent >= len(waiting[0]):
                sent -= len(waiting.popleft())
            if sent:
                waiting[0] = waiting[0][sent:]


def write_all(stream: socket.socket, buffers: Sequence[Frame]) -> None:
    """Write everything to a blocking socket."""
    views = [memoryview(buffer) for buffer in buffers if len(buffer)]
    while views:
        sent = stream.sendmsg(views[:64])
        while views and sent >= len(views[0]):
            sent -= len(views.pop(0))
        if sent:
            views[0] = views[0][sent:]
