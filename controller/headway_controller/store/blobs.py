"""Values too large for a row: files named by the BLAKE2b-256 hash of their content, written and read in parts.

A name is made from the hash's bytes and from nothing else that came from outside. A file under its final name is whole
and right: it grows as ``.part``, is hashed as it grows (all of it at the end, if an earlier process began it), and is renamed
when its last byte has come. No more than a part of it is ever in memory. Values that came inside messages lie in segments
instead (:mod:`headway_controller.store.segments`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from headway_bus import copying
from headway_bus.copying import HASH_BYTES
from headway_bus.errors import StoreError
from headway_bus.records import Blob
from headway_controller.store.segments import Repeats, Segments, absent
from headway_controller.store.temporary import TemporaryFolder
from headway_controller.store.words import explain

ROOM_BYTES = 64 * 1024 * 1024
"""A blob from this size on is refused at once where the disk has not the room for it and as much again for everything else."""

SYNC_BYTES = 64 * 1024 * 1024
"""Bytes after which a growing blob is flushed, so that its end need not wait for all of it."""

_STRIPES = 1024
_MOST_GROWING = 1_000
"""Hashes of unfinished blobs that are remembered."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def blob_of(data: bytes | memoryview) -> Blob:
    """The blob that has this content."""
    return Blob(hashlib.blake2b(data, digest_size=HASH_BYTES).digest(), len(data))


class BlobFolder:
    """The files of one store. Every method blocks on the disk and may be called in any thread; all raise StoreError."""

    def __init__(self, folder: Path | None, flush: bool = False) -> None:
        """``folder`` None: a private temporary one, removed on close. ``flush``: survive a loss of power."""
        self._temporary: TemporaryFolder | None = None
        if folder is None:
            self._temporary = TemporaryFolder()
            folder = self._temporary.path
        self.folder = folder
        self._flush = flush
        self._repeats = Repeats()
        self._segments = Segments(folder / "segments", flush)
        # A part is appended and a blob deleted under the lock of its hash, so that none goes while it is asked about.
        self._locks = [threading.RLock() for _ in range(_STRIPES)]
        self._growing: dict[bytes, tuple[int, hashlib.blake2b]] = {}

    def put_part(self, blob: Blob, offset: int, data: bytes) -> int:
        """Append a part; how many bytes are there now, which is where the next part must begin.

        A part that does not begin there changes nothing, so the answer also tells a sender where to resume, and an
        empty part at 0 is how to ask. ``blob.size``: all is there, and the hash is right. With a wrong hash the parts
        are thrown away and the error says so: the sender starts again at 0.
        """
        path = self._path_of(blob)
        if offset < 0 or offset + len(data) > blob.size:
            raise StoreError(f"a part of {len(data)} bytes at {offset} does not fit in a blob of {blob.size} bytes")
        with self._lock_of(blob.hash):
            try:
                return self._put_part(blob, path, offset, data)
            except OSError as error:
                if error.errno in _FULL:
                    # Half of it is of no use, and whoever else writes to this disk needs the room.
                    path.with_name(path.name + ".part").unlink(missing_ok=True)
                    self._growing.pop(blob.hash, None)
                raise explain(error, path) from error

    def is_read_again(self, blob: Blob, end: int) -> bool:
        """Whether the part that ends there completes a large blob that an earlier process began: all of it is read then."""
        return blob.size >= SYNC_BYTES and end >= blob.size and blob.hash not in self._growing

    def put(self, data: bytes) -> Blob:
        """Store a whole value."""
        blob = blob_of(data)
        with self._lock_of(blob.hash):
            done = self.put_part(blob, 0, b"")
            if done < blob.size:
                self.put_part(blob, done, data[done:])
        return blob

    def put_value(self, value: bytes | memoryview) -> Blob:
        """The same for a value that is in memory, and so right: it is hashed once and written in one go."""
        blob = blob_of(value)
        path = self._path_of(blob)
        partial = path.with_name(path.name + ".part")
        with self._lock_of(blob.hash):
            try:
                if path.exists():
                    self._check_size(path, blob)
                    os.utime(path)
                    return blob
                path.parent.mkdir(parents=True, exist_ok=True)
                with partial.open("wb", buffering=0) as file:
                    self._append(file.fileno(), 0, value)
                    if self._flush:
                        os.fsync(file.fileno())
                partial.replace(path)
                if self._flush:
                    _flush_folder(path.parent)
            except OSError as error:
                raise explain(error, path) from error
        return blob

    def put_new(self, value: bytes | memoryview) -> Blob:
        """The same for one that has come inside a message: without a hash, if nothing like it has come before."""
        if self._repeats.has_seen(value):
            return self.put_value(value)
        try:
            return self._segments.put(value)
        except OSError as error:
            raise explain(error, self._segments.folder) from error

    def has(self, blob: Blob) -> bool:
        """Whether all of it is there."""
        path = self._path_of(blob)
        if blob.named:
            return self._segments.has(blob)
        return path.exists() and path.stat().st_size == blob.size

    def read_part(self, blob: Blob, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset`` on; fewer only at the end."""
        path = self._path_of(blob)
        if offset < 0 or length < 0 or offset > blob.size:
            raise StoreError(f"{length} bytes at {offset} are not part of a blob of {blob.size} bytes")
        try:
            if blob.named:
                return self._segments.read(blob, offset, length)
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError:
            raise absent(blob) from None
        except OSError as error:
            raise explain(error, path) from error

    def read(self, blob: Blob) -> bytes:
        """All of it, in memory."""
        return self.read_part(blob, 0, blob.size)

    def sweep(self, keep: set[bytes], before: float) -> int:
        """Delete what is not in ``keep`` (hashes) and was last written or asked about before that Unix time; how many files.

        The time is there for blobs that are sent before the task that needs them.
        """
        swept = 0
        for path in self._files():
            digest = bytes.fromhex(path.name.removesuffix(".part"))
            if digest in keep:
                continue
            with self._lock_of(digest):
                if path.exists() and path.stat().st_mtime < before:
                    path.unlink()
                    swept += 1
        return swept + self._segments.sweep(keep, before)

    def copy_to(self, folder: Path, wanted: set[bytes]) -> int:
        """Link (or copy, onto another disk) the whole blobs that are in ``wanted`` to another folder; how many files."""
        copied = 0
        for path in self._files():
            if path.suffix == ".part" or bytes.fromhex(path.name) not in wanted:
                continue
            target = folder / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target)
            except OSError:
                shutil.copyfile(path, target)
            copied += 1
        return copied + self._segments.copy_to(folder / self._segments.folder.name, wanted)

    def missing(self, wanted: set[bytes]) -> set[bytes]:
        """Those of the hashes that have no file."""
        return self._segments.missing(
            wanted - {bytes.fromhex(path.name) for path in self._files() if path.suffix != ".part"}
        )

    def usage(self) -> tuple[int, int]:
        """Number of files and their bytes, unfinished ones and segments included."""
        sizes = [path.stat().st_size for path in self._files()]
        segments, occupied = self._segments.usage()
        return len(sizes) + segments, sum(sizes) + occupied

    def close(self) -> None:
        self._segments.close()
        if self._temporary is not None:
            self._temporary.remove()

    def _put_part(self, blob: Blob, path: Path, offset: int, data: bytes) -> int:
        if path.exists():
            self._check_size(path, blob)
            os.utime(path)  # whoever asks is about to refer to it: not to be swept for a while
            return blob.size
        part = path.with_name(path.name + ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab", buffering=0) as file:
            present = file.tell()
            if offset == 0:
                self._check_room(blob, part, present)
            if present == offset and data:
                present += self._append(file.fileno(), present, data)
                self._add_to_hash(blob, offset, data)
                if self._flush and offset // SYNC_BYTES < present // SYNC_BYTES:
                    os.fdatasync(file.fileno())
        if present < blob.size:
            return present
        self._finish(blob, part, path)
        return blob.size

    def _check_room(self, blob: Blob, part: Path, present: int) -> None:
        """Raises StoreError where the rest of the blob would fill the disk: before it is sent, and not after."""
        if blob.size < ROOM_BYTES:
            return
        free = shutil.disk_usage(part.parent).free
        if blob.size - present + ROOM_BYTES > free:
            part.unlink()
            raise StoreError(
                f"a file of {blob.size} bytes does not fit on the controller's disk, which has {free} bytes free"
                f" ({ROOM_BYTES} of them are left to everything else); nothing of it was kept. Make room in {self.folder}"
            )

    def _add_to_hash(self, blob: Blob, offset: int, data: bytes | memoryview) -> None:
        """Hash it as it comes. What an earlier process began is hashed when all is there."""
        at, digest = self._growing.get(blob.hash, (0, None)) if offset else (0, hashlib.blake2b(digest_size=HASH_BYTES))
        if digest is None or at != offset:
            self._growing.pop(blob.hash, None)
            return
        digest.update(data)
        self._growing.pop(blob.hash, None)  # the last one is the one that grew last
        self._growing[blob.hash] = offset + len(data), digest
        if len(self._growing) > _MOST_GROWING:
            self._growing.pop(list(self._growing)[0], None)  # noqa: RUF015 - another thread may add to it meanwhile

    def _append(self, descriptor: int, present: int, data: bytes | memoryview) -> int:
        try:
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written:] if written else data)
            return written
        except OSError:
            # A sender that counts in whole parts would never again find an offset that fits half of one.
            os.ftruncate(descriptor, present)
            raise

    def _finish(self, blob: Blob, part: Path, path: Path) -> None:
        hashed, digest = self._growing.pop(blob.hash, (0, None))
        if digest is None or hashed != blob.size:
            found, _ = copying.hash_of(part)
        else:
            found = digest.digest()
        if self._flush:
            with part.open("rb") as file:
                os.fsync(file.fileno())
        if found != blob.hash:
            part.unlink()
            raise StoreError(
                f"the {blob.size} bytes that were sent as blob {blob.hash.hex()[:16]}… have another hash: they were"
                " damaged on the way, or the hash is not BLAKE2b-256. They were thrown away; send them again from the"
                " beginning"
            )
        part.replace(path)
        if self._flush:
            _flush_folder(path.parent)

    def _check_size(self, path: Path, blob: Blob) -> None:
        size = path.stat().st_size
        if size != blob.size:
            raise StoreError(f"the blob {blob.hash.hex()[:16]}… has {size} bytes, not {blob.size}")

    def _path_of(self, blob: Blob) -> Path:
        if len(blob.hash) != HASH_BYTES or blob.size < 0:
            raise StoreError(f"not a blob: a hash of {len(blob.hash)} bytes (expected {HASH_BYTES}), size {blob.size}")
        name = blob.hash.hex()
        return self.folder / name[:2] / name

    def _lock_of(self, digest: bytes) -> threading.RLock:
        return self._locks[int.from_bytes(digest[:2], "big") % _STRIPES]

    def _files(self) -> Iterator[Path]:
        """Blobs and parts; whatever else a person may have put here is not touched."""
        for path in sorted(self.folder.glob("[0-9a-f][0-9a-f]/*")):
            name = path.name.removesuffix(".part")
            if len(name) == 2 * HASH_BYTES and all(letter in "0123456789abcdef" for letter in name):
                yield path


def _flush_folder(folder: Path) -> None:
    # The names of a new folder and of a new file in it are entries of two folders.
    for place in (folder, folder.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
