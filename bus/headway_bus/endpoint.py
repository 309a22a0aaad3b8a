"""A raw ZeroMQ socket on the event loop.

``zmq.asyncio`` makes a future and a poll for every message, which costs three to four times what a socket costs whose
file descriptor the loop watches and which is drained at each wake-up. That descriptor is edge-triggered and is shared by
both directions: after a send or a partial drain the edge may already be gone, so the endpoint looks again (``_arm``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Container, Sequence
from typing import Any, cast

import zmq
from zmq.backend import Socket as BareSocket

from headway_bus.errors import BusError

Frame = bytes | memoryview
"""What a payload frame looks like to everybody above this file."""

DRAIN_BUDGET = 256
"""Messages taken from a socket in one wake-up, before the loop's other duties get their turn."""

ZERO_COPY_BYTES = 65_536
"""Frames at least this long are lent to ZeroMQ instead of copied; below it the bookkeeping costs more than the copy."""

# As plain numbers, and without the conveniences of zmq.Socket: a message of three frames is sent in 0.4 µs instead of 2.5.
_SEND: Callable[..., object] = BareSocket.send
_RECEIVE: Callable[..., Any] = BareSocket.recv
_GET = cast(Callable[["zmq.Socket[bytes]", int], int], BareSocket.get)
_EVENTS = int(zmq.EVENTS)
_POLLOUT = int(zmq.POLLOUT)
_POLLIN = int(zmq.POLLIN)
_DESCRIPTOR = int(zmq.SRCFD)
_LAST = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)

BACKLOG_BYTES = 256 * 1024 * 1024
"""What may wait in a dealer for a slow broker. The hand-overs' windows are far below it; beyond it is a defect."""


class Endpoint:
    """One socket: received messages are handed over in batches, sends never block.

    :param head: number of leading frames that are always copied to bytes; later ones stay in ZeroMQ's memory when long.
    :param on_messages: called with every batch that a wake-up finds.
    :param with_keys: keep the public key that each message of the batch came with in ``keys``. Only for a socket that takes
        nothing without: reading it costs 3 µs a message.
    :param known: of messages whose first frame is not among these, keep that frame and the descriptor that they came through
        in ``strangers``, until somebody clears it.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_messages: Callable[[list[list[Any]]], None],
        head: int,
        budget: int = DRAIN_BUDGET,
        with_keys: bool = False,
        known: Container[bytes] | None = None,
    ) -> None:
        self.socket = socket
        self._on_messages = on_messages
        self._head = head
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self.keys: list[str] | None = [] if with_keys else None
        self._known = known
        self.strangers: list[tuple[bytes, int]] = []
        self._armed = False
        self._sent = False
        self._closed = False
        self._fd = int(socket.FD)
        self._loop.add_reader(self._fd, self._on_edge)
        self._backlog: deque[list[Frame]] = deque()
        self._backlog_bytes = 0
        self._arm()

    def send(self, frames: Sequence[Frame]) -> None:
        """Hand a message to ZeroMQ. Raises zmq.Again when the queue is full, zmq.ZMQError when there is no such route."""
        socket, last = self.socket, len(frames) - 1
        self._sent = True  # one that fails may swallow the edge as well
        self._arm()
        for index, frame in enumerate(frames):
            _SEND(socket, frame, _MORE if index < last else _LAST, len(frame) < ZERO_COPY_BYTES)

    def send_or_keep(self, frames: Sequence[Frame]) -> None:
        """The same for a socket with one peer: what does not fit now waits here, in order."""
        if not self._backlog:
            try:
                self.send(frames)
                return
            except zmq.Again:
                pass
        self._backlog_bytes += sum(map(len, frames))
        if self._backlog_bytes > BACKLOG_BYTES:
            raise BusError(
                f"{self._backlog_bytes} bytes wait for the broker, which takes none; the limit is {BACKLOG_BYTES}"
            )
        self._backlog.append(list(frames))
        self._arm()

    def close(self, linger: int = 0) -> None:
        """Close the socket; ``linger``: milliseconds that it may go on sending what was handed to it."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)
            self.socket.close(linger=linger)

    def _arm(self) -> None:
        if not self._armed and not self._closed:
            self._armed = True
            self._loop.call_soon(self._wake)

    def _on_edge(self) -> None:
        if not self._armed:  # else a look is due in this turn of the loop anyway
            self._wake()

    def _wake(self) -> None:
        self._armed = self._sent = False
        if self._closed:
            return
        messages = self._drain()
        if messages:
            # What is sent meanwhile needs no look of its own: one follows here.
            self._armed = True
            try:
                self._on_messages(messages)
            except BaseException:
                self._armed = False
                self._arm()
                raise
            self._armed = False
        if self._backlog and not self._closed:
            self._send_backlog()
        if not self._closed and (self._sent or self._backlog or len(messages) == self._budget):
            # A send may have swallowed the edge of what came since the last look, and so may that look the one which says
            # that the peer takes more again: then nobody would call.
            awaited = _POLLIN | _POLLOUT if self._backlog else _POLLIN
            if _GET(self.socket, _EVENTS) & awaited:
                self._arm()

    def _drain(self) -> list[list[Any]]:
        messages: list[list[Any]] = []
        socket, head, keys, known = self.socket, self._head, self.keys, self._known
        if keys is not None:
            keys.clear()
        # Asking whether there is something costs a third of the exception that says that there is nothing.
        while len(messages) < self._budget and _GET(socket, _EVENTS) & _POLLIN:
            frame = _RECEIVE(socket, _LAST, False)
            frames: list[Any] = [frame.bytes]
            if keys is not None:
                # The route does not tell who it is: a peer chooses its routing id, and can take over that of one whose
                # connection has ended before the broker knows.
                keys.append(str(frame.get("User-Id")))
            if known is not None and frames[0] not in known:
                self._note_stranger(frames[0], frame)
            while frame.more:
                frame = _RECEIVE(socket, _LAST, False)
                lent = len(frames) >= head and len(frame) >= ZERO_COPY_BYTES
                frames.append(frame.buffer if lent else frame.bytes)
            messages.append(frames)
        return messages

    def _note_stranger(self, route: bytes, frame: Any) -> None:
        with contextlib.suppress(zmq.ZMQError):  # it came through none: from this process
            self.strangers.append((route, int(frame.get(_DESCRIPTOR))))

    def _send_backlog(self) -> None:
        while self._backlog:
            try:
                self.send(self._backlog[0])
            except zmq.Again:
                return
            self._backlog_bytes -= sum(map(len, self._backlog.popleft()))
