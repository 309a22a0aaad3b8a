"""How long a busy slot stands still between the end of one attempt and the start of the next.

What an attempt reports is how long it ran. Handing it over, its process's first words and its last ones come on top, and
so does the way of the news where nothing was committed ahead: who waits in a queue waits for all of that. It is found by
accounting: while every slot is taken, slots × time passed is what was run, and the rest is turnaround.
"""

from __future__ import annotations

import math

FADING = 0.99
"""What an attempt's weight is multiplied by with each later one: about the last hundred count."""
FEWEST = 3.0
"""Attempts that must have been seen."""
LEAP = 10.0
LEAST_LEAP = 0.1
"""One account may show at most so many times what was known, or so many seconds an attempt: a machine that was suspended for
an hour has not become slow."""
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
