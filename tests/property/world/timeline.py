"""The clock, the queue of events, and the processes that events belong to."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

Action = Callable[[], None]


class Part(Protocol):
    """Something that lives in a process: a broker, a controller, a runtime, a client."""

    def start(self) -> None: ...
    def stop(self) -> None:
        """The process was killed: what it had open is torn. Nothing may be said any more."""

    def validate(self) -> None: ...


class Process:
    """A process: its events are void once it was killed, and wait while it is suspended."""

    def __init__(self, name: str, timeline: Timeline) -> None:
        self.name = name
        self.parts: list[Part] = []
        self.life = 0
        """Counts starts and ends: an event of an earlier life is void."""
        self.alive = False
        self.suspended = False
        self.held: list[tuple[bool, Action]] = []
        self._timeline = timeline

    def start(self) -> None:
        if self.alive:
            return
        self.life += 1
        self.alive = True
        for part in self.parts:
            part.start()

    def kill(self) -> None:
        """As by SIGKILL: nothing is said, nothing is stored."""
        if not self.alive:
            return
        self.life += 1
        self.alive = self.suspended = False
        self.held.clear()
        for part in self.parts:
            part.stop()

    def suspend(self) -> None:
        """As by SIGSTOP."""
        if self.alive:
            self.suspended = True

    def resume(self, timers_first: bool) -> None:
        """As by SIGCONT: what has come meanwhile is found at once, in either order of timers and messages."""
        if not self.suspended:
            return
        self.suspended = False
        held, self.held = self.held, []
        held.sort(key=lambda each: each[0] != timers_first)
        for is_timer, action in held:
            self._timeline.at(self._timeline.now, action, self, is_timer)


class Timeline:
    """Events in the order of their times; those of the same time in the order in which they were made."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._events: list[tuple[float, int, Action, Process | None, int, bool]] = []
        self._count = 0

    def at(self, when: float, action: Action, owner: Process | None = None, is_timer: bool = False) -> None:
        """Do this at that time, in the present life of ``owner``."""
        self._count += 1
        life = owner.life if owner is not None else 0
        heapq.heappush(self._events, (max(when, self.now), self._count, action, owner, life, is_timer))

    def after(self, delay: float, action: Action, owner: Process | None = None, is_timer: bool = False) -> None:
        self.at(self.now + delay, action, owner, is_timer)

    def step(self) -> Process | None:
        """Carry out the next event; returns whose it was, if it was anybody's and took place."""
        when, _, action, owner, life, is_timer = heapq.heappop(self._events)
        self.now = when
        self.steps += 1
        if owner is None:
            action()
            return None
        if owner.life != life:
            return None
        if owner.suspended:
            owner.held.append((is_timer, action))
            return None
        action()
        return owner
