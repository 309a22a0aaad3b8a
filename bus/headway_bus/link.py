"""What a service holds in its hand: a connection to the broker that comes back by itself.

``Link`` is the shell around :class:`headway_bus.session.Session`: it owns the socket and the timer. A service gives it
a ``Listener`` and calls ``send``. :class:`LocalLink` is the same for a controller that lives in the broker's process.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import zmq
from zmq.utils.monitor import recv_monitor_message

from headway_bus import nearby
from headway_bus import session as sessions
from headway_bus.codec import Decoder, encode, request_of
from headway_bus.endpoint import Endpoint, Frame
from headway_bus.errors import BusError, ProtocolError
from headway_bus.logs import get_logger
from headway_bus.messages import Bye, ControllerChanged, Message, Pong, Rejected, Welcome
from headway_bus.session import Session

BROKER = b""
CONTROLLER = b"controller"
TOPIC = b"*"
"""A target that begins with this is a topic; the rest of it is the topic's name."""

TICKS_PER_HEARTBEAT = 8
SEND_HIGH_WATER = 10_000
CLOSE_LINGER_MS = 1_000

Received = tuple[bytes, Message, list[Frame]]
"""Who sent it (empty: the broker), the message, its payload frames."""

_SESSION_MESSAGES = (Welcome, Pong, ControllerChanged, Rejected)
_OTHER_KEYS = (
    "the broker there takes keys and none was shown, or takes none and one was shown, or it is not the broker whose "
    "public key stands in the key file"
)
_TROUBLE: dict[int, str] = {
    zmq.Event.HANDSHAKE_FAILED_AUTH: "the broker does not know this key: it was not authorized, was revoked, or has expired",
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL: _OTHER_KEYS,
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL: _OTHER_KEYS,
}
"""Ends of a handshake that a person can do something about."""

_DISCONNECTED = frozenset(
    {
        zmq.Event.DISCONNECTED,
        zmq.Event.CLOSED,
        zmq.Event.CONNECT_RETRIED,
        zmq.Event.HANDSHAKE_FAILED_NO_DETAIL,
        zmq.Event.HANDSHAKE_FAILED_PROTOCOL,
        zmq.Event.HANDSHAKE_FAILED_AUTH,
    }
)

log = get_logger("headway.link")


class Listener(Protocol):
    """What a link calls. All calls come from the event loop; none may block."""

    def on_up(self, welcome: Welcome) -> None:
        """The broker has accepted us. ``welcome.controller`` is empty while no controller is connected."""

    def on_down(self, reason: str) -> None:
        """The connection is gone; the link tries again by itself."""

    def on_controller(self, controller: bytes) -> None:
        """The controller came or was replaced (its instance), or went (empty)."""

    def on_messages(self, messages: list[Received]) -> None:
        """Everything that one wake-up found, in order."""

    def on_undecodable(self, source: bytes, request: int, text: str) -> None:
        """A peer sent something that no correct peer sends; ``request`` is its number, if one could be read."""

    def on_over(self, rejected: Rejected) -> None:
        """The broker will not have us, for a reason that time does not mend."""


class BusLink(Protocol):
    """What services need of a link, whichever kind it is."""

    @property
    def name(self) -> str: ...
    @property
    def is_up(self) -> bool: ...
    @property
    def controller(self) -> bytes: ...
    @property
    def round_trip(self) -> float: ...
    @property
    def silence(self) -> float: ...
    def send(self, target: bytes, message: Message, frames: Sequence[Frame] = ()) -> bool: ...
    async def close(self) -> None: ...


class Link:
    """A connection over a socket. Make it inside a running loop, then ``start()`` it."""

    def __init__(
        self,
        url: str,
        role: str,
        decoder: Decoder,
        listener: Listener,
        *,
        name: str = "",
        instance: bytes | None = None,
        heartbeat: float = 2.0,
        software: str = "",
        prepare: Callable[[zmq.Socket[bytes]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self.session = Session(role, name, instance or os.urandom(8), software, heartbeat)
        self.rejected: Rejected | None = None
        self.undecodable = 0
        self.trouble = ""
        """Why the last handshake failed; empty: it did not, or nobody answered."""

        self._decoder = decoder
        self._listener = listener
        self._prepare = prepare
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._endpoint: Endpoint | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self.is_near = False
        """Whether the connection is a Unix socket beside the port (:mod:`headway_bus.nearby`)."""

        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        return self.session.name

    @property
    def is_up(self) -> bool:
        return self.session.is_up

    @property
    def controller(self) -> bytes:
        return self.session.controller

    @property
    def round_trip(self) -> float:
        return self.session.round_trip

    @property
    def silence(self) -> float:
        """Seconds since the broker was last heard."""
        return self.session.silence(self._clock())

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._tick()

    async def until_up(self, timeout: float) -> bool:
        """Wait until the broker has accepted us. False after ``timeout`` seconds, or when it refused for good or we left."""
        deadline = self._loop.time() + timeout
        while not self.is_up and self.session.state != "over":
            left = deadline - self._loop.time()
            if left <= 0:
                return False
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return False
        return self.is_up

    def send(self, target: bytes, message: Message, frames: Sequence[Frame] = ()) -> bool:
        """Send now, or say no (False) because there is no connection: the hand-over will repeat it when there is."""
        if self._endpoint is None or not self.session.is_up:
            return False
        self._endpoint.send_or_keep([target, encode(message), *frames])
        self.session.has_spoken = True
        return True

    async def close(self) -> None:
        """Say goodbye and let go of the socket."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        was_up = self.is_up
        if was_up:
            self.send(BROKER, Bye())
        self.session.on_stopped()
        self._close_socket(CLOSE_LINGER_MS if was_up else 0)  # a hello that nobody took needs no patience
        self._changed.set()

    def _tick(self) -> None:
        self._perform(self.session.on_tick(self._clock()))
        if self.session.state == "over":
            return
        delay = self.session.heartbeat / TICKS_PER_HEARTBEAT
        if self.session.state == "waiting":
            delay = max(0.001, min(delay, self.session.retry_at - self._clock()))
        self._timer = self._loop.call_later(delay, self._tick)

    def _on_raw(self, raw: list[list[Any]]) -> None:
        now = self._clock()
        self.session.on_heard(now)
        received: list[Received] = []
        for frames in raw:
            if len(frames) < 2:
                self.undecodable += 1
                continue
            source = frames[0]
            try:
                message = self._decoder.decode(frames[1])
            except ProtocolError as error:
                self.undecodable += 1
                self._listener.on_undecodable(source, request_of(frames[1]), str(error))
                continue
            if source == BROKER and isinstance(message, _SESSION_MESSAGES):
                if received:  # keep the order of what the listener sees
                    self._listener.on_messages(received)
                    received = []
                self._perform(self.session.on_message(message, now))
                if isinstance(message, Rejected) and self.session.is_up:
                    received.append((source, message, []))
            else:
                received.append((source, message, frames[2:]))
        if received:
            self._listener.on_messages(received)

    def _perform(self, effects: list[sessions.Effect]) -> None:
        for effect in effects:
            match effect:
                case sessions.Open():
                    self._open_socket(near=self._prepare is None)
                case sessions.Close():
                    self._close_socket()
                case sessions.Send(message):
                    if self._endpoint is not None:
                        self._endpoint.send_or_keep([BROKER, encode(message)])
                case sessions.Up(welcome):
                    log.debug("connected", url=self.url, name=welcome.name)
                    self.trouble = ""
                    self._changed.set()
                    self._listener.on_up(welcome)
                case sessions.Down(reason):
                    log.info("connection lost", url=self.url, reason=reason)
                    self._changed.set()
                    self._listener.on_down(reason)
                case sessions.ControllerSeen(controller):
                    self._listener.on_controller(controller)
                case sessions.Over(rejected):
                    self.rejected = rejected
                    self._changed.set()
                    self._listener.on_over(rejected)

    def _open_socket(self, near: bool) -> None:
        """``near``: by the shorter way, where there is one."""
        shorter = nearby.find(self.url) if near else None
        self.is_near = shorter is not None
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RECONNECT_IVL, -1)  # the session decides when to try again, with its own jitter
        socket.set(zmq.SNDHWM, SEND_HIGH_WATER)
        socket.set(zmq.RCVHWM, SEND_HIGH_WATER)
        if self._prepare is not None:
            self._prepare(socket)
        monitor = socket.get_monitor_socket(zmq.EVENT_ALL)
        self._monitor = monitor
        self._loop.add_reader(int(monitor.FD), self._on_monitor)
        self._endpoint = Endpoint(socket, self._on_raw, head=2)
        try:
            socket.connect(shorter or self.url)
        except zmq.ZMQError as error:
            self._close_socket()
            raise BusError(
                f"cannot connect to {self.url!r}: {error}; expected something like tcp://127.0.0.1:5570"
            ) from None
        self._loop.call_soon(self._on_monitor)

    def _close_socket(self, linger: int = 0) -> None:
        if self._monitor is not None:
            self._loop.remove_reader(int(self._monitor.FD))
        if self._endpoint is not None:
            self._endpoint.socket.disable_monitor()
            self._endpoint.close(linger)
            self._endpoint = None
        if self._monitor is not None:
            self._monitor.close(linger=0)
            self._monitor = None

    def _on_monitor(self) -> None:
        monitor = self._monitor
        while monitor is not None and monitor is self._monitor and int(monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event = recv_monitor_message(monitor, zmq.NOBLOCK)["event"]
            if event in _TROUBLE and not self.session.is_up:
                self._note_trouble(_TROUBLE[event])
            if event in _DISCONNECTED:
                # Whatever arrived before the cut is read first: it may be the answer that somebody waits for.
                if self._endpoint is not None:
                    self._endpoint._wake()
                if monitor is not self._monitor:
                    return  # it was the broker's refusal: there is no connection any more that could be mended
                if self.is_near and not self.session.is_up:
                    self._take_port()
                else:
                    self._perform(self.session.on_disconnected(self._clock()))
                return

    def _take_port(self) -> None:
        """Nobody is behind the socket that the broker of before has left: go the way that everybody goes."""
        self._close_socket()
        self._open_socket(near=False)
        if self._endpoint is not None:
            self._endpoint.send_or_keep([BROKER, encode(self.session.hello())])

    def _note_trouble(self, text: str) -> None:
        if text != self.trouble:
            log.info("no connection", url=self.url, reason=text)
        self.trouble = text


class LocalLink:
    """The link of a controller that lives in the broker's process: the same messages, no socket in between.

    :param forward: the broker's entrance: (target, header, payload frames).
    """

    def __init__(
        self,
        name: str,
        instance: bytes,
        decoder: Decoder,
        listener: Listener,
        forward: Callable[[bytes, bytes, Sequence[Frame]], None],
    ) -> None:
        self.name: str = name
        self.instance = instance
        self.undecodable = 0
        self._decoder = decoder
        self._listener = listener
        self._forward = forward
        self._is_up = False
        self._arrived: list[Received] = []
        self._gathers = False
        self._loop = asyncio.get_running_loop()

    @property
    def is_up(self) -> bool:
        return self._is_up

    @property
    def controller(self) -> bytes:
        return self.instance

    @property
    def round_trip(self) -> float:
        return 0.0

    @property
    def silence(self) -> float:
        return 0.0

    def up(self, welcome: Welcome) -> None:
        """Called by the broker when it has taken us in."""
        self._is_up = True
        self._listener.on_up(welcome)

    def send(self, target: bytes, message: Message, frames: Sequence[Frame] = ()) -> bool:
        if not self._is_up:
            return False
        self._forward(target, encode(message), frames)
        return True

    def deliver(self, source: bytes, header: bytes | Message, frames: list[Frame]) -> None:
        """Take a message from the broker: as it is if the broker made it, otherwise as the bytes its sender wrote."""
        if isinstance(header, bytes):
            try:
                message = self._decoder.decode(header)
            except ProtocolError as error:
                self.undecodable += 1
                self._listener.on_undecodable(source, request_of(header), str(error))
                return
        else:
            message = header
        if not self._arrived and not self._gathers:
            self._loop.call_soon(self.hand_over)
        self._arrived.append((source, message, frames))

    async def close(self) -> None:
        self._is_up = False

    def gather(self) -> None:
        """A batch begins: ``hand_over`` follows in this turn of the loop, and spares the next one."""
        self._gathers = True

    def hand_over(self) -> None:
        """Give the listener what has been delivered, as one batch."""
        self._gathers = False
        if self._arrived:
            messages, self._arrived = self._arrived, []
            self._listener.on_messages(messages)


__all__ = ["BROKER", "CONTROLLER", "TOPIC", "BusLink", "Link", "Listener", "LocalLink", "Received"]
