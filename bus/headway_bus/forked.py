"""Processes that are made by fork alone: what is imported already need not be imported again."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

LOOK_SECONDS = 0.01


class Forked:
    """A child that does ``work`` and leaves, with what ``subprocess.Popen`` says of its own. Fork it from one thread.

    It is in a session of its own. ``closing``: descriptors of this process that it must not keep.
    """

    def __init__(self, work: Callable[[], None], closing: Iterable[int] = ()) -> None:
        self.returncode: int | None = None
        _flush()  # what waits there would be written twice
        self.pid = os.fork()
        if not self.pid:
            _become(work, closing)

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            left = deadline - time.monotonic()
            if left <= 0.0:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            wait_for_end(self.pid, min(left, 1.0))
        return status

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _become(work: Callable[[], None], closing: Iterable[int]) -> NoReturn:
    status = 1
    try:
        os.setsid()
        for descriptor in closing:
            os.close(descriptor)
        work()
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        _flush()
        os._exit(status)  # what the parent would do at its own end is not to be done here


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # there is none, or nobody reads it
            stream.flush()


def wait_for_end(pid: int, timeout: float) -> None:
    """Wait until a process has ended, at most ``timeout`` seconds; where the system does not tell, a moment."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):  # another system than Linux, or it is gone already
        time.sleep(min(timeout, LOOK_SECONDS))
        return
    try:
        poll = select.poll()  # select itself fails in a program that has a thousand files open
        poll.register(descriptor, select.POLLIN)
        poll.poll(timeout * 1000)
    finally:
        os.close(descriptor)
