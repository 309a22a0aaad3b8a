"""Runtimes that are played: as many as wanted in one process, honest on the wire, with nothing behind them.

``python -m benchmarks.played URL COUNT SLOTS PREFIX LOG [HEARTBEAT]``; with a heartbeat (seconds) they are edge agents. Each
has a connection of its own that comes back as a real one's does, registers with all it holds, beats, repeats its reports
until they are settled. An attempt "runs" for the number of seconds in its task's ``meta``. What they are told and what they
end is written to LOG, a line each:
``assign|end|register SECONDS RUNTIME COUNT``, in seconds of the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from typing import TextIO

import zmq

from headway_broker.limits import allow_descriptors
from headway_bus import codec, loops
from headway_bus.endpoint import Frame
from headway_bus.handover import Outbox
from headway_bus.ids import AttemptKey, TaskId, digest_of
from headway_bus.link import CONTROLLER, Link, Received
from headway_bus.messages import (
    Assign,
    Heartbeat,
    Message,
    Register,
    Registered,
    Rejected,
    Report,
    SendInventory,
    Settled,
    Stop,
    TakeBack,
    Welcome,
)
from headway_bus.records import AttemptEnd, Ended, Held, RuntimeInfo

NIL = b"\xc0"
SOCKETS = 20_000
AT_ONCE = 20
"""Runtimes that connect before the loop looks at what the first of them are told."""


class PlayedRuntime:
    """One of them: a link and its books."""

    def __init__(self, url: str, name: str, slots: float, log: TextIO, heartbeat: float = 0.0) -> None:
        self._info = RuntimeInfo(name, slots, labels={"played": name.partition("-")[0]}, edge=heartbeat > 0.0)
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._instance = os.urandom(8)
        self._heartbeat = heartbeat
        role = "edge" if heartbeat else "runtime"
        self._link = Link(url, role, codec.for_runtime(), self, name=name, instance=self._instance)
        if heartbeat:
            self._link.session.wish = heartbeat
        self._running: dict[AttemptKey, float] = {}
        self._outbox: Outbox[list[Ended]] = Outbox()
        self._ended: list[Ended] = []
        self._seen: set[int] = set()
        self._assigned = 0
        self._controller = b""
        self._link.start()
        self._loop.call_later(self._link.session.heartbeat, self._beat)

    # ------------------------------------------------------------------------------------------ the link's listener

    def on_up(self, welcome: Welcome) -> None:
        self.on_controller(welcome.controller)

    def on_down(self, reason: str) -> None: ...

    def on_controller(self, controller: bytes) -> None:
        if controller and controller != self._controller:
            self._controller, self._assigned = controller, 0
        if controller:
            self._register()

    def on_messages(self, messages: list[Received]) -> None:
        for _, message, _ in messages:
            match message:
                case Assign():
                    self._on_assign(message)
                case Settled(batches):
                    self._outbox.acknowledge(batches)
                case SendInventory():
                    self._register()
                case Registered(_, stop, _) | Stop(stop):
                    self._give_up(stop, AttemptEnd.CANCELLED)
                case TakeBack():
                    pass  # all that is here has begun

    def on_undecodable(self, source: bytes, request: int, text: str) -> None:
        print(text, file=sys.stderr)

    def on_over(self, rejected: Rejected) -> None:
        print(rejected.text, file=sys.stderr)

    # ------------------------------------------------------------------------------------------ what a runtime does

    def _note(self, what: str, count: int) -> None:
        self._log.write(f"{what} {time.monotonic():.4f} {self._info.name} {count}\n")

    def _tell(self, message: Message, frames: Sequence[Frame] = ()) -> None:
        self._link.send(CONTROLLER, message, frames)

    def _register(self) -> None:
        now = self._loop.time()
        held = [Held(*key, "running", now - since) for key, since in self._running.items()]
        held += [Held(each.task, each.attempt, "ended") for batch in self._outbox.contents for each in batch]
        held += [Held(each.task, each.attempt, "ended") for each in self._ended]
        self._note("register", len(held))
        self._seen.clear()
        self._tell(Register(self._info, self._instance, held, self._assigned, heartbeat=self._heartbeat))
        self._outbox.renew()
        self._repeat()

    def _on_assign(self, assign: Assign) -> None:
        if assign.batch in self._seen:
            return
        self._seen.add(assign.batch)
        self._assigned = assign.batch
        self._note("assign", sum(len(group.attempts) for group in assign.groups))
        for group in assign.groups:
            seconds = float(group.options.meta.get("seconds", 0.0))
            for task, number, _ in group.attempts:
                self._running[task, number] = self._loop.time()
                self._loop.call_later(seconds, self._end, (task, number), AttemptEnd.SUCCEEDED)

    def _give_up(self, keys: Sequence[tuple[TaskId, int]], end: AttemptEnd) -> None:
        for task, number in keys:
            self._end((task, number), end)

    def _end(self, key: AttemptKey, end: AttemptEnd) -> None:
        since = self._running.pop(key, None)
        if since is None:
            return
        if not self._ended:
            self._loop.call_soon(self._report)
        self._ended.append(Ended(*key, end, self._loop.time() - since, NIL))

    def _report(self) -> None:
        ended, self._ended = self._ended, []
        self._note("end", len(ended))
        self._outbox.add(ended)
        self._repeat()

    def _repeat(self) -> None:
        now = self._loop.time()
        for batch in self._outbox.due(now):
            self._outbox.sent(batch, now)
            self._tell(Report(batch.number, ended=batch.content))

    def _beat(self) -> None:
        digest = 0
        for key in self._running:
            digest ^= digest_of(*key)
        held = len(self._running)
        self._tell(Heartbeat(time.monotonic(), self._assigned, held, digest, max(0.0, self._info.slots - held)))
        self._repeat()
        self._loop.call_later(self._link.session.heartbeat, self._beat)


async def play(url: str, count: int, slots: float, prefix: str, log: TextIO, heartbeat: float = 0.0) -> None:
    """Until the process is ended."""
    allow_descriptors(count)
    zmq.Context.instance().set(zmq.MAX_SOCKETS, SOCKETS)
    runtimes = []
    for number in range(count):
        runtimes.append(PlayedRuntime(url, f"{prefix}-{number}", slots, log, heartbeat))
        if number % AT_ONCE == 0:
            await asyncio.sleep(0.05)
    while runtimes:
        await asyncio.sleep(0.02)
        log.flush()


if __name__ == "__main__":
    url, count, slots, prefix, path, *beats = sys.argv[1:]
    with open(path, "a") as opened:  # noqa: PTH123
        loops.run(play(url, int(count), float(slots), prefix, opened, float(beats[0]) if beats else 0.0))
