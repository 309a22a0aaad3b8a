"""Files of any size copied and hashed, a piece at a time: no more of one is ever in memory. Blocks on the disk."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

HASH_BYTES = 32
READ_BYTES = 1024 * 1024
MOST_NAME_BYTES = 255
"""Of a file's name, on the file systems that there are."""

MARK_BYTES = 32
"""What is added to it while the file is not whole, at most."""

RANGE_BYTES = 64 * 1024 * 1024
"""Bytes that the kernel is asked to copy at once: little enough that whoever wants to stop it need not wait long."""

ROOM_BYTES = 64 * 1024 * 1024
"""From this size on it is looked whether a file will fit, and so much of the disk is left to others."""

_NOT_HERE = frozenset({errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM})
"""What a kernel or file system says that cannot copy by itself."""


class CopyStoppedError(Exception):
    """``is_stopped`` said so."""


def never() -> bool:
    return False


def stays_within(name: str, *, everywhere: bool = True) -> bool:
    """Whether a relative name stays within the folder that it is put into: on any system, or on this one."""
    pure = PurePosixPath(name)
    # Where they divide no names, "12:30.log" is a name as good as any.
    bad = "\\\0:" if everywhere or os.name == "nt" else "\0"
    return bool(pure.name) and not (pure.is_absolute() or ".." in pure.parts or any(each in name for each in bad))


def partial_of(target: Path, mark: str = "") -> Path:
    """Where a file grows until it is whole: hidden, beside its place, and under a name that is not too long either."""
    name = target.name
    if len(os.fsencode(name)) > MOST_NAME_BYTES - MARK_BYTES:
        name = hashlib.blake2b(os.fsencode(name), digest_size=16).hexdigest()
    return target.with_name(f".{name}{mark}.part")


def check_room(folder: Path, size: int) -> None:
    """Raises OSError where the disk of the folder has not room for so many bytes: before they are fetched, and not after."""
    if size >= ROOM_BYTES and (free := shutil.disk_usage(folder).free) < size + ROOM_BYTES:
        raise OSError(
            errno.ENOSPC,
            f"{size} bytes are needed, and {free} are free on the disk of {folder} ({ROOM_BYTES} stay free)",
        )


def copy(source: Path, target: Path, is_stopped: Callable[[], bool] = never) -> None:
    """Copy a file's content; on file systems that can, without copying any. Raises OSError, CopyStoppedError."""
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        copied = _copy_ranges(reader, writer, is_stopped)
        reader.seek(copied)
        writer.seek(copied)
        while data := reader.read(READ_BYTES):
            _check(is_stopped)
            write_all(writer, data)


def _copy_ranges(reader: BinaryIO, writer: BinaryIO, is_stopped: Callable[[], bool]) -> int:
    """The same by the kernel; how far it came."""
    copied = 0
    if not hasattr(os, "copy_file_range"):
        return copied
    try:
        while done := os.copy_file_range(reader.fileno(), writer.fileno(), RANGE_BYTES, copied, copied):
            copied += done
            _check(is_stopped)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    return copied


def _check(is_stopped: Callable[[], bool]) -> None:
    if is_stopped():
        raise CopyStoppedError


def write_all(writer: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of it to an unbuffered file."""
    written = 0
    view = memoryview(data)
    while written < len(view):
        written += writer.write(view[written:])


def hash_of(path: Path, target: Path | None = None) -> tuple[bytes, int]:
    """The BLAKE2b-256 and the size of a file's content; with ``target``, what was hashed is copied there. Raises OSError."""
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    size = 0
    buffer = bytearray(READ_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as reader, (target or Path(os.devnull)).open("wb", buffering=0) as writer:
        while count := reader.readinto(buffer):
            digest.update(view[:count])
            if target is not None:
                write_all(writer, view[:count])
            size += count
    return digest.digest(), size


def settle(path: Path) -> None:
    """See that a file that was written is there, with all of its content, after a power cut too."""
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file with fsync, whole or not at all, in the place of an earlier one. The folder is made. Raises OSError.

    What a process that was killed left of the same is removed. Where there is no room nothing is begun.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_left(target)
    check_room(target.parent, source.stat().st_size)
    partial = partial_of(target, f".{os.getpid()}")
    try:
        copy(source, partial)
        settle(partial)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _remove_left(target: Path) -> None:
    before, _, after = partial_of(target, ".*").name.rpartition("*")
    for path in target.parent.iterdir():
        middle = path.name.removeprefix(before).removesuffix(after)
        if path.name == before + middle + after and middle.isdecimal() and not _is_running(int(middle)):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_whole(target: Path, content: bytes) -> None:
    """Write a file, with fsync, whole or not at all, in the place of an earlier one. Its folder is made. Raises OSError."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = partial_of(target, f".{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
