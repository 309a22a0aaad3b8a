"""How long a busy slot stands still between the end of one attempt and the start of the next.

What an attempt reports is how long it ran. Handing it over, its process's first words and its last ones come on top, and
so does the way of the news where nothing was committed ahead: who waits in a queue waits for all of that. It is found by
accounting: while every slot is taken, slots × time passed is what was run, and the rest is turnaround.
"""

from __future__ import annotations

import math
from typing import Any

FADING = 0.99
"""What an attempt's weight is multiplied by with each later one: about the last hundred count."""
FEWEST = 3.0
"""Attempts that must have been seen."""
LEAP = 10.0
LEAST_LEAP = 0.1
"""One account may show at most so many times what was known, or so many seconds an attempt: a machine that was suspended for
an hour has not become slow."""
REMEMBERED = 10_000
"""Runtimes; of more, the one that came first is forgotten."""
GRACE = 0.005
"""Seconds after an end within which a slot that is filled again counts as never free: the rest of the turn."""


class Turnaround:
    """One runtime's. ``seconds``: mean per attempt, 0 until something is known."""

    __slots__ = ("_ages", "_count", "_idle", "_mark", "refilled_by", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.refilled_by = -math.inf
        """A slot that was free later than this had nothing to do."""
        self._mark = math.nan
        self._ages = 0.0
        self._idle = 0.0
        self._count = 0.0

    def break_off(self) -> None:
        """What happened since the last account was not all turnaround: begin anew with the next end."""
        self._mark = math.nan

    def on_ends(
        self, when: float, now: float, busy: bool, slots: float, count: int, seconds: float, ages: float
    ) -> None:
        """``count`` attempts have ended by ``when``, after ``seconds`` of running together; the others have been running for
        ``ages`` slot-seconds. ``busy``: no slot was free until then."""
        passed = slots * (when - self._mark)
        if busy and passed > 0.0:  # never with a mark that is not a number
            idle = passed - seconds - (ages - self._ages)
            leap = max(LEAP * self.seconds, LEAST_LEAP) * count
            fading = FADING**count
            # Single accounts may be below zero, where a start was not told before the end: the next one makes up for it.
            self._idle = self._idle * fading + min(max(idle, -leap), leap)
            self._count = self._count * fading + count
            if self._count >= FEWEST:
                self.seconds = max(self._idle / self._count, 0.0)
        self._mark, self._ages = when, ages
        self.refilled_by = now + GRACE

    def to_state(self) -> list[float]:
        return [self.seconds, self._idle, self._count]

    @classmethod
    def from_state(cls, state: list[float]) -> Turnaround:
        """Raises TypeError or ValueError when the state is not one of :meth:`to_state`."""
        made = cls()
        made.seconds, made._idle, made._count = map(float, state)
        if not all(map(math.isfinite, (made.seconds, made._idle, made._count))) or min(made.seconds, made._count) < 0.0:
            raise ValueError(f"a turnaround of {state}; expected seconds, idle seconds, and a count")
        return made


class Turnarounds:
    """Those of every runtime that was here: one that comes back is what it was. A pair for each, see :class:`Book`."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Turnaround, Turnaround]] = {}

    def take_up(self, runtime: str) -> tuple[Turnaround, Turnaround]:
        """The pair of a runtime that comes, or comes back."""
        pair = self._known.get(runtime)
        if pair is None:
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            pair = self._known[runtime] = (Turnaround(), Turnaround())
        for each in pair:
            each.break_off()
        return pair

    def to_state(self) -> dict[str, Any]:
        return {
            name: [each.to_state() for each in pair]
            for name, pair in self._known.items()
            if any(each.seconds for each in pair)
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Turnarounds:
        """Raises TypeError, ValueError or AttributeError when the state is not one of :meth:`to_state`."""
        made = cls()
        for name, pair in state.items():
            ahead, after = map(Turnaround.from_state, pair)
            made._known[str(name)] = (ahead, after)
        return made
