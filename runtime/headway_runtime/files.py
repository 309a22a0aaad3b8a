"""Folders and files of one runtime: where attempts work, and large values by their hash.

::

    WORK/                 0700
        attempts/ID-N/    one folder per command or script, gone when it has ended
        blobs/HASH        large arguments and results, whole and verified; HASH.part while on its way
        instance          whose processes a later runtime must look for
        lock              held while a runtime works here
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath

from headway_bus.errors import BusError
from headway_bus.ids import AttemptKey, text_of
from headway_bus.records import Blob
from headway_runtime import processes

HASH_BYTES = 32
INSTANCE_CHARACTERS = 16
MARK = "HEADWAY_MARK"
"""The environment variable that tells a runtime's processes, and each attempt's, from everything else on the machine."""


def is_in_use(path: Path) -> bool:
    """Whether a runtime works in this folder."""
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


class WorkFolder:
    """One runtime's folder. ``open()`` takes it; nobody else can until ``close()``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = path / "blobs"
        self.attempts = path / "attempts"
        self._lock: int | None = None

    def open(self, instance: bytes) -> None:
        """Make the folders and end what an earlier runtime left running here. Raises BusError if it is in use.

        ``instance``: whose processes a later runtime is to look for, should this one be killed.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = None
            raise BusError(
                f"another runtime works in {self.path}; give this one another --name or another --work FOLDER"
            ) from None
        self._sweep()
        (self.path / "instance").write_text(instance.hex())
        shutil.rmtree(self.attempts, ignore_errors=True)
        self.attempts.mkdir(mode=0o700, exist_ok=True)
        self.blobs.mkdir(mode=0o700, exist_ok=True)

    def _sweep(self) -> None:
        """End the processes of the runtime that was here before and was killed together with its nursery.

        They carry its mark in the environment they were started with. The lock says that it is gone.
        """
        try:
            earlier = (self.path / "instance").read_text().strip()
        except OSError:
            return
        if len(earlier) == INSTANCE_CHARACTERS:
            processes.end_marked(f"{MARK}={earlier}".encode())

    def close(self, *, remove: bool = False) -> None:
        """Let go of it; ``remove``: nothing in it will be needed again."""
        if remove:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def make_attempt(self, key: AttemptKey) -> str:
        """A fresh folder that only this user can enter."""
        path = f"{self.attempts}/{text_of(key[0])}-{key[1]}"
        try:
            os.mkdir(path, 0o700)  # noqa: PTH102 - on the path of every command
        except FileExistsError:
            shutil.rmtree(path)
            os.mkdir(path, 0o700)  # noqa: PTH102
        return path

    def remove_attempt(self, path: str) -> None:
        """Remove the folder with whatever the attempt left in it."""
        try:
            os.rmdir(path)  # noqa: PTH106
        except FileNotFoundError:
            pass
        except OSError:
            shutil.rmtree(path, onerror=_make_removable)

    def blob_path(self, blob: Blob) -> Path:
        """Where the whole value lies, or will lie. Raises ValueError for a hash that is none."""
        if len(blob.hash) != HASH_BYTES:
            raise ValueError(f"a hash of {len(blob.hash)} bytes; expected {HASH_BYTES}")
        return self.blobs / blob.hash.hex()

    def has_blob(self, blob: Blob) -> bool:
        path = self.blob_path(blob)
        try:
            return path.stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def place(self, blob: Blob, folder: str, name: str) -> Path:
        """Copy a value into an attempt's folder under a relative name. Raises ValueError for a name that leaves it."""
        pure = PurePosixPath(name)
        if not name or pure.is_absolute() or ".." in pure.parts or "\0" in name or pure.name in ("", "."):
            raise ValueError(f"the file name {name!r} does not stay within the attempt's folder")
        target = Path(folder, *pure.parts)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(self.blob_path(blob), target)
        return target


class PartialBlob:
    """A large value on its way here: parts in order, verified when all are there."""

    def __init__(self, folder: WorkFolder, blob: Blob) -> None:
        self.blob = blob
        self.offset = 0
        self._final = folder.blob_path(blob)
        self._path = self._final.with_suffix(".part")
        self._hash = hashlib.blake2b(digest_size=HASH_BYTES)
        self._file = self._path.open("wb")

    def add(self, part: bytes | memoryview) -> bool:
        """The next part. Returns whether the value is complete; raises ValueError if it is not what was asked for."""
        self._file.write(part)
        self._hash.update(part)
        self.offset += len(part)
        if self.offset < self.blob.size:
            return False
        self._file.close()
        if self.offset != self.blob.size or self._hash.digest() != self.blob.hash:
            self.discard()
            raise ValueError(f"a value of {self.blob.size} bytes arrived with another content than its hash says")
        self._path.rename(self._final)
        return True

    def discard(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def _make_removable(function: object, path: str, _: object) -> None:
    """An attempt may leave folders that even their owner may not change."""
    with suppress(OSError):
        os.chmod(os.path.dirname(path), 0o700)  # noqa: PTH101, PTH120
        os.chmod(path, 0o700)  # noqa: PTH101
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)  # noqa: PTH108
