"""Who has the database: a lock that the system frees when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from headway_controller.store.protocol import StoreHeld


class FileLock:
    """An exclusive lock on ``path``, with pid and host of the holder inside for people to read.

    The file stays when the lock is let go: removing it would let two processes each lock a file of that name.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock or raise StoreHeld."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = (
                os.pread(self._descriptor, 200, 0).decode("utf-8", "replace").strip()
                or "a process that is just starting"
            )
            os.close(self._descriptor)
            raise StoreHeld(
                f"{path.with_suffix('')} is in use by {holder}. One controller at a time: stop that one"
                " (headway up and headway controller end on Ctrl-C), or choose another --state folder"
            ) from None
        except BaseException:
            os.close(self._descriptor)
            raise
        self._sign(f"process {os.getpid()} on {socket.gethostname()}\n")

    def release(self) -> None:
        if self._descriptor >= 0:
            self._sign("")
            os.close(self._descriptor)
            self._descriptor = -1

    def _sign(self, text: str) -> None:
        # The text helps people and nothing depends on it; a full disk must not keep the store from starting.
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)
        except OSError:
            pass
