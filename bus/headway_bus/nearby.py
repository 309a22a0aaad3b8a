"""A shorter way to a broker on this machine: a Unix socket beside its TCP port, for the user who started it.

A value of a megabyte crosses a Unix socket in half of the processor time, and a small message is there a little sooner. Nobody
has to know: the address stays the TCP one, and whoever finds no such socket, or nobody behind it, takes the port.

The socket lies in a folder that only its user can enter, so none but the same user's broker can answer there. Its name says
the network namespace as well: two containers may share a folder, and have each a port of that number. The broker's limits are
those of the port, but for one: the system does not say how much has come through such a socket, so a message without end is
not noticed before its last frame. It could only come from the user who may stop the broker anyway.
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import zmq

HOST = "127.0.0.1"
MOST_BYTES = 100
"""Of a path; a socket's name ends at 107, and where it is shortest at 103."""


def socket_for(url: str) -> Path | None:
    """Where the socket beside this address lies, or would lie. None: such an address has none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme != "tcp" or host != HOST or not port or not zmq.has("ipc") or not hasattr(os, "getuid"):
        return None
    try:
        network = Path("/proc/self/ns/net").stat().st_ino
    except OSError:
        network = 0
    path = _folder() / f"{network}-{port}"
    return path if len(os.fsencode(path)) <= MOST_BYTES else None


def find(url: str) -> str | None:
    """The shorter way to that address, if there seems to be one."""
    path = socket_for(url)
    try:
        if path is None or not _is_private(path.parent) or not stat.S_ISSOCK(path.lstat().st_mode):
            return None
    except OSError:
        return None
    return f"ipc://{path}"


def offer(url: str) -> tuple[str, Path] | None:
    """Where a broker that serves ``url`` may bind a socket of its own, as an address and as a path; None: nowhere."""
    path = socket_for(url)
    if path is None:
        return None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(path.parent):
            return None
        for each in path.parent.iterdir():
            with suppress(FileNotFoundError):  # another broker, which begins or ends at this moment
                if _is_dead(each):
                    each.unlink()
    except OSError:
        return None
    return f"ipc://{path}", path


def _is_dead(path: Path) -> bool:
    """Whether it is a socket that a killed broker has left: nobody listens there."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a broker that stands still is not dead
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
    return False


def withdraw(path: Path) -> None:
    """The broker leaves: its socket goes, and the folder if it was the last."""
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()


def _folder() -> Path:
    given = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    # One who became another user, root most likely, may still have the folder of the first: it would take the place there.
    with suppress(OSError):
        if given.is_absolute() and given.is_dir() and given.stat().st_uid == os.getuid():
            return given / "headway"
    return Path(tempfile.gettempdir()) / f"headway-{os.getuid()}"


def _is_private(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
