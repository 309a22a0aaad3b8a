"""Process trees: who belongs to whom, and system calls that Python has no name for. Linux first; elsewhere best effort."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from time import monotonic, sleep

CHILDREN_BYTES = 32 * 1024
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
_IS_LINUX = sys.platform == "linux"


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if _IS_LINUX else None


def prepare() -> None:
    """Load the C library now, so that a process forked later finds it loaded."""
    _libc()


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the parent's thread that made it ends. ``parent``: the pid it had then."""
    libc = _libc()
    if libc is not None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def rename(name: str) -> None:
    """What ``ps`` and ``top`` call this process, in 15 characters."""
    libc = _libc()
    if libc is not None:
        libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def adopt_orphans() -> bool:
    """Become the parent of all descendants whose own parent ends: nothing started below can get away by forking twice."""
    libc = _libc()
    return libc is not None and libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def has_children() -> bool:
    """Whether this process has any child, running or not yet waited for. About a microsecond."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def children_of(pid: int) -> list[int]:
    """Direct children, those of all its threads."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - a Path for each would cost more than the read
            found += _children_of_thread(pid, thread)
    except FileNotFoundError:
        return _children_by_search(pid) if not found and Path(f"/proc/{pid}").exists() else found
    except OSError:
        return found
    return found


def own_children() -> list[int]:
    """Direct children of this process, if it has one thread: a third of what ``children_of`` costs."""
    pid = os.getpid()
    try:
        return _children_of_thread(pid, pid)
    except OSError:
        return children_of(pid)


def _children_of_thread(pid: int, thread: int | str) -> list[int]:
    descriptor = os.open(f"/proc/{pid}/task/{thread}/children", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while part := os.read(descriptor, CHILDREN_BYTES):
            data += part
    finally:
        os.close(descriptor)
    return list(map(int, data.split()))


def _children_by_search(pid: int) -> list[int]:
    """For kernels without the ``children`` files, and other systems."""
    import psutil

    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def descendants_of(pid: int) -> list[int]:
    """All descendants, parents before their children."""
    found: list[int] = []
    waiting = children_of(pid)
    while waiting:
        child = waiting.pop()
        found.append(child)
        waiting += children_of(child)
    return found


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except FileNotFoundError:
        return False
    except OSError:
        return False


def live_children() -> bool:
    """Whether processes are left that this process or its descendants started. Reaps those that have ended.

    The helpers that ``multiprocessing`` keeps, to clean up shared memory and to fork from, live as long as their process
    does, by design, and do not count.
    """
    expected = _helpers()
    left = False
    for pid in children_of(os.getpid()):
        if pid in expected:
            continue
        if is_running(pid):
            left = True
        else:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
    return left


def _helpers() -> set[int | None]:
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    return {getattr(tracker, "_pid", None), getattr(server, "_forkserver_pid", None)}


def environment_of(pid: int) -> bytes:
    """The environment that a process was started with, as NAME=VALUE each ended by a zero byte; empty if unknown."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return b"\0" + file.read()
    except OSError:
        return b""


def start_time_of(pid: int) -> str:
    """When a process started, in the system's own count: tells it from a later one of the same pid. Empty if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def memory_kills() -> int:
    """How many processes the system has killed for want of memory since it started; 0 where it does not say."""
    with suppress(OSError, ValueError, IndexError), open("/proc/vmstat", "rb") as file:  # noqa: PTH123
        return int(file.read().split(b"\noom_kill ")[1].split(b"\n")[0])
    return 0


def resident_bytes(pids: list[int]) -> int:
    """Memory that these processes occupy together. What they share counts for each."""
    pages = 0
    for pid in pids:
        with suppress(OSError, IndexError, ValueError), open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
            pages += int(file.read().split()[1])
    return pages * resource.getpagesize()


def send_signal(pid: int, number: int) -> bool:
    """False if there is no such process."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_marked(mark: bytes, timeout: float = 5.0) -> int:
    """Kill every process, other than this one, in whose starting environment a variable begins with ``mark``.

    Returns how many there were. Looks again until none is left, because a process may fork while it is looked at.
    """
    ended: set[int] = set()
    deadline = monotonic() + timeout
    while monotonic() < deadline:
        found = [pid for pid in _all_processes() if b"\0" + mark in environment_of(pid) and is_running(pid)]
        if not found:
            break
        for pid in found:
            send_signal(pid, signal.SIGKILL)
        ended.update(found)
        sleep(0.01)
    return len(ended)


def _all_processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()]  # noqa: PTH208
    except OSError:
        return []


def allow_descriptors(most: int) -> None:
    """Let this process open as many files as the system allows, up to ``most``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
