"""A peer's end of its connection: the session, as :mod:`headway_bus.link` drives it over a socket."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from headway_bus import session as sessions
from headway_bus.codec import Decoder, encode, for_client, for_controller, for_runtime
from headway_bus.link import BROKER, Listener, Received
from headway_bus.messages import Bye, ControllerChanged, Message, Pong, Rejected, Welcome
from headway_bus.session import Session

from .network import BrokerEnd, Connection, Frames, Network
from .timeline import Process

TICKS_PER_HEARTBEAT = 4
DECODERS: dict[str, Decoder] = {"client": for_client(), "controller": for_controller(), "runtime": for_runtime()}
DECODERS["edge"] = DECODERS["runtime"]
_SESSION_MESSAGES = (Welcome, Pong, ControllerChanged, Rejected)


class Wire:
    """What :class:`headway_bus.link.Link` is, over a simulated connection."""

    def __init__(
        self,
        network: Network,
        process: Process,
        broker: BrokerEnd,
        listener: Listener,
        role: str,
        name: str,
        instance: bytes,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self.process = process
        self.session = Session(role, name, instance, "simulated", random=random)
        self._network = network
        self._broker = broker
        self._listener = listener
        self._decoder = DECODERS[role]
        self._clock = clock
        self._connection: Connection | None = None

    @property
    def name(self) -> str:
        return self.session.name

    @property
    def is_up(self) -> bool:
        return self.session.is_up

    @property
    def silence(self) -> float:
        return self.session.silence(self._clock())

    def start(self) -> None:
        self._tick()

    def send(self, target: bytes, message: Message, frames: Sequence[bytes | memoryview] = ()) -> bool:
        if self._connection is None or not self.session.is_up:
            return False
        self._connection.up.put([target, encode(message), *map(bytes, frames)])
        self.session.has_spoken = True
        return True

    def leave(self) -> None:
        """Say goodbye and close."""
        self.send(BROKER, Bye())
        self.session.on_stopped()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.peer_open = False
            connection.down.close(0)
            connection.up.close(len(connection.up), connection._forget_at_broker)

    def die(self, says_so: bool = True) -> None:
        """The process was killed."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close_by_peer(says_so)

    def cut(self) -> None:
        """Break the connection."""
        if self._connection is not None:
            self._connection.cut()

    def _tick(self) -> None:
        self._perform(self.session.on_tick(self._clock()))
        if self.session.state == "over":
            return
        delay = self.session.heartbeat / TICKS_PER_HEARTBEAT
        if self.session.state == "waiting":
            delay = max(0.001, min(delay, self.session.retry_at - self._clock()))
        self._network.timeline.after(delay, self._tick, self.process, True)

    def deliver(self, connection: Connection, messages: list[Frames]) -> None:
        if connection is not self._connection:
            return
        now = self._clock()
        self.session.on_heard(now)
        received: list[Received] = []
        for frames in messages:
            source, message = frames[0], self._decoder.decode(frames[1])
            if source == BROKER and isinstance(message, _SESSION_MESSAGES):
                if received:
                    self._listener.on_messages(received)
                    received = []
                self._perform(self.session.on_message(message, now))
                if isinstance(message, Rejected) and self.session.is_up:
                    received.append((source, message, []))
            else:
                received.append((source, message, list(frames[2:])))
        if received:
            self._listener.on_messages(received)

    def disconnected(self, connection: Connection) -> None:
        if connection is self._connection:
            self._perform(self.session.on_disconnected(self._clock()))

    def _perform(self, effects: list[sessions.Effect]) -> None:
        for effect in effects:
            match effect:
                case sessions.Open():
                    self._connection = self._network.connect(self, self._broker)
                case sessions.Close():
                    self.die()
                case sessions.Send(message):
                    if self._connection is not None:
                        self._connection.up.put([BROKER, encode(message)])
                case sessions.Up(welcome):
                    self._listener.on_up(welcome)
                case sessions.Down(reason):
                    self._listener.on_down(reason)
                case sessions.ControllerSeen(controller):
                    self._listener.on_controller(controller)
                case sessions.Over(rejected):
                    self._listener.on_over(rejected)
