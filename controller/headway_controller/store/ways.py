"""Ways to write a value into a file, the one that costs least first, each for as long as the disk keeps up with it.

The way past the system's memory costs a tenth of the processor time of the usual one (0.1 against 0.4 ms for 1 MiB, and 2 ms
where the system must find the memory first), but it waits for the disk. Where that takes long, the system's memory is the
better place: it holds back gigabytes and writes them when there is time.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from time import monotonic
from typing import NamedTuple

PAGE_BYTES = 4096
STAGE_BYTES = 2 * 1024 * 1024
LOOK_BYTES = 16 * 1024 * 1024
"""How much is written before a way is judged."""

REST_BYTES = 256 * 1024 * 1024
"""How much goes another way before one that was too slow is tried again."""

_UNCACHED = 0x80
"""RWF_DONTCACHE of Linux 6.14 and later: on its way to the disk at once, and out of memory when it is there."""

_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENOTTY)

NEVER = float("inf")

Buffer = bytes | memoryview


class Way(NamedTuple):
    """``patience``: seconds that ``LOOK_BYTES`` may wait for the disk; beyond them the next way is taken."""

    is_direct: bool
    flags: int
    patience: float


def possible_ways() -> list[Way]:
    """What this system knows; whether a file takes it is seen when it is tried."""
    found = []
    if hasattr(os, "O_DIRECT"):
        found.append(Way(True, 0, 0.1))
    if hasattr(os, "pwritev"):
        found.append(Way(False, _UNCACHED, 0.32))
    return [*found, Way(False, 0, NEVER)]


class FileWriter:
    """Writes buffers one behind the other at multiples of a page. For one thread at a time."""

    def __init__(self, ways: list[Way] | None = None) -> None:
        self._ways = ways or possible_ways()
        self._stage = mmap.mmap(-1, STAGE_BYTES)  # begins with a page, as a write past the system's memory must
        self._view = memoryview(self._stage)
        self._chosen = 0
        self._rest = 0
        self._bytes = 0
        self._seconds = 0.0

    @property
    def way(self) -> Way:
        """The one that the next buffers go."""
        return self._ways[self._chosen]

    def write(self, descriptor: int, buffers: list[Buffer], at: int) -> int:
        """Write all of it to ``at``, a multiple of ``PAGE_BYTES``; where the next may begin. Raises OSError."""
        while True:
            way = self.way
            began = _not_waited_for_processor() if way.patience < NEVER else 0.0
            try:
                end = (
                    self._write_direct(descriptor, buffers, at)
                    if way.is_direct
                    else _write(descriptor, buffers, at, way)
                )
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED or way is self._ways[-1]:
                    raise
                del self._ways[self._chosen]
                continue
            seconds = _not_waited_for_processor() - began if way.patience < NEVER else 0.0
            self._judge(way, end - at, seconds)
            return end

    def _judge(self, way: Way, count: int, seconds: float) -> None:
        self._rest -= count
        if self._chosen and self._rest <= 0:
            self._choose(0)
            return
        self._bytes += count
        self._seconds += seconds
        if self._bytes >= LOOK_BYTES:
            if self._seconds > way.patience * self._bytes / LOOK_BYTES:
                self._rest = REST_BYTES
                self._choose(self._chosen + 1)
            self._bytes, self._seconds = 0, 0.0

    def _choose(self, number: int) -> None:
        self._chosen = number
        self._bytes, self._seconds = 0, 0.0

    def _write_direct(self, descriptor: int, buffers: list[Buffer], at: int) -> int:
        _set_direct(descriptor, True)
        try:
            filled = 0
            for buffer in buffers:
                done = 0
                while done < len(buffer):
                    count = min(STAGE_BYTES - filled, len(buffer) - done)
                    self._view[filled : filled + count] = buffer[done : done + count]
                    filled += count
                    done += count
                    if filled == STAGE_BYTES:
                        at = self._write_stage(descriptor, filled, at)
                        filled = 0
            return self._write_stage(descriptor, filled, at) if filled else at
        finally:
            _set_direct(descriptor, False)

    def _write_stage(self, descriptor: int, filled: int, at: int) -> int:
        size = -(-filled // PAGE_BYTES) * PAGE_BYTES
        self._view[filled:size] = bytes(size - filled)
        written = 0
        while written < size:
            # Half of a page, on a disk that is nearly full, would leave the rest where it may not begin.
            count = os.pwrite(descriptor, self._view[written:size], at + written) // PAGE_BYTES * PAGE_BYTES
            if not count:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written += count
        return at + size


def _not_waited_for_processor() -> float:
    """Seconds on a clock of this thread that stands still while it could run and another one has the processor: what is slow
    on a busy machine is not the disk."""
    try:
        descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return monotonic()
    try:
        return monotonic() - int(os.read(descriptor, 100).split()[1]) / 1e9
    finally:
        os.close(descriptor)


def _set_direct(descriptor: int, direct: bool) -> None:
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT if direct else flags & ~os.O_DIRECT)


def _write(descriptor: int, buffers: list[Buffer], at: int, way: Way) -> int:
    views = [memoryview(buffer) for buffer in buffers if len(buffer)]
    while views:
        written = os.pwritev(descriptor, views, at, way.flags) if way.flags else os.pwrite(descriptor, views[0], at)
        at += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
    return -(-at // PAGE_BYTES) * PAGE_BYTES
