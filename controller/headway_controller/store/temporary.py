"""A temporary folder that is removed even if its owner was killed: whoever makes the next one clears what is left."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "headway-blobs-"

YOUNG = 60.0
"""Seconds for which a folder that nobody has locked is left alone: its owner may be about to."""


class TemporaryFolder:
    """A folder for its owner only. The system frees its lock when the owner dies, however it dies."""

    def __init__(self) -> None:
        clear_abandoned()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def clear_abandoned() -> int:
    """Remove such folders of this user whose owners are gone; how many."""
    cleared = 0
    for path in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # another user's, or gone meanwhile
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid() or time.time() - found.st_mtime < YOUNG:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
            cleared += 1
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
    return cleared
