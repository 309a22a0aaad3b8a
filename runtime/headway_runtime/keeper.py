"""The runtime's end of its nursery: wishes go out, with descriptors, and what becomes of each comes back."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from headway_bus.forked import Forked
from headway_runtime import ahead
from headway_runtime.errands import REPORTS, ChildWanted, CommandWanted, Exited, Failed, Gone, Signal, Started
from headway_runtime.nursery import LENGTH_BYTES
from headway_runtime.orders import ChildSettings

READ_BYTES = 256 * 1024
MOST_DESCRIPTORS = 250
_decode = msgspec.msgpack.Decoder(list[REPORTS]).decode
_encode = msgspec.msgpack.Encoder().encode


class Kept(Protocol):
    """Whoever has a process tree kept, and is told of it."""

    def on_started(self, pid: int) -> None: ...
    def on_not_started(self, reason: str) -> None:
        """It could not be started; this is the last word."""

    def on_exited(self, status: int, most_memory: int, left: bool) -> None:
        """The first process ended; ``status`` as of wait(2)."""

    def on_gone(self) -> None:
        """Nothing of it is left; this is the last word."""


class Keeper:
    """Starts the nursery and talks to it. Make it inside a running loop.

    :param on_lost: called when the nursery ended by itself. By then everything that it kept has been killed.
    """

    def __init__(self, settings: ChildSettings, environment: dict[str, str], on_lost: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._kept: dict[int, Kept] = {}
        self._last_number = 0
        self._buffer = b""
        self._waiting: deque[tuple[memoryview, list[int]]] = deque()
        self._process, ours = _waiting_nursery(environment) or _new_nursery(environment)
        ours.sendall(_framed(_encode(settings)))
        ours.setblocking(False)
        self._stream = ours
        self._loop.add_reader(ours.fileno(), self._on_readable)

    @property
    def pid(self) -> int:
        return self._process.pid

    def want_child(self, kept: Kept, descriptors: Sequence[int]) -> int:
        """A forked child with these descriptors, which are closed here. Returns the number of its tree."""
        number = self._number(kept)
        self._send(ChildWanted(number, len(descriptors)), list(descriptors))
        return number

    def want_command(
        self,
        kept: Kept,
        arguments: list[str],
        environment: dict[str, str],
        folder: str,
        mark: str,
        memory: int,
        descriptors: Sequence[int],
    ) -> int:
        """A program in a session of its own; ``descriptors`` become its standard output, error, and so on."""
        number = self._number(kept)
        wish = CommandWanted(number, arguments, environment, folder, mark, memory, len(descriptors))
        self._send(wish, list(descriptors))
        return number

    def send_signal(self, number: int, signal: int) -> None:
        """To every process of the tree, and to those found later."""
        if number in self._kept:
            self._send(Signal(number, signal), [])

    async def close(self, timeout: float = 10.0) -> None:
        """End everything that is kept, and the nursery."""
        self._drop_stream()
        for _ in range(int(timeout / 0.01)):
            if self._process.poll() is not None:
                return
            await asyncio.sleep(0.01)
        self._process.kill()
        self._process.wait()

    def _number(self, kept: Kept) -> int:
        self._last_number += 1
        self._kept[self._last_number] = kept
        return self._last_number

    def _send(self, wish: Any, descriptors: list[int]) -> None:
        self._waiting.append((memoryview(_framed(_encode(wish))), descriptors))
        if len(self._waiting) == 1:
            self._write()

    def _write(self) -> None:
        while self._waiting:
            data, descriptors = self._waiting[0]
            try:
                # Descriptors go with the first byte, and the nursery gets them in the order of the messages.
                sent = socket.send_fds(self._stream, [data], descriptors) if descriptors else self._stream.send(data)
            except BlockingIOError:
                self._loop.add_writer(self._stream.fileno(), self._write)
                return
            except OSError:
                return  # the reader finds out
            for descriptor in descriptors:
                os.close(descriptor)
            if sent == len(data):
                self._waiting.popleft()
            else:
                self._waiting[0] = (data[sent:], [])
        self._loop.remove_writer(self._stream.fileno())

    def _on_readable(self) -> None:
        try:
            data = self._stream.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._on_end()
            return
        data = self._buffer + data
        at = 0
        while len(data) - at >= LENGTH_BYTES:
            end = at + LENGTH_BYTES + int.from_bytes(data[at : at + LENGTH_BYTES], "big")
            if end > len(data):
                break
            for report in _decode(data[at + LENGTH_BYTES : end]):
                self._on_report(report)
            at = end
        self._buffer = data[at:]

    def _on_report(self, report: Started | Failed | Exited | Gone) -> None:
        kept = self._kept.get(report.number)
        if kept is None:
            return
        if isinstance(report, Started):
            kept.on_started(report.pid)
        elif isinstance(report, Exited):
            kept.on_exited(report.status, report.most_memory, report.left)
        elif isinstance(report, Gone):
            del self._kept[report.number]
            kept.on_gone()
        else:
            del self._kept[report.number]
            kept.on_not_started(report.reason)

    def _on_end(self) -> None:
        self._drop_stream()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._on_lost()

    def _drop_stream(self) -> None:
        self._loop.remove_reader(self._stream.fileno())
        self._loop.remove_writer(self._stream.fileno())
        self._stream.close()
        for _, descriptors in self._waiting:
            for descriptor in descriptors:
                os.close(descriptor)
        self._waiting.clear()


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def _new_nursery(environment: dict[str, str]) -> tuple[subprocess.Popen[bytes] | Forked, socket.socket]:
    """A nursery that is started now, and our end of the stream to it."""
    ours, theirs = socket.socketpair()
    os.set_inheritable(theirs.fileno(), True)
    # A session of its own: what the terminal or a service manager sends to our group must not reach it. It ends when
    # our end of the stream is closed, which our death does as well.
    # -P: a file of the user's in the current folder must not stand in for a module of the nursery's.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "headway_runtime.nursery", str(theirs.fileno())],
        stdin=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
        start_new_session=True,
        env=environment,
    )
    theirs.close()
    return process, ours


def _waiting_nursery(environment: dict[str, str]) -> tuple[subprocess.Popen[bytes] | Forked, socket.socket] | None:
    """The one that was forked before this process became a runtime, if there is one."""
    found = ahead.take()
    if found is None:
        return None
    try:
        found.stream.sendall(_framed(_encode(environment)))
    except OSError:  # it was killed meanwhile
        found.stream.close()
        found.process.wait()
        return None
    return found.process, found.stream
