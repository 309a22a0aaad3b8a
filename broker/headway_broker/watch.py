"""Learns of the connections of a bound socket, and cuts one: what ZeroMQ has no call for, done with its monitor and the system's.

A connection is cut by shutting its descriptor down; ZeroMQ then ends it as one that broke. That is only safe if the number
still stands for that connection, for ZeroMQ closes descriptors in a thread of its own and the system gives their numbers to
others. Hence the order in ``cut``: the descriptor is duplicated, which holds on to whatever it stands for; then all events
are read. ZeroMQ reports an end before it closes, so if none is reported even then, the duplicate is of that connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket as sockets
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import zmq

from headway_broker.connections import Connection, Connections
from headway_broker.state import Peer

_EVENT = struct.Struct("=Hi")
"""The first frame of an event: what, and of which descriptor (rfc: the manual of zmq_socket_monitor)."""

_RECEIVED = struct.Struct("=Q")
_RECEIVED_AT = 128
"""Where Linux' ``struct tcp_info`` has the bytes that were received."""

_EVENTS = int(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)


class Watch:
    """Follows the connections of one socket.

    :param greeted: the peers that have said hello, by route.
    """

    def __init__(self, connections: Connections, greeted: Mapping[bytes, Peer], counters: Counter[str]) -> None:
        self.connections = connections
        self._greeted = greeted
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._watched: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None

    def start(self, socket: zmq.Socket[bytes]) -> None:
        """To be called before the socket is bound, so that no connection is missed."""
        if sys.platform == "win32":
            return  # a socket's descriptor cannot be duplicated by its number there
        address = f"inproc://headway.connections.{os.urandom(8).hex()}"
        socket.monitor(address, _EVENTS)
        monitor: zmq.Socket[bytes] = socket.context.socket(zmq.PAIR)
        monitor.set(zmq.LINGER, 0)
        # ZeroMQ's thread would wait for us when the queue is full, and everybody's messages with it.
        monitor.set(zmq.RCVHWM, 0)
        monitor.connect(address)
        self._watched, self._monitor = socket, monitor
        self._loop.add_reader(int(monitor.FD), self.look)
        self.look()

    def close(self) -> None:
        """To be called before the socket is closed."""
        if self._monitor is None or self._watched is None:
            return
        self._loop.remove_reader(int(self._monitor.FD))
        self._watched.disable_monitor()
        self._monitor.close(linger=0)
        self._monitor = self._watched = None

    def look(self) -> None:
        """Take in what has happened, and cut what is too much."""
        self._read()
        if len(self.connections.silent) > self.connections.limit:
            self.cut(self.connections.beyond(), "half-open")

    def look_for_strangers(self, patience: float) -> None:
        """Cut who has said nothing for so many seconds, and those who spoke and are no peers, where they are too many.

        To be called now and then: they are not as quickly counted.
        """
        self.look()
        self.cut(self.connections.overdue(time.monotonic() - patience), "half-open")
        self.cut(self.connections.beyond_with(self._greeted), "half-open")

    def on_spoken(self, strangers: Iterable[tuple[bytes, int]], now: float) -> None:
        """Messages of those who are no peers: their routes, and through which descriptors they came."""
        self._read()  # that they were accepted is known before
        for route, number in strangers:
            self.connections.on_spoken(number, route, now)

    def look_for_endless(self, most: int) -> None:
        """Cut who sends a message that is longer than any may be and has not ended yet. ``most``: bytes of a message.

        ZeroMQ gathers the frames of a message until its last one, however many there are. To be called once a heartbeat.
        """
        if sys.platform != "linux" or self._monitor is None:
            return
        self._read()
        received: dict[int, int] = {}
        for number in self.connections.unheard(self._greeted):
            with contextlib.suppress(OSError):
                received[number] = bytes_received(number)
        self.cut(self.connections.on_received(received, most), "endless")

    def cut(self, numbers: Iterable[int], why: str) -> None:
        """End these connections, and count them under this word."""
        held: list[tuple[int, Connection, int]] = []
        try:
            for number in numbers:
                with contextlib.suppress(OSError):  # it has ended, which will be read now
                    held.append((number, self.connections.opened[number], os.dup(number)))
            if not held:
                return
            self._read()
            for number, connection, duplicate in held:
                if self.connections.opened.get(number) is connection:
                    self._counters[f"cut.{why}"] += 1
                    self.connections.on_closed(number)
                    with contextlib.suppress(OSError):  # its peer was faster
                        _on(duplicate, lambda socket: socket.shutdown(sockets.SHUT_RDWR))
        finally:
            for _, _, duplicate in held:
                os.close(duplicate)

    def _read(self) -> None:
        monitor, now = self._monitor, time.monotonic()
        while monitor is not None and int(monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event, number = _EVENT.unpack(monitor.recv_multipart()[0])
            if event == zmq.EVENT_ACCEPTED:
                self.connections.on_opened(number, now, address_of(number))
            else:
                self.connections.on_closed(number)


def bytes_received(number: int) -> int:
    """How many bytes have come through a TCP connection. Raises OSError where that is not known."""
    found: list[bytes] = []
    _on(number, lambda socket: found.append(socket.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, 192)))
    if len(found[0]) < _RECEIVED_AT + _RECEIVED.size:
        raise OSError("this system does not count what was received")
    return int(_RECEIVED.unpack_from(found[0], _RECEIVED_AT)[0])


def address_of(number: int) -> str:
    """The machine at the other end of a TCP connection; of IPv6 the network, for a machine has as many addresses as it likes."""
    try:
        socket = sockets.socket(fileno=number)
    except OSError:  # it has ended
        return ""
    try:
        if socket.family not in (sockets.AF_INET, sockets.AF_INET6):
            return ""
        address = str(socket.getpeername()[0]).partition("%")[0]
    except OSError:
        return ""
    finally:
        socket.detach()
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address)
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((parsed, 64), strict=False))


def _on(number: int, act: Callable[[sockets.socket], object]) -> None:
    """Do something with the socket behind a descriptor, and leave the descriptor open."""
    socket = sockets.socket(sockets.AF_INET, sockets.SOCK_STREAM, 0, fileno=number)
    try:
        act(socket)
    finally:
        socket.detach()
