"""When will it start? The plan behind the answer is virtual: it is computed from counts when somebody asks, never stored.

A task starts when the attempts that end before have made room for all that is ahead of it and for itself. A runtime that is
free in F seconds has by the time T made room for T/F tasks while T < F (where in its remaining life an attempt ends is
not known better than evenly), and for 1 + (T - F)·speed/m afterwards, m being the mean work of those ahead. The least T with
enough room over all candidates is the expectation.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from headway_controller.placement.lanes import AGEING, Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headway_controller.placement.book import Book
    from headway_controller.placement.fleet import Fleet
    from headway_controller.placement.work import Work

SAMPLED = 64
"""Runtimes that are looked at; of more, an even sample stands for all."""
FOREVER = 3.2e8
"""Seconds; said when no runtime will ever do."""
DRIFT = 0.1
"""The share of a wait by which machines may be slower or faster for all of it than they were."""


ONE_TURN = 1.0
"""Seconds of work that somebody else is given before it is the turn of one who has nothing waiting, about."""


class Ahead(NamedTuple):
    """What goes before a task: how many, and seconds and variance of their work at speed 1."""

    tasks: float
    seconds: float
    variance: float
    doubt: float
    """The part of the seconds by which all of them may be off together."""


class Expectation(NamedTuple):
    """Raw, not calibrated: seconds until the start, the error, and the runtime it would start on."""

    seconds: float
    error: float
    book: Book | None
    ahead: float
    immediate: bool
    """There is room now."""
    known: bool


def ahead_of(
    work: Work, lane: Lane, others: Iterable[tuple[Lane, float]], now: float, arrived: float | None = None
) -> Ahead:
    """What goes before a task of that work that came at ``arrived`` (None: that comes now): in its lane, and in ``others`` by
    the share they compete."""
    came = now if arrived is None else arrived
    count = seconds = variance = doubt = 0.0
    rank = work.rank()
    mean = lane.standing(work, rank)
    for each, competing in ((lane, 1.0), *others):
        share = competing * each.alive
        for tier in each.top:
            if tier.count <= 0 or tier.priority < work.priority:
                continue
            for bucket in tier.buckets.values():
                if not bucket.count:
                    continue
                before = float(bucket.count)
                # Its own kind goes first come, first served, though the bucket's mean may be a little off the newest.
                in_line = each is lane and bucket.key == (work.line if work.line is not None else rank)
                if tier.priority == work.priority and bucket.standing > mean and not in_line:
                    before *= bucket.share_before(came - (bucket.standing - mean) / AGEING, now)
                count += share * before
                seconds += share * before * bucket.mean
                variance += share * before * bucket.variance()
                doubt += share * before * bucket.mean * bucket.doubt()
    return Ahead(count, seconds, variance, doubt)


def turns(mine: Lane, own: float, priority: int, other: Lane) -> float:
    """The share of another client's lane that goes before one at the end of mine: as much work as mine is, by weight.

    ``own``: the seconds of work in mine, which are many buckets' sum.

    Within a namespace what has a higher priority goes first in any case; :func:`ahead_of` leaves out what has a lower one.
    """
    if mine.line.share is other.line.share and other.top and other.top[0].priority > priority:
        return 1.0
    weight = other.line.share.weight / mine.line.share.weight
    theirs = seconds_of(other)
    return min(1.0, (own + ONE_TURN) * weight / theirs) if theirs > 0.0 else 1.0


def seconds_of(lane: Lane) -> float:
    """Of all work that waits there, at speed 1."""
    return sum(bucket.count * bucket.mean for tier in lane.top for bucket in tier.buckets.values()) * lane.alive


class Supply:
    """How fast candidates make room: the curve described above, in pieces between the times at which they are free."""

    __slots__ = ("_counts", "_free", "_order", "_slopes", "rate")

    def __init__(self, books: Sequence[Book], scale: float, mean: float, now: float) -> None:
        entries = sorted((max(book.expected_drain(now), 1e-6), book.serial, book) for book in books)
        self._order = [book for _, _, book in entries]
        self._free = [free for free, _, _ in entries]
        gains = [
            max(book.stock.total_slots, 1.0) / max(mean / book.speed + book.turnaround(mean / book.speed), 1e-6)
            for book in self._order
        ]
        slope = sum(1.0 / free for free in self._free)
        self._counts: list[float] = []
        self._slopes: list[float] = []
        made = last = 0.0
        for free, gain in zip(self._free, gains, strict=True):
            made += (free - last) * slope
            self._counts.append(made * scale)
            slope += gain - 1.0 / free
            self._slopes.append(max(slope, 1e-12) * scale)
            last = free
        self.rate = sum(gains) * scale
        """Tasks a second that all together make room for, once busy."""

    def time_of(self, count: float) -> float:
        """Seconds until there was room for ``count`` tasks."""
        place = bisect_left(self._counts, count)
        if place == 0:
            return self._free[0] * count / self._counts[0] if self._counts[0] else 0.0
        return self._free[place - 1] + (count - self._counts[place - 1]) / self._slopes[place - 1]

    def place(self, count: float) -> Book:
        """Where a task with ``count`` ahead would land, were they dealt out in turn."""
        return self._order[int(count) % len(self._order)]


def sample(books: Sequence[Book]) -> tuple[Sequence[Book], float]:
    """At most :data:`SAMPLED` of them, evenly, and how many each stands for."""
    if len(books) <= SAMPLED:
        return books, 1.0
    step = len(books) / SAMPLED
    return [books[int(index * step)] for index in range(SAMPLED)], step


def expect(
    fleet: Fleet,
    work: Work,
    lane: Lane,
    others: Sequence[tuple[Lane, float]],
    now: float,
    behind: float = 0.0,
    arrived: float | None = None,
) -> Expectation:
    """When a task of that work would start that arrives now, or came at ``arrived``, ``behind`` so many of its own kind."""
    prediction = work.prediction
    prediction.refresh()
    ahead = ahead_of(work, lane, others, now, arrived)
    behind = max(behind, -ahead.tasks)  # below zero: one of those that wait, with so many of its kind after it
    count = ahead.tasks + behind
    if count < 0.5:
        choice = fleet.choose(work, now)
        if choice is not None and choice.book.stock.fits(work.demand.need):
            return Expectation(choice.book.delay, 0.0, choice.book, 0.0, True, True)
        if choice is not None:
            drain, error = choice.book.expected_drain(now), choice.book.drain(now)[1]
            return Expectation(max(drain, choice.book.delay), error, choice.book, count, False, prediction.known)
    books = [book for book in fleet.candidates(work.demand) if book.open(now)]
    if not books:
        return Expectation(FOREVER, FOREVER, None, count, False, False)
    seconds = max(0.0, ahead.seconds + behind * prediction.mean)
    variance = max(0.0, ahead.variance + behind * prediction.variance)
    some, scale = sample(books)
    mean = seconds / count if count > 0.0 else prediction.mean
    supply = Supply(some, scale, mean, now)
    start = supply.time_of(count + 1.0)
    spread = max(variance / count if count > 0.0 else prediction.variance, 0.0)
    # In units of one task: the count that is served by then scatters as a renewal process does, its own time besides.
    relative = spread / (mean * mean) if mean > 0.0 else 1.0
    error = math.sqrt((count + 1.0) * max(relative, 0.25)) / max(supply.rate, 1e-9)
    error = max(error, start / math.sqrt(count + 1.0))
    common = max(0.0, ahead.doubt + behind * prediction.mean * prediction.doubt) / seconds if seconds > 0.0 else 0.0
    error = math.hypot(error, math.hypot(common, DRIFT) * start)
    return Expectation(
        max(start, min(each.delay for each in some)), error, supply.place(count), count, False, prediction.known
    )
