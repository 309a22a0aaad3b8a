"""How much may be committed to a runtime now: time, not count.

While a runtime's drain is likely to be under two round trips and the controller's own batch interval, more is
committed: sub-millisecond tasks by the hundred, long ones none beyond the free slots. "Likely" takes the error into
account, because what hurts is a runtime that runs dry while news travel; work that waits behind an unlucky long task can
be taken back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headway_controller.placement.resources import TOLERANCE

if TYPE_CHECKING:
    from headway_controller.placement.book import Book
    from headway_controller.placement.work import Work

SHORTEST = 2e-5
"""Seconds that an attempt is taken to occupy its slot at least: starting and reporting it is not free either."""
CAUTION = 2.0
"""Standard deviations of the logarithm that are taken off: what hurts is a runtime that runs dry."""
REOPENS = 0.75
"""A runtime is filled up to the horizon, and again when it is below this share of it: fewer, larger messages."""
PATIENCE = 6.0
"""In units of the way and the run time: how long a task may have to wait on a runtime that is sent it. By simulation:
at 3, runtimes of heavy-tailed work run dry; without a limit, tasks are sent to those that are stuck, and p99 is 7 % up."""
MOST = 4096
"""Attempts committed ahead per runtime at most, however short."""

LEASED_AHEAD = 1000
"""Attempts that an edge holds of tasks that name it and may be begun while it is cut off."""


def horizon(book: Book) -> float:
    """Seconds of work that may lie committed on a runtime."""
    return 4.0 * book.delay + book.batch_interval


def likely_soon(drain: float, error: float) -> float:
    """Seconds that the drain is unlikely to fall short of: a low quantile of a log-normal time of that mean and error.

    Mean less error, the obvious choice, is below 0 for every run time that scatters more than an exponential one, and
    would commit one task behind each of them however long they are.
    """
    if drain <= 0.0:
        return 0.0
    spread = math.log1p((error / drain) ** 2)
    return drain * math.exp(-spread / 2 - CAUTION * math.sqrt(spread))


def patience(book: Book, mean: float) -> float:
    """Seconds that a task of that mean may be expected to wait on the runtime, and still be better off there than held.

    Held, it would go to whichever runtime is free first: after the news and the way, and about as much as it will run.
    """
    return max(horizon(book), PATIENCE * (book.delay + mean / book.speed))


def opens_in(book: Book, now: float, *, filling: bool = False) -> tuple[float, float]:
    """Seconds until the runtime has credit beyond its free slots, if nothing happens (0: it has it), and its drain.

    ``filling``: it is just being given tasks, which goes on up to the horizon: tasks that are not alike come one by one.
    """
    if book.unknown or len(book.committed) >= MOST:
        return math.inf, math.inf
    drain, error = book.drain(now)
    soon, limit = likely_soon(drain, error), horizon(book)
    return (0.0 if filling and soon < limit else max(soon - REOPENS * limit, 0.0)), drain


def room(book: Book, work: Work, now: float, wanted: int = MOST) -> int:
    """How many attempts of that work may be committed now; more than ``wanted`` is not worth finding out."""
    need = work.demand.need
    if not need.plain:
        return 1 if book.stock.fits(need) else 0
    free = max(int((book.stock.slots + TOLERANCE) / need.slots), 0)
    if work.demand.leased_ahead and book.info.edge:
        return max(free, min(wanted, LEASED_AHEAD - len(book.committed)))
    if wanted <= free or book.unknown or not work.prediction.known:
        return free
    return free + ahead(book, work, now, free, wanted - free)


def ahead(book: Book, work: Work, now: float, free: int, wanted: int = MOST) -> int:
    """How many more than the free slots hold: those that are likely to start within the horizon."""
    prediction = work.prediction
    slots = work.demand.need.slots
    total = max(book.stock.total_slots, slots)
    mean = max(prediction.mean / book.speed, SHORTEST) * slots / total
    variance = prediction.variance / (book.speed * book.speed) * slots / (total * total)
    drain, error = book.drain(now)
    if free:
        # With the free slots filled, the first of all to be free is so after a mean / slots.
        drain, error = mean, math.sqrt(variance)
    limit, square = horizon(book), error * error
    if likely_soon(drain, error) > limit:
        return 0
    # The drain at which the horizon is reached depends on its own relative error: three rounds settle it well enough.
    count = 0.0
    for _ in range(3):
        reached = drain + count * mean
        spread = math.log1p((square + count * variance) / (reached * reached)) if reached > 0.0 else 0.0
        count = max(limit * math.exp(spread / 2 + CAUTION * math.sqrt(spread)) - drain, 0.0) / mean
    return min(int(min(count, MOST)) + 1, max(MOST - len(book.committed), 0), wanted)
