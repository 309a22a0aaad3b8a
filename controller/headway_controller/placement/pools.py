"""Runtimes that are alike, and which of them have room: so that choosing costs by the number of kinds, not of runtimes.

A pool holds the runtimes of one profile, one grade of speed and one grade of delay (steps of 10 % and of 50 %). Within
a pool the one that is free soonest is best for any task; between pools expectations are compared. Who has room is kept
per need, and renewed only for runtimes to which something happened.
"""

from __future__ import annotations

import math
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headway_controller.placement.book import Book
    from headway_controller.placement.eligibility import Profile
    from headway_controller.placement.resources import Need

SPEED_STEP = 0.1
DELAY_STEP = 0.5
LOOKED_AT = 16
"""Of the runtimes that have credit but no free slot, so many are compared."""
ACCURACY = 1e-4
"""Seconds by which the time at which a runtime is expected to be free may have moved since it was noted."""

PoolKey = tuple["Profile", int, int]


def pool_key(profile: Profile, book: Book) -> PoolKey:
    """The pool a runtime belongs to. Delays under half a millisecond are one grade."""
    speed = round(math.log(book.speed) / SPEED_STEP)
    delay = round(math.log(max(book.delay, 5e-4)) / DELAY_STEP)
    return (profile, speed, delay)


class Pool:
    __slots__ = ("books", "free", "key", "near")

    def __init__(self, key: PoolKey) -> None:
        self.key = key
        self.books: dict[str, Book] = {}
        self.free: dict[Need, dict[Book, None]] = {}
        """By need: runtimes that have it free now, the next one to be used first."""
        self.near: dict[Need, dict[Book, float]] = {}
        """By need: runtimes that have credit ahead of a free slot, and when one is expected to be free."""

    def watch(self, need: Need) -> None:
        """Keep account of who has room for this need."""
        if need not in self.free:
            self.free[need], self.near[need] = {}, {}

    def unwatch(self, need: Need) -> None:
        self.free.pop(need, None)
        self.near.pop(need, None)

    def drop(self, book: Book) -> None:
        """No room in it, for whatever need."""
        for free in self.free.values():
            free.pop(book, None)
        for near in self.near.values():
            near.pop(book, None)

    def best(self, need: Need, now: float, known: bool) -> tuple[Book, float] | None:
        """The runtime that could start such an attempt first, and in how many seconds (0: at once).

        ``known``: how long it will run is more than a guess, so that it may wait on a runtime.
        """
        free = self.free.get(need)
        if free:
            return next(iter(free)), 0.0
        near = self.near.get(need)
        if not near or not known:
            return None
        for _ in range(len(near)):
            book, when = min(near.items() if len(near) <= LOOKED_AT else islice(near.items(), LOOKED_AT), key=_when)
            drain = book.drain(now)[0]
            if now + drain <= when + ACCURACY:
                return book, drain
            # Without news the time only moves away: what has run long is expected to run longer.
            near[book] = now + drain
        return book, drain


_when = itemgetter(1)
