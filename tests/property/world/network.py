"""Connections between peers and the broker, as TCP and ZeroMQ give them: in order, or not at all.

A connection carries frames of bytes in both directions, each in order. It can be slow, stand still (a partition: nobody
is told, and what was sent arrives when it heals, if the connection still stands), break (everything under way is lost)
and take no more (the sender's queue is full). Between connections there is no order: what a peer sent on an old one may
arrive after what it says on the new one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Protocol

from .timeline import Process, Timeline

Frames = list[bytes]
SYN_RETRY = 0.5


class PeerEnd(Protocol):
    """Where a connection ends on the peer's side."""

    process: Process

    def deliver(self, connection: Connection, messages: list[Frames]) -> None: ...
    def disconnected(self, connection: Connection) -> None: ...


class BrokerEnd(Protocol):
    """Where it ends on the broker's side."""

    process: Process

    def attach(self, connection: Connection) -> None: ...
    def detach(self, connection: Connection) -> None: ...
    def deliver(self, connection: Connection, messages: list[Frames]) -> None: ...


class Pipe:
    """One direction of a connection."""

    def __init__(self, network: Network, connection: Connection, owner: Process, take: Callable[[list[Frames]], None]):
        self._network = network
        self._connection = connection
        self._owner = owner
        self._life = owner.life
        self._take = take
        self._queue: deque[tuple[float, Frames]] = deque()
        self._last = 0.0
        self._pumping = False
        self._at_end: Callable[[], None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, frames: Frames) -> None:
        if self._closed:
            return
        network = self._network
        self._last = max(self._last, network.timeline.now + network.latency(self._connection.machine))
        self._queue.append((self._last, frames))
        if self._connection.attached:
            self.pump_at(self._queue[0][0])

    def renew(self) -> None:
        """The receiver may have been started anew since the pipe was made."""
        self._life = self._owner.life

    def close(self, keep: int, at_end: Callable[[], None] | None = None) -> None:
        """Nothing more goes in; the first ``keep`` messages still arrive, then ``at_end`` is called."""
        self._closed = True
        while len(self._queue) > keep:
            self._queue.pop()
        self._at_end = at_end
        self.pump_at(self._network.timeline.now + self._network.latency(self._connection.machine))

    def pump_at(self, when: float) -> None:
        if not self._pumping and self._owner.life == self._life:
            self._pumping = True
            self._network.timeline.at(when, self._pump, self._owner)

    def _pump(self) -> None:
        self._pumping = False
        network = self._network
        now = network.timeline.now
        if not self._connection.attached:
            return  # the connection pumps when it stands
        until = network.cut_until(self._connection.machine)
        if until > now:
            self.pump_at(until)
            return
        arrived: list[Frames] = []
        while self._queue and self._queue[0][0] <= now:
            arrived.append(self._queue.popleft()[1])
        if self._queue:
            self.pump_at(self._queue[0][0])
        elif self._closed and self._at_end is not None and not arrived:
            at_end, self._at_end = self._at_end, None
            at_end()
        elif self._closed and self._at_end is not None:
            self.pump_at(now)
        if arrived:
            self._take(arrived)


class Connection:
    """One connection of one peer. ``route``: what the broker calls it by."""

    def __init__(self, network: Network, peer: PeerEnd, broker: BrokerEnd, route: bytes) -> None:
        self.network = network
        self.peer = peer
        self.broker = broker
        self.route = route
        self.machine = peer.process.name
        self.attached = False
        self.peer_open = True
        self.broker_open = True
        self.up = Pipe(network, self, broker.process, lambda messages: broker.deliver(self, messages))
        self.down = Pipe(network, self, peer.process, lambda messages: peer.deliver(self, messages))

    def knock(self) -> None:
        """The first packet reaches the broker's machine, or nothing is there."""
        if not self.peer_open:
            return
        network = self.network
        if network.cut_until(self.machine) > network.timeline.now:
            network.timeline.after(SYN_RETRY, self.knock)
        elif not self.broker.process.alive:
            self.broker_open = False
            network.timeline.after(network.latency(self.machine), self._tell_peer, self.peer.process)
        else:
            # The broker may have been started anew since the connection was made: nothing was sent before, so that is
            # one and the same to both sides.
            self.attached = True
            self.up.renew()
            self.broker.attach(self)
            self.up.pump_at(network.timeline.now)
            self.down.pump_at(network.timeline.now)

    def _tell_peer(self) -> None:
        if self.peer_open:
            self.peer_open = False
            self.peer.disconnected(self)

    def close_by_peer(self, says_so: bool = True) -> None:
        """The peer closes its end, or died. ``says_so`` false: its machine vanished, and the broker is not told."""
        if not self.peer_open:
            return
        self.peer_open = False
        self.down.close(0)
        if self.attached and self.broker_open:
            if says_so:
                keep = self.network.random.randint(0, len(self.up))
                self.network.count("messages lost", len(self.up) - keep)
                self.up.close(keep, self._forget_at_broker)
            else:
                self.up.close(0)

    def close_by_broker(self) -> None:
        """The broker died: what it had sent may still arrive, then its peer hears of it."""
        if not self.broker_open:
            return
        self.broker_open = False
        self.up.close(0)
        if self.peer_open and self.attached:
            keep = self.network.random.randint(0, len(self.down))
            self.network.count("messages lost", len(self.down) - keep)
            self.down.close(keep, self._tell_peer)

    def cut(self) -> None:
        """The connection breaks in the middle: everything under way is lost, and both ends hear of it."""
        if not (self.attached and self.peer_open and self.broker_open):
            return
        self.network.count("messages lost", len(self.up) + len(self.down))
        self.up.close(0, self._forget_at_broker)
        self.down.close(0, self._tell_peer)

    def _forget_at_broker(self) -> None:
        if self.broker_open:
            self.broker_open = False
            self.broker.detach(self)


class Network:
    """All connections, and what is wrong with them at the moment."""

    def __init__(self, timeline: Timeline, random: Random, latency: float, high_water: int) -> None:
        self.timeline = timeline
        self.random = random
        self.high_water = high_water
        """Messages on their way to one peer, beyond which the broker's deliveries are refused."""
        self.counters: Counter[str] = Counter()
        self._latency = latency
        self._slow_until: dict[str, tuple[float, float]] = {}
        self._cut_until: dict[str, float] = {}
        self._routes = 0
        self.connections: list[Connection] = []

    def connect(self, peer: PeerEnd, broker: BrokerEnd) -> Connection:
        self._routes += 1
        connection = Connection(self, peer, broker, b"\0" + self._routes.to_bytes(4, "big"))
        self.connections = [each for each in self.connections if each.peer_open or each.broker_open]
        self.connections.append(connection)
        self.timeline.after(self.latency(connection.machine), connection.knock)
        return connection

    def latency(self, machine: str) -> float:
        """Seconds until a message is there."""
        until, factor = self._slow_until.get(machine, (0.0, 1.0))
        if until <= self.timeline.now:
            factor = 1.0
        return self._latency * factor * (0.2 + self.random.expovariate(1.25))

    def cut_until(self, machine: str) -> float:
        return self._cut_until.get(machine, 0.0)

    def partition(self, machine: str, seconds: float) -> None:
        """Nothing passes to or from that machine for a while."""
        self._cut_until[machine] = max(self.cut_until(machine), self.timeline.now + seconds)

    def slow_down(self, machine: str, seconds: float, factor: float) -> None:
        self._slow_until[machine] = (self.timeline.now + seconds, factor)

    def heal(self) -> None:
        """From now on it is kind."""
        self._cut_until.clear()
        self._slow_until.clear()
        self.high_water = 1_000_000
        for connection in self.connections:
            connection.up.pump_at(self.timeline.now)
            connection.down.pump_at(self.timeline.now)

    def count(self, what: str, number: int = 1) -> None:
        if number > 0:
            self.counters[what] += number
