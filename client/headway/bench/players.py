"""Many runtimes played by one process, honestly on the wire: a connection each, hello, register, heartbeats with the digest
of what each holds, every attempt reported and its report kept until it is settled.

What they do not have is children: an attempt is over as soon as it arrives. So what is measured is the bus, not them.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import zmq

from headway_bus.codec import encode, for_runtime
from headway_bus.endpoint import Endpoint, Frame
from headway_bus.handover import Outbox
from headway_bus.link import BROKER, CONTROLLER
from headway_bus.messages import (
    PROTOCOL_VERSION,
    Assign,
    Heartbeat,
    Hello,
    Message,
    Ping,
    Register,
    Report,
    SendInventory,
    Settled,
    Welcome,
)
from headway_bus.records import AttemptEnd, Ended, RuntimeInfo
from headway_bus.session import PINGS_APART

SOCKETS = 20_000
CONNECTING = 50
"""Players that connect at once: the broker's door is not what is measured."""

NOTHING_HELD = 0
"""The digest of no attempts: what is held at a heartbeat is nothing, because every attempt ends in the wake-up it came with."""

SHORTEST = 1e-5
"""Seconds that an attempt is said to have run."""


class Player:
    """One runtime."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], url: str, name: str, slots: float) -> None:
        self.registered = asyncio.Event()
        self.ran = 0
        self._info = RuntimeInfo(name, slots)
        self._instance = os.urandom(8)
        self._loop = asyncio.get_running_loop()
        self._decoder = for_runtime()
        self._reports: Outbox[Report] = Outbox()
        self._assigned = 0
        self._heartbeat = 2.0
        self._beats = 0
        self._timer: asyncio.TimerHandle | None = None
        socket = context.socket(zmq.DEALER)
        socket.set(zmq.LINGER, 0)
        socket.connect(url)
        self._endpoint = Endpoint(socket, self._on_raw, head=2)
        self._send(BROKER, Hello(PROTOCOL_VERSION, "runtime", name, self._instance, "headway bench"))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._endpoint.close()

    def _send(self, target: bytes, message: Message) -> None:
        self._endpoint.send_or_keep([target, encode(message)])

    def _on_raw(self, raw: list[list[Any]]) -> None:
        ended: list[Ended] = []
        for frames in raw:
            message = self._decoder.decode(frames[1])
            if isinstance(message, Assign):
                self._assigned = message.batch
                ended += self._run(message, frames[2:])
            elif isinstance(message, Settled):
                self._reports.acknowledge(message.batches)
            elif isinstance(message, Welcome):
                self._heartbeat = message.heartbeat
                self._register()
                self._timer = self._loop.call_later(self._heartbeat * os.urandom(1)[0] / 256, self._beat)
            elif isinstance(message, SendInventory):
                self._register()
        if ended:
            report = Report(self._reports.first, [], ended)
            self._reports.sent(self._reports.add(report, len(ended)), self._loop.time())
            self._send(CONTROLLER, report)

    def _run(self, assign: Assign, frames: list[Frame]) -> list[Ended]:
        found = [
            Ended(task, attempt, AttemptEnd.SUCCEEDED, SHORTEST, b"\xc0")
            for group in assign.groups
            for task, attempt, _ in group.attempts
        ]
        self.ran += len(found)
        return found

    def _register(self) -> None:
        # Everything that came was reported in the same wake-up: nothing is held but reports on their way.
        self._send(CONTROLLER, Register(self._info, self._instance, [], self._assigned))
        for batch in self._reports.unacknowledged:
            self._send(CONTROLLER, batch.content)
        self.registered.set()

    def _beat(self) -> None:
        now = self._loop.time()
        if self._beats % PINGS_APART == 0:  # as a runtime does that is answered
            self._send(BROKER, Ping(now))
        self._beats += 1
        self._send(CONTROLLER, Heartbeat(now, self._assigned, 0, NOTHING_HELD))
        for batch in self._reports.due(now):
            self._reports.sent(batch, now)
            self._send(CONTROLLER, batch.content)
        self._timer = self._loop.call_later(self._heartbeat, self._beat)


class Players:
    """``async with Players(url, 1000) as played``: they are registered when it begins, and gone when it ends."""

    def __init__(self, url: str, count: int, slots: float = 1.0) -> None:
        self._url = url
        self._count = count
        self._slots = slots
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, SOCKETS)
        self.players: list[Player] = []

    async def __aenter__(self) -> Players:
        for number in range(self._count):
            self.players.append(Player(self._context, self._url, f"played-{number}", self._slots))
            if number % CONNECTING == CONNECTING - 1:
                await asyncio.wait_for(self.players[-1].registered.wait(), 30)
        for player in self.players:
            await asyncio.wait_for(player.registered.wait(), 30)
        return self

    async def __aexit__(self, *_: object) -> None:
        for player in self.players:
            player.close()
        self._context.term()

    @property
    def ran(self) -> int:
        return sum(player.ran for player in self.players)
