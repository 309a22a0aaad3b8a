"""What a child has done and not yet said, in memory that survives its death.

A child tells of ends in batches. Were the batch in its own memory, a crash would take with it attempts that had already
succeeded, and the one that crashed could not be told from those before it. So the batch is composed in memory that the
runtime has mapped too: sending is one system call from here, and after a crash the runtime reads what was never sent.

Layout: three words of 64 bits (attempts begun; for ends and for log records the bytes used, shifted by 32, and the count),
then the two regions, each a msgpack array whose count is filled in last. A word is written by one machine instruction, so
that a kill leaves it as it was or as it should be.
"""

from __future__ import annotations

import mmap
import os
import tempfile

ENDS_BYTES = 128 * 1024
LOGS_BYTES = 128 * 1024
_ARRAY_HEAD = 5  # msgpack's array 32: a marker and the count
_ENDS_AT = 64
_LOGS_AT = _ENDS_AT + ENDS_BYTES
SIZE = _LOGS_AT + LOGS_BYTES
_COUNT = (1 << 32) - 1


def make_file() -> int:
    """A new file for a journal, in memory and without a name; the descriptor is handed to the child."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("headway-journal", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, SIZE)
    return descriptor


class Journal:
    """One journal, at either end."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SIZE)
        self._view = memoryview(self._map)
        self._words = self._view[:24].cast("Q")

    def close(self) -> None:
        """Let go of the memory. The views that ``sections`` gave must be gone."""
        self._words.release()
        self._view.release()
        self._map.close()

    @property
    def begun(self) -> int:
        """Attempts begun since the child started."""
        return self._words[0]

    @begun.setter
    def begun(self, count: int) -> None:
        self._words[0] = count

    @property
    def is_empty(self) -> bool:
        return not (self._words[1] or self._words[2])

    @property
    def ended_count(self) -> int:
        return self._words[1] & _COUNT

    def add_end(self, record: bytes) -> bool:
        """Write down an encoded end. False: there is no room, hand over what is here first."""
        word = self._words[1]
        used = word >> 32 or _ARRAY_HEAD
        end = used + len(record)
        if end > ENDS_BYTES:
            return False
        self._view[_ENDS_AT + used : _ENDS_AT + end] = record
        self._words[1] = end << 32 | (word & _COUNT) + 1
        return True

    def add_log(self, record: bytes) -> bool:
        """The same for a log record."""
        word = self._words[2]
        used = word >> 32 or _ARRAY_HEAD
        end = used + len(record)
        if end > LOGS_BYTES:
            return False
        self._view[_LOGS_AT + used : _LOGS_AT + end] = record
        self._words[2] = end << 32 | (word & _COUNT) + 1
        return True

    def sections(self) -> tuple[memoryview | bytes, memoryview | bytes]:
        """The two arrays, ready to be sent; empty where there is nothing."""
        return self._section(1, _ENDS_AT), self._section(2, _LOGS_AT)

    def _section(self, word: int, at: int) -> memoryview | bytes:
        value = self._words[word]
        if not value:
            return b""
        self._view[at : at + _ARRAY_HEAD] = b"\xdd" + (value & _COUNT).to_bytes(4, "big")
        return self._view[at : at + (value >> 32)]

    def clear(self) -> None:
        """It was sent."""
        self._words[1] = 0
        self._words[2] = 0
