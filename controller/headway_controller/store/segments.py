"""Values that came inside messages, one behind the other in files of many: nothing is hashed, and no file made for each.

A hash of a megabyte takes longer than everything else the store does with it, and a file system takes as long to make a file
as to fill it. A value's name says where it lies, and holds 16 random bytes that stand before the value as well: whoever knows
one name can make no other from it. A sum stands there, too: who reads a value sees whether it was damaged since. And all of
that is sealed with a secret of the segment's, for a value may hold what looks like the head of another: it would be that of
everything that others store behind it.

::

    segments/ID           64 MB or one value, whatever is more; ID: 8 random bytes in hex
        at the beginning: the secret, 32 random bytes
        at other multiples of 4,096: the value's name, its sum and how that is made, the seal, the value

A segment that a process has opened is written by that process only, and from the beginning; what it was writing when it was
killed is named by no row. Segments are removed whole; in one that holds values still wanted, the rest gives its room back.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import struct
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from headway_bus.errors import StoreError
from headway_bus.records import Blob
from headway_controller.store.ways import PAGE_BYTES, FileWriter

xxhash: Any
try:
    import xxhash
except ModuleNotFoundError:  # a machine that was lent the rest; zlib has a sum as well, ten times as slow
    xxhash = None

SEGMENT_BYTES = 64_000_000
HOLE_BYTES = 64 * 1024
"""Less than this is not worth a hole."""

NAME = struct.Struct(">8sII16s")
"""Segment, place in pages, bytes, and what cannot be guessed."""

SUM = struct.Struct(">32sBQ")
"""Name, kind of the sum, sum."""

SEAL_BYTES = 16
HEAD_BYTES = SUM.size + SEAL_BYTES
SECRET_BYTES = 32

CRC32, XXH3 = 1, 2
MOST_CHECKED = 256
"""Values that are known to be whole, because they were read lately: those who fetch one ask for it in parts."""

_PUNCH_HOLE, _KEEP_SIZE = 2, 1


class Place(NamedTuple):
    """What a name says: ``size`` bytes of the value, from ``at`` on, and the head before them."""

    segment: bytes
    at: int
    size: int

    @property
    def begin(self) -> int:
        return self.at - HEAD_BYTES

    @property
    def end(self) -> int:
        return self.at + self.size


def place_of(name: bytes) -> Place:
    """Where the value of that name lies, if there is one."""
    segment, pages, size, _ = NAME.unpack(name)
    return Place(segment, pages * PAGE_BYTES + HEAD_BYTES, size)


def sealed(head: bytes, secret: bytes) -> bytes:
    """Name and sum, and what only this store can put behind them."""
    return head + hashlib.blake2b(head, digest_size=SEAL_BYTES, key=secret).digest()


def sum_of(value: bytes | memoryview, kind: int) -> int | None:
    """The sum of that kind; None where this machine cannot make it."""
    if kind == CRC32:
        return zlib.crc32(value)
    return xxhash.xxh3_64_intdigest(value) if kind == XXH3 and xxhash is not None else None


class Segments:
    """The segments of one store. Every method blocks on the disk and may be called in any thread; all raise OSError."""

    def __init__(self, folder: Path, flush: bool = False) -> None:
        """``flush``: survive a loss of power."""
        self.folder = folder
        self._flush = flush
        self._lock = threading.Lock()
        self._segment = b""
        self._descriptor = -1
        self._secret = b""
        self._end = 0
        self._writer = FileWriter()
        self._kind = CRC32 if xxhash is None else XXH3
        self._kept: dict[bytes, int] = {}
        self._checked: set[bytes] = set()

    def put(self, value: bytes | memoryview) -> Blob:
        """Store a value: when this returns, it survives the death of the process."""
        with self._lock:
            if self._descriptor < 0 or (self._end > PAGE_BYTES and self._end + len(value) > SEGMENT_BYTES):
                self._begin()
            name = NAME.pack(self._segment, self._end // PAGE_BYTES, len(value), os.urandom(16))
            try:
                head = sealed(SUM.pack(name, self._kind, sum_of(value, self._kind)), self._secret)
                end = self._writer.write(self._descriptor, [head, value], self._end)
                if self._flush:
                    os.fsync(self._descriptor)
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, self._end)
                raise
            self._end = end
        return Blob(name, len(value), named=True)

    def read(self, blob: Blob, offset: int, length: int) -> bytes:
        """A part of a value. Raises FileNotFoundError where there is no value of that name, StoreError if it is damaged."""
        place = place_of(blob.hash)
        with self._path_of(place.segment).open("rb", buffering=0) as file:
            secret = os.pread(file.fileno(), SECRET_BYTES, 0)
            head = os.pread(file.fileno(), HEAD_BYTES, place.begin)
            if place.size != blob.size or head[: NAME.size] != blob.hash or head != sealed(head[: SUM.size], secret):
                raise FileNotFoundError
            if length and blob.hash not in self._checked:
                self._check(file.fileno(), place, head)
            return os.pread(file.fileno(), min(length, blob.size - offset), place.at + offset)

    def _check(self, descriptor: int, place: Place, head: bytes) -> None:
        name, kind, expected = SUM.unpack(head[: SUM.size])
        value = os.pread(descriptor, place.size, place.at)
        if len(value) < place.size or sum_of(value, kind) not in (expected, None):
            raise StoreError(
                f"a value of {place.size} bytes was damaged on the disk, in {self._path_of(place.segment)} at {place.at}: "
                "the machine lost power, or the disk is failing"
            )
        if len(self._checked) >= MOST_CHECKED:
            self._checked.clear()
        self._checked.add(name)

    def has(self, blob: Blob) -> bool:
        """Whether there is a value of that name."""
        try:
            self.read(blob, 0, 0)
        except FileNotFoundError:
            return False
        return True

    def sweep(self, keep: Iterable[bytes], before: float) -> int:
        """Remove the segments that hold none of these names and were last written before that Unix time; how many. Of others
        of that age, what lies between the values that are wanted gives its room back."""
        kept = _by_segment(keep)
        swept = 0
        for path, segment in self._files():
            with self._lock:
                status = path.stat()
                if status.st_mtime >= before:
                    continue
                if segment == self._segment:
                    self._close()
            if not (places := kept.get(segment)):
                path.unlink()
                self._kept.pop(segment, None)
                swept += 1
            elif self._kept.get(segment) != len(places) and status.st_nlink == 1:  # else a backup has it as well
                self._kept[segment] = len(places)
                _punch(path, sorted(places), status.st_size)
        return swept

    def copy_to(self, folder: Path, wanted: Iterable[bytes]) -> int:
        """Link (or copy, onto another disk) the segments that hold any of these names to another folder; how many."""
        with self._lock:
            self._close()  # what is written from now on is not to grow in the copy as well
        segments = _by_segment(wanted)
        copied = 0
        for path, segment in self._files():
            if segment in segments:
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(path, folder / path.name)
                except OSError:
                    shutil.copyfile(path, folder / path.name)
                copied += 1
        return copied

    def missing(self, wanted: set[bytes]) -> set[bytes]:
        """Those of the names under which there is nothing, names of other files among them."""
        present = set()
        segments = _by_segment(wanted)
        for path, segment in self._files():
            if segment in segments:
                with path.open("rb", buffering=0) as file:
                    for place in segments[segment]:
                        name = os.pread(file.fileno(), NAME.size, place.begin)
                        if os.fstat(file.fileno()).st_size >= place.end:
                            present.add(name)
        return wanted - present

    def usage(self) -> tuple[int, int]:
        """Number of segments, and the bytes of disk that they occupy."""
        sizes = [path.stat().st_blocks * 512 for path, _ in self._files()]
        return len(sizes), sum(sizes)

    def close(self) -> None:
        with self._lock:
            self._close()

    def _begin(self) -> None:
        self._close()
        segment, secret = os.urandom(8), os.urandom(SECRET_BYTES)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path_of(segment)
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            end = self._writer.write(opened, [secret], 0)
            if self._flush:
                for place in (self.folder, self.folder.parent):
                    descriptor = os.open(place, os.O_RDONLY)
                    try:
                        os.fsync(descriptor)
                    finally:
                        os.close(descriptor)
        except BaseException:
            os.close(opened)
            with suppress(OSError):
                path.unlink()
            raise
        self._descriptor, self._segment, self._secret, self._end = opened, segment, secret, end

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._segment, self._secret, self._end = -1, b"", b"", 0

    def _path_of(self, segment: bytes) -> Path:
        return self.folder / segment.hex()

    def _files(self) -> Iterator[tuple[Path, bytes]]:
        """Whatever else a person may have put here is not touched."""
        for path in sorted(self.folder.glob("[0-9a-f]*")):
            if len(path.name) == 16 and all(letter in "0123456789abcdef" for letter in path.name):
                yield path, bytes.fromhex(path.name)


def _by_segment(names: Iterable[bytes]) -> dict[bytes, list[Place]]:
    found: dict[bytes, list[Place]] = defaultdict(list)
    for name in names:
        if len(name) == NAME.size:
            place = place_of(name)
            found[place.segment].append(place)
    return found


def _punch(path: Path, places: list[Place], size: int) -> None:
    """Give back the room between these values, if the system and the file system can."""
    fallocate = getattr(ctypes.CDLL(None), "fallocate", None)
    if fallocate is None:
        return
    with path.open("r+b", buffering=0) as file:
        at = PAGE_BYTES
        for place in [*places, Place(b"", size + HEAD_BYTES, 0)]:
            begin = place.begin // PAGE_BYTES * PAGE_BYTES
            if begin - at >= HOLE_BYTES:
                flags = _PUNCH_HOLE | _KEEP_SIZE
                fallocate(file.fileno(), flags, ctypes.c_int64(at), ctypes.c_int64(begin - at))
            at = max(at, -(-place.end // PAGE_BYTES) * PAGE_BYTES)


class Repeats:
    """Tells values that may have come before from those that have not, by a few hundred of their bytes.

    Equal values are to be kept once: what looks like one that came before is hashed, and named by that.
    """

    MOST = 4096
    HEAD, TAIL, STRIDE = 256, 128, 4093

    def __init__(self) -> None:
        self._looks: set[int] = set()

    def has_seen(self, value: bytes | memoryview) -> bool:
        """Whether a value that looks like this one was asked about before. Two that are different may look alike."""
        middle = bytes(value[self.HEAD : -self.TAIL : self.STRIDE])
        looks = hash((len(value), bytes(value[: self.HEAD]), middle, bytes(value[-self.TAIL :])))
        if looks in self._looks:
            return True
        if len(self._looks) >= self.MOST:
            self._looks.clear()
        self._looks.add(looks)
        return False


def absent(blob: Blob) -> StoreError:
    """The error for a value that is not there."""
    return StoreError(f"the blob {blob.hash.hex()[:16]}… is not in the store: it was purged, or never sent whole")
