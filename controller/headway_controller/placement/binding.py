"""Strategies at work: which is in use, and for those that bind early, planning each task on a runtime as it is queued.

A strategy that raises, or answers with a runtime that is no candidate, is set aside; the default goes on with its tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from headway_controller.placement.lanes import Lane
from headway_controller.placement.plans import Plans
from headway_controller.placement.strategies import BUILT_IN, DEFAULT, LATE, Placement
from headway_controller.placement.views import RuntimeView, TaskView

if TYPE_CHECKING:
    from headway_controller.placement.book import Book
    from headway_controller.placement.fleet import Fleet
    from headway_controller.placement.work import Work


class Binder:
    """``failed(name, text)`` is told when a strategy is set aside."""

    def __init__(self, fleet: Fleet, failed: Callable[[str, str], None]) -> None:
        self.name = DEFAULT
        self.plans = Plans()
        self.touched: dict[Book, None] = {}
        """Runtimes on which something was planned since the last look."""
        self._fleet = fleet
        self._failed = failed
        self._strategy: Placement = BUILT_IN[DEFAULT]()

    @property
    def late(self) -> bool:
        return self.name in LATE

    def use(self, name: str, strategy: Placement | None) -> None:
        """From now on this strategy. Raises ValueError with the names there are."""
        if strategy is None:
            if name not in BUILT_IN:
                raise ValueError(f"there is no strategy {name!r}; expected one of {', '.join(sorted(BUILT_IN))}")
            strategy = BUILT_IN[name]()
        self.name, self._strategy = name, strategy

    def bind(self, lane: Lane, now: float) -> None:
        """Plan what waits in the common lane, until the strategy holds a task or is set aside."""
        books = [book for book in self._fleet.candidates(lane.demand) if book.open(now)]
        if not books:
            return
        while lane.count:
            found = lane.first(now)
            if found is None:
                return
            _, tier, bucket = found
            if not lane.settle(tier, bucket):
                continue
            work = bucket.heap[0][2].work
            book = self._ask(work, books, now)
            if book is None:
                return
            batch, tasks = lane.take(tier, bucket, 1)
            if tasks:
                self.plans.add(book, batch.part(tasks, batch.offset - 1))
                self.touched[book] = None

    def _ask(self, work: Work, books: list[Book], now: float) -> Book | None:
        prediction = work.prediction
        error = math.sqrt(max(prediction.variance, 0.0))
        task = TaskView(work.target, work.queue, work.priority, prediction.mean, error, prediction.known)
        name = self.name
        try:
            chosen = self._strategy.choose(task, [RuntimeView(book, now) for book in books], now)
            if chosen is None:
                return None
            for book in books:
                if book.name == chosen:
                    return book
            raise ValueError(f"it chose {chosen!r}, which is no candidate")
        except Exception as error_raised:  # a user's code; whatever it raises must not stop placement
            self.use(DEFAULT, None)
            self._failed(name, f"it raised {type(error_raised).__name__}: {str(error_raised)[:500]}; {DEFAULT} goes on")
            return None
