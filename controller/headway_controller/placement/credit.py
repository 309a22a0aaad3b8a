"""How much may be committed to a runtime now: time, not count.

While a runtime's expected drain less its error is under two round trips and the controller's own batch interval, more
is committed: sub-millisecond tasks by the hundred, long ones none beyond the free slots. The error is taken off because
what hurts is a runtime that runs dry while news travel; work that waits behind an unlucky long task can be taken back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headway_controller.placement.resources import TOLERANCE

if TYPE_CHECKING:
    from headway_controller.placement.book import Book
    from headway_controller.placement.work import Work

BATCH_INTERVAL = 0.002
"""Seconds: how long the controller may take to react when it is busy."""
SHORTEST = 2e-5
"""Seconds that an attempt is taken to occupy its slot at least: starting and reporting it is not free either."""
MOST = 4096
"""Attempts committed ahead per runtime at most, however short."""


def horizon(book: Book) -> float:
    """Seconds of work that may lie committed on a runtime."""
    return 4.0 * book.delay + BATCH_INTERVAL


def opens_in(book: Book, now: float) -> float:
    """Seconds until the runtime has credit beyond its free slots, if nothing happens; 0: it has it now."""
    if book.unknown or len(book.committed) >= MOST:
        return math.inf
    drain, error = book.drain(now)
    return max(drain - error - horizon(book), 0.0)


def room(book: Book, work: Work, now: float) -> int:
    """How many attempts of that work may be committed now."""
    need = work.demand.need
    if not need.plain:
        return 1 if book.stock.fits(need) else 0
    free = int((book.stock.slots + TOLERANCE) / need.slots)
    if book.unknown or not work.prediction.known:
        return max(free, 0)
    return max(free, 0) + ahead(book, work, now, max(free, 0))


def ahead(book: Book, work: Work, now: float, free: int) -> int:
    """How many more than the free slots hold: those whose start is expected within the horizon."""
    prediction = work.prediction
    slots = work.demand.need.slots
    total = max(book.stock.total_slots, slots)
    mean = max(prediction.mean / book.speed, SHORTEST) * slots / total
    variance = prediction.variance / (book.speed * book.speed) * slots / (total * total)
    drain, error = book.drain(now)
    if free:
        # With the free slots filled, the first of all to be free is so after a mean / slots.
        drain, error = mean, math.sqrt(variance)
    # The k-th more may go while drain + k·mean - √(error² + k·variance) <= horizon: the larger root of a parabola.
    slack = horizon(book) - drain
    if -slack > error:
        return 0
    half = slack * mean + variance / 2
    root = half * half - mean * mean * (slack * slack - error * error)
    count = (half + math.sqrt(max(root, 0.0))) / (mean * mean)
    return max(min(int(count) + 1, MOST - len(book.committed)), 0)
