"""The append-only file of a study: one JSON object a line, the first of them its settings.

A line that was cut off by a kill is the last one; it is dropped, and what it would have said is done again. The file is
locked by whoever appends: a study that two programs run would ask everything twice.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from headway_trainer.errors import StudyBusy, TrainerError

if sys.platform != "win32":
    import fcntl


class StudyLog:
    """Appends to one file. Each record reaches the system before ``append`` returns: a killed process loses none.

    ``new``: whether the file is made if it is not there. Raises StudyBusy if another program appends to it, and TrainerError
    where it cannot be opened.
    """

    def __init__(self, path: Path, *, new: bool = True) -> None:
        self.path = path
        try:
            if new:
                path.parent.mkdir(parents=True, exist_ok=True)
            elif not path.exists():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            self._stream: IO[bytes] = path.open("ab", buffering=0)
        except OSError as error:
            raise TrainerError(f"{path}: {error.strerror}") from None
        if not _lock(self._stream.fileno(), path):
            self._stream.close()
            raise StudyBusy(f"{path}: another program runs this study; `headway study cancel` stops it")

    def append(self, record: dict[str, Any]) -> None:
        self._stream.write(json.dumps(record, allow_nan=False).encode() + b"\n")

    def close(self) -> None:
        self._stream.close()


def _lock(descriptor: int, path: Path, *, keep: bool = True) -> bool:
    """Whether the lock was free. It goes with the descriptor, so a killed program leaves none behind.

    A lock can only be tried by taking it. So that nobody who wants to run a study is refused because somebody else looks
    whether it runs, all take turns, by the lock of the folder, which is held for no longer than that.
    """
    if sys.platform == "win32":
        return True
    turn = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not keep:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        return False
    finally:
        os.close(turn)
    return True


def is_running(path: Path) -> bool:
    """Whether a program appends to this log now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return not _lock(descriptor, path, keep=False)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def held(path: Path, busy: str) -> Iterator[None]:
    """Whoever else wants to hold this file meanwhile is refused. Raises StudyBusy with ``busy`` if another program holds it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if not _lock(descriptor, path):
            raise StudyBusy(busy)
        yield
    finally:
        os.close(descriptor)


def read_log(path: Path, *, mend: bool = True) -> list[dict[str, Any]]:
    """All whole records. Raises TrainerError for damage anywhere but in the last line.

    ``mend``: a torn last line is cut off the file, which is for whoever has its lock: to others a line that is being written
    looks torn as well.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror}") from None
    whole = content.rfind(b"\n") + 1
    if whole < len(content) and mend:
        with path.open("r+b") as stream:
            stream.truncate(whole)
    records = []
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise TrainerError(f"{path}, line {number}: not a record of a study")
        records.append(record)
    return records
