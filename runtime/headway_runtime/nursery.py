"""The process that starts, signals and reaps all others: small, with one thread, so that it may fork.

Children are forked from it with everything imported that every child needs, in about a millisecond. Commands are started
with posix_spawn. It adopts every orphan below it, so whatever an attempt starts, however it detaches, stays a descendant
of this process until it ends. When the runtime goes away, by whatever death, the stream to it ends, and then the nursery ends
everything below itself and leaves.

Whom a detached process belongs to is read from the environment it was started with, which names the attempt, or from its
session. What hides both is ended when nothing runs that it could belong to.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import select
import signal
import socket
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NoReturn

import msgspec

from headway_bus import memory
from headway_bus.descriptors import receive
from headway_bus.loops import settle_imports
from headway_runtime import child as children
from headway_runtime import processes
from headway_runtime.errands import WISHES, ChildWanted, CommandWanted, Exited, Failed, Gone, Signal, Started
from headway_runtime.journal import Journal
from headway_runtime.orders import ChildSettings

MOST_DESCRIPTORS = 253  # the kernel's limit for one message
READ_BYTES = 64 * 1024  # a larger buffer is mapped anew for each message
LENGTH_BYTES = 4
LOOK_SECONDS = 0.02
"""Between looks at a tree that was told to end and whose processes are not our own children, so that no signal tells."""

GATHER_SECONDS = 0.02
"""How long word of a command's start waits for word of its end: most are that short, and then it is one message."""

CHILD_KEPT_BYTES = 16 * 1024 * 1024
"""Freed memory that a child keeps: an argument and a result of 4 MiB, each as bytes and as a value."""

_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What the nursery, or Python, ignores or catches and a program must not inherit so."""


@dataclass(slots=True)
class Tree:
    """One process that was asked for, and what belongs to it."""

    number: int
    pid: int
    mark: bytes
    exited: bool = False
    signal: int = 0
    """What to send to whatever is still found of it; 0: nothing."""

    adopted: dict[int, str] = field(default_factory=dict)
    """Its detached processes that are our children now, by pid, with their start times."""


class Nursery:
    """``stream``: to the runtime. Its messages are errands, with descriptors beside them."""

    def __init__(self, stream: socket.socket, settings: ChildSettings) -> None:
        self._stream = stream
        self._settings = settings
        self._buffer = b""
        self._descriptors: deque[int] = deque()
        self._trees: dict[int, Tree] = {}
        self._by_pid: dict[int, Tree] = {}
        self._strays: dict[int, str] = {}
        self._reports: list[Any] = []
        self._is_urgent = False
        self._decode = msgspec.msgpack.Decoder(WISHES).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._open = True
        self._folder = os.getcwd()  # noqa: PTH109 - a string is what chdir and sys.path want
        self._wake, wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        self._wake_end = wake_end

    def serve(self) -> None:
        """Until the runtime is gone."""
        poll = select.poll()
        poll.register(self._stream, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        stream = self._stream.fileno()
        while True:
            wait = LOOK_SECONDS * 1000 if any(tree.signal or tree.exited for tree in self._trees.values()) else None
            gathering = GATHER_SECONDS * 1000 if self._reports else wait
            ready = [descriptor for descriptor, _ in poll.poll(gathering)]
            if stream in ready and not self._receive():
                return
            if stream not in ready or len(ready) > 1 or wait is not None:
                self._reap()
            if self._is_urgent or not ready:
                self._send()

    # -------------------------------------------------------------------------------------- wishes

    def _receive(self) -> bool:
        try:
            data, descriptors = receive(self._stream, READ_BYTES, MOST_DESCRIPTORS)
        except ConnectionError:
            return False
        if not data:
            return False
        self._descriptors.extend(descriptors)
        data = self._buffer + data
        at = 0
        while len(data) - at >= LENGTH_BYTES:
            end = at + LENGTH_BYTES + int.from_bytes(data[at : at + LENGTH_BYTES], "big")
            if end > len(data):
                break
            self._perform(self._decode(data[at + LENGTH_BYTES : end]))
            at = end
        self._buffer = data[at:]
        return True

    def _perform(self, wish: Any) -> None:
        if isinstance(wish, Signal):
            self._on_signal(wish)
            return
        descriptors = [self._descriptors.popleft() for _ in range(wish.descriptors)]
        try:
            pid = self._fork(descriptors) if isinstance(wish, ChildWanted) else self._spawn(wish, descriptors)
        except (OSError, ValueError) as error:
            self._reports.append(Failed(wish.number, _reason(wish, error)))
            self._is_urgent = True
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        mark = b"\0" + wish.mark.encode() + b"\0" if isinstance(wish, CommandWanted) else b""
        tree = self._trees[wish.number] = self._by_pid[pid] = Tree(wish.number, pid, mark)
        self._reports.append(Started(tree.number, pid))
        self._is_urgent |= isinstance(wish, ChildWanted)

    def _fork(self, descriptors: list[int]) -> int:
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            self._become_child(parent, descriptors)
        return pid

    def _become_child(self, parent: int, descriptors: list[int]) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            os.setsid()
            processes.die_with_parent(parent)
            processes.adopt_orphans()
            processes.rename("headway-child")
            for own in (self._stream.fileno(), self._wake, self._wake_end):
                os.close(own)
            _run_child(descriptors, self._settings, self._folder)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            # No clean-up of the interpreter: it would run what the nursery registered. The user's atexit handlers are
            # run by the child itself.
            os._exit(status)

    def _spawn(self, wish: CommandWanted, descriptors: list[int]) -> int:
        actions = [(os.POSIX_SPAWN_DUP2, descriptor, at + 1) for at, descriptor in enumerate(descriptors)]
        os.chdir(wish.folder)  # one thread: nobody else sees it, and posix_spawn has no such action
        try:
            pid = os.posix_spawn(
                wish.arguments[0],
                wish.arguments,
                wish.environment,
                file_actions=actions,
                setsid=True,
                setsigdef=_DEFAULT_SIGNALS,
            )
        finally:
            os.chdir(self._folder)
        if wish.memory:
            with suppress(OSError, ValueError):
                resource.prlimit(pid, resource.RLIMIT_DATA, (wish.memory, wish.memory))
        return pid

    def _on_signal(self, wish: Signal) -> None:
        tree = self._trees.get(wish.number)
        if tree is None:
            return
        tree.signal = wish.signal
        for pid in self._members(tree):
            processes.send_signal(pid, wish.signal)

    # -------------------------------------------------------------------------------------- who belongs to whom

    def _members(self, tree: Tree) -> list[int]:
        """Every process of the tree that is to be found now."""
        self._sort_orphans()
        roots = [*([] if tree.exited else [tree.pid]), *tree.adopted]
        found = dict.fromkeys(roots)
        for root in roots:
            found.update(dict.fromkeys(processes.descendants_of(root)))
        return list(found)

    def _sort_orphans(self) -> None:
        """Find out to whom our children belong that we did not start."""
        for pid in processes.own_children():
            if pid in self._by_pid or pid in self._strays:
                continue
            started = processes.start_time_of(pid)
            tree = self._owner(pid)
            if tree is None:
                self._strays[pid] = started
            else:
                tree.adopted[pid] = started
                self._by_pid[pid] = tree

    def _owner(self, pid: int) -> Tree | None:
        with suppress(ProcessLookupError):
            session = os.getsid(pid)
            for tree in self._trees.values():
                if tree.pid == session:
                    return tree
        environment = processes.environment_of(pid)
        for tree in self._trees.values():
            if tree.mark and tree.mark in environment:
                return tree
        return None

    # -------------------------------------------------------------------------------------- ends

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._wake, 4096):
                pass
        exited: list[tuple[Tree, int, resource.struct_rusage]] = []
        with suppress(ChildProcessError):
            while True:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if not pid:
                    break
                self._strays.pop(pid, None)
                tree = self._by_pid.pop(pid, None)
                if tree is None:
                    continue
                if pid == tree.pid and not tree.exited:
                    tree.exited = True
                    exited.append((tree, status, usage))
                else:
                    tree.adopted.pop(pid, None)
        over = [tree for tree in self._trees.values() if tree.exited]
        if not over:
            return
        self._sort_orphans()
        for tree, status, usage in exited:
            self._reports.append(Exited(tree.number, status, usage.ru_maxrss * 1024, bool(tree.adopted)))
            self._is_urgent = True
        for tree in over:
            self._look_after(tree)

    def _look_after(self, tree: Tree) -> None:
        """A tree whose first process has ended: is the rest gone too?"""
        if tree.adopted:
            if tree.signal:
                for pid in self._members(tree):
                    processes.send_signal(pid, tree.signal)
            return
        del self._trees[tree.number]
        self._reports.append(Gone(tree.number))
        self._is_urgent = True
        if not self._trees:
            for pid in self._strays:
                processes.send_signal(pid, signal.SIGKILL)

    def _send(self) -> None:
        if not self._reports:
            return
        data = self._encode(self._reports)
        self._reports, self._is_urgent = [], False
        with suppress(ConnectionError):
            self._stream.sendall(len(data).to_bytes(LENGTH_BYTES, "big") + data)

    def end_everything(self) -> None:
        """The runtime is gone: so is everything that ran for it, before this returns."""
        deadline = monotonic() + 30.0
        while (left := processes.descendants_of(os.getpid())) and monotonic() < deadline:
            for pid in left:
                processes.send_signal(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if left:
                select.select([self._wake], [], [], LOOK_SECONDS)


def _reason(wish: ChildWanted | CommandWanted, error: Exception) -> str:
    if not isinstance(wish, CommandWanted):
        return f"a child process cannot be made: {error}"
    if isinstance(error, OSError) and error.filename == wish.folder:
        return f"the working folder {wish.folder!r} cannot be entered on this runtime: {error.strerror}"
    return f"{wish.arguments[0]} cannot be started: {error}"


def _run_child(descriptors: list[int], settings: ChildSettings, folder: str) -> None:
    data, control, journal, out_read, out_write, err_read, err_write = descriptors
    os.dup2(out_write, 1)
    os.dup2(err_write, 2)
    os.close(out_write)
    os.close(err_write)
    mapped = Journal(journal)
    os.close(journal)
    faulthandler.enable(file=2)  # what a crash leaves behind besides the signal's number
    sys.path[:0] = [path for path in [*settings.paths, folder] if path not in sys.path]
    gc.enable()
    child = children.Child(
        socket.socket(fileno=data), socket.socket(fileno=control), mapped, (out_read, err_read), settings
    )
    child.serve()


def serve_later(stream: socket.socket) -> None:
    """As :func:`main`, in a process that was forked before its runtime knew what it will be; its environment comes first."""
    with suppress(EOFError):
        environment = msgspec.msgpack.decode(_message(stream), type=dict[str, str])
        os.environ.clear()
        os.environ.update(environment)
        main(stream.detach())


def main(descriptor: int) -> None:
    """Serve the runtime at the other end of this descriptor."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the runtime ends us, by going
    processes.prepare()
    memory.keep_freed(CHILD_KEPT_BYTES)  # the children's setting as well
    processes.rename("headway-nursery")
    processes.adopt_orphans()
    os.set_inheritable(descriptor, False)  # or every command would hold it, and our death would go unnoticed
    stream = socket.socket(fileno=descriptor)
    stream.setblocking(True)
    settings = msgspec.msgpack.decode(_message(stream), type=ChildSettings)
    settle_imports()  # and the pages of what is loaded stay shared with the children
    nursery = Nursery(stream, settings)
    try:
        nursery.serve()
    finally:
        nursery.end_everything()


def _message(stream: socket.socket) -> bytes:
    return _exactly(stream, int.from_bytes(_exactly(stream, LENGTH_BYTES), "big"))


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise EOFError("the runtime went before it had said anything")
        data += more
    return data


if __name__ == "__main__":
    main(int(sys.argv[1]))
