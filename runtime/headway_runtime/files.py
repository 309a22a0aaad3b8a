"""Folders and files of one runtime: where attempts work, and large values by their hash.

::

    WORK/                 0700
        attempts/N/       one folder per command or script, empty again when it has ended
        own/TASK-ATTEMPT  that of a resumable one, which an edge agent keeps over a restart
        blobs/HASH        large arguments and results, whole and verified; HASH.part while on its way
        instance          whose processes a later runtime must look for
        lock              held while a runtime works here
"""

from __future__ import annotations

import fcntl
import math
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from headway_bus import copying
from headway_bus.contents import Content
from headway_bus.copying import HASH_BYTES, ROOM_BYTES, check_room, never, settle
from headway_bus.errors import BusError
from headway_bus.ids import AttemptKey
from headway_bus.records import Blob
from headway_runtime import processes

INSTANCE_CHARACTERS = 16
IDLE_FOLDERS = 64
RESUME_BYTES = 1024 * 1024
PRIVATE_FOLDER = stat.S_IFDIR | 0o700
OUTPUTS = "outputs-"
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


def own_folder_name(key: AttemptKey) -> str:
    """Of the folder that a resumable attempt keeps over a restart."""
    return f"{key[0].hex()}-{key[1]}"


def path_within(folder: Path, name: str, whose: str) -> Path:
    """Where a file of that relative name lies in the folder. Raises ValueError for a name that leads out of it.

    ``whose``: how the error calls the folder's owner.
    """
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\0" in name or pure.name in ("", "."):
        raise ValueError(f"the file name {name!r} does not stay within {whose}'s folder")
    return folder.joinpath(*pure.parts)


class WorkFolder:
    """One runtime's folder. ``open()`` takes it; nobody else can until ``close()``.

    :param keep: leave the folders of resumable attempts where an earlier process left them.
    """

    def __init__(self, path: Path, *, keep: bool = False) -> None:
        self.path = path
        self.keep = keep
        self.own = path / "own"
        self.blobs = path / "blobs"
        self.attempts = path / "attempts"
        self._lock: int | None = None
        self._idle: list[str] = []
        self._last_folder = 0

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
        if not self.keep:
            shutil.rmtree(self.own, ignore_errors=True)
        self.blobs.mkdir(mode=0o700, exist_ok=True)
        for path in self.blobs.glob(f"{OUTPUTS}*"):
            path.unlink()  # of no use without the attempt that they were gathered from

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

    def take_folder(self) -> str:
        """An empty folder for an attempt, that only this user can enter.

        Folders that were left empty are used again: on some file systems removing one takes longer than a short command.
        """
        if self._idle:
            return self._idle.pop()
        self._last_folder += 1
        path = f"{self.attempts}/{self._last_folder}"
        os.mkdir(path, 0o700)  # noqa: PTH102 - on the path of every command
        return path

    def own_folder(self, key: AttemptKey) -> str:
        """The folder of a resumable attempt: a new one, or the one that it had before a restart."""
        path = self.own / own_folder_name(key)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return str(path)

    def keep_only(self, names: set[str]) -> None:
        """Remove the own folders of all attempts but these."""
        with suppress(FileNotFoundError):
            for path in self.own.iterdir():
                if path.name not in names:
                    shutil.rmtree(path, onerror=_make_removable)

    def give_folder(self, path: str) -> None:
        """The attempt is over: remove whatever it left in its folder."""
        try:
            is_clean = not os.listdir(path) and os.stat(path).st_mode == PRIVATE_FOLDER  # noqa: PTH208, PTH116
        except OSError:
            is_clean = False
        is_own = path.startswith(str(self.own))
        if is_clean and not is_own and len(self._idle) < IDLE_FOLDERS:
            self._idle.append(path)
        else:
            shutil.rmtree(path, onerror=_make_removable)

    def blob_path(self, blob: Blob) -> Path:
        """Where the whole value lies, or will lie. Raises ValueError for a hash that is none."""
        if len(blob.hash) != HASH_BYTES:
            raise ValueError(f"a hash of {len(blob.hash)} bytes; expected {HASH_BYTES}")
        return self.blobs / blob.hash.hex()

    def has_blob(self, blob: Blob) -> bool:
        path = self.blob_path(blob)
        try:
            os.utime(path)  # the one used last is the one removed last
            return path.stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def keep_file(self, source: Path, *, take: bool = False) -> Blob:
        """Bring a file's content into the folder of large values, a piece at a time; for a thread. Raises OSError.

        ``take``: the file is nobody's any more, and is moved where that is possible.
        """
        if take and (status := source.lstat()).st_nlink == 1 and status.st_dev == self.blobs.stat().st_dev:
            source.chmod(0o600)
            blob = Blob(*copying.hash_of(source))
            source.touch()
            source.replace(self.blob_path(blob))
        else:
            check_room(self.blobs, source.stat().st_size)
            partial = self.blobs / f"{outputs_prefix()}{os.urandom(8).hex()}.part"
            try:
                blob = Blob(*copying.hash_of(source, partial))
                partial.replace(self.blob_path(blob))
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
        if self.keep:
            settle(self.blob_path(blob))
        return blob

    def free_up(self, size: int, in_use: set[bytes], before: float) -> None:
        """Remove as much of what :meth:`trim` may remove as a value of this size needs, if the disk has not room for it."""
        if size >= ROOM_BYTES and (lacking := size + ROOM_BYTES - shutil.disk_usage(self.blobs).free) > 0:
            self.trim(sum(size for _, size, _ in self._found()) - lacking, in_use, before)

    def _found(self) -> list[tuple[float, int, str]]:
        """When each value was touched last, its bytes, and its file's name."""
        found = []
        with suppress(OSError):
            for entry in os.scandir(self.blobs):
                status = entry.stat()
                found.append((status.st_mtime, status.st_size, entry.name))
        return found

    def trim(self, most: int, in_use: set[bytes], before: float = math.inf) -> None:
        """Remove large values, those not touched for longest first, until they occupy ``most`` bytes.

        ``before``: Unix time from which on they were touched of late, and stay: nobody may have been told of them yet.
        """
        found = self._found()
        occupied = sum(size for _, size, _ in found)
        needed = {each.hex() for each in in_use}
        for touched, size, name in sorted(found):
            if occupied <= most or touched >= before:
                return
            if name.partition(".")[0] not in needed and not _is_being_written(name):
                (self.blobs / name).unlink(missing_ok=True)
                occupied -= size

    def place(self, blob: Blob, folder: str, name: str, is_stopped: Callable[[], bool] = never) -> Path:
        """Copy a value into an attempt's folder under a relative name; where it is large, in a thread.

        Raises ValueError for a name that leaves the folder, OSError, and CopyStoppedError.
        """
        target = path_within(Path(folder), name, "the attempt")
        is_own = folder.startswith(str(self.own))
        if is_own and target.exists():
            return target  # what the attempt has made of it before a restart
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Under its name it is whole: an attempt that is resumed takes what it finds there for its own.
        partial = copying.partial_of(target)
        copying.copy(self.blob_path(blob), partial, is_stopped)
        if is_own:
            settle(partial)
        partial.replace(target)
        return target


def _is_being_written(name: str) -> bool:
    """Whether a living process writes this file, outputs or a result, which has no hash or no owner yet."""
    if name.startswith(OUTPUTS):
        return name.startswith(outputs_prefix())
    suffix = name.rpartition(".")[2]
    return suffix.isdecimal() and processes.is_running(int(suffix))


def outputs_prefix() -> str:
    """How the names of files begin in which this process gathers what attempts leave."""
    return f"{OUTPUTS}{os.getpid()}-"


class PartialBlob:
    """A large value on its way here: parts in order, verified when all are there.

    Making it raises OSError where the disk has not the room for it.
    """

    def __init__(self, folder: WorkFolder, blob: Blob) -> None:
        self.blob = blob
        self.offset = 0
        self.is_resumed = False
        """It began with what an earlier process had of it, which may have suffered with that process's end."""

        self._final = folder.blob_path(blob)
        self._path = self._final.with_suffix(".part")
        self._content = Content(blob)
        present = self._path.stat().st_size if self._path.exists() else 0
        # Whole and never renamed, longer than it can be, or without a hash that would show damage: from the beginning.
        self.has_earlier = 0 < present < blob.size and not blob.named
        check_room(folder.blobs, blob.size - (present if self.has_earlier else 0))
        # Unbuffered: what was held back for a full disk would be tried again when the file is closed to be removed.
        self._file = self._path.open("ab" if self.has_earlier else "wb", buffering=0)

    def read_earlier(self) -> None:
        """Take in what an earlier process had of it. Reads all of that: for a thread."""
        with self._path.open("rb") as file:
            while part := file.read(RESUME_BYTES):
                self._content.add(part)
                self.offset += len(part)
        self.is_resumed = True

    def add(self, part: bytes | memoryview) -> bool:
        """The next part. Returns whether the value is complete; raises ValueError if it is not what was asked for."""
        copying.write_all(self._file, part)
        self._content.add(part)
        self.offset += len(part)
        if self.offset < self.blob.size:
            return False
        self._file.close()
        if not self._content.is_right:
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
