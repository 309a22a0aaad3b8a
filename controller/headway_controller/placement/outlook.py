"""What can be asked of the future: when a task would start and end, and how long the queues are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headway_bus import records
from headway_controller.placement.forecast import FOREVER, Expectation, expect, seconds_of, turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headway_bus.ids import TaskId
    from headway_controller.placement.book import Book
    from headway_controller.placement.eligibility import Demand
    from headway_controller.placement.fairness import Line
    from headway_controller.placement.fleet import Fleet
    from headway_controller.placement.lanes import Lane
    from headway_controller.placement.waits import Waits
    from headway_controller.placement.work import Work

MAX_SHARED = 64
"""Other lanes whose work is counted as ahead; of more, the fullest."""
DEALT = 512
"""Up to so many waiting tasks are dealt out one by one in :meth:`Outlook.queues`; beyond, as a fluid."""


class Outlook:
    """Reads the same lanes and books that decisions are made from, and changes nothing."""

    def __init__(self, fleet: Fleet, lanes: Mapping[tuple[Line, Demand], Lane], waits: Waits) -> None:
        self._fleet = fleet
        self._lanes = lanes
        self.waits = waits
        self._shares: dict[tuple[Demand, Demand], tuple[int, float]] = {}

    def raw(self, work: Work, lane: Lane, now: float, behind: float = 0.0, arrived: float | None = None) -> Expectation:
        return expect(self._fleet, work, lane, self.competing(lane, work.priority), now, behind, arrived)

    def waiting(
        self, work: Work, lane: Lane, now: float, behind: float = 0.0, arrived: float | None = None
    ) -> tuple[str, records.Estimate, records.Estimate]:
        """(runtime, start, end): where, and seconds until it would start and its result be back."""
        raw = self.raw(work, lane, now, behind, arrived)
        start = self.waits.publish(work, raw)
        if raw.book is None:
            return "", start, start
        prediction, speed, delay = work.prediction, raw.book.speed, raw.book.delay
        run = prediction.mean / speed
        error = math.sqrt(start.error**2 + max(prediction.variance, 0.0) / (speed * speed))
        half, ninety = prediction.quantile(0.5) / speed, prediction.quantile(0.9) / speed
        late = math.hypot(start.p90 - start.p50, ninety - half)
        p50 = start.p50 + half + delay
        known = start.known and prediction.known
        why = start.why or ("" if prediction.known else "no such task has ended three times yet")
        end = records.Estimate(start.expectation + run + delay, error, p50, p50 + late, known, why)
        return raw.book.name, start, end

    def remaining(self, book: Book, task: TaskId, now: float) -> records.Estimate | None:
        """Seconds until an attempt that is committed or running there is over: what is left of it, given its age."""
        running = book.running.get(task)
        if running is not None:
            booking, started = running
            age = max(0.0, now - started)
        elif (held := book.committed.get(task)) is not None:
            booking, age = held, 0.0
        else:
            return None
        prediction, speed = booking.work.prediction, book.speed
        mean, variance = prediction.remaining(age * speed)
        half = max(prediction.quantile(0.5, age * speed) / speed - age, 0.0)
        ninety = max(prediction.quantile(0.9, age * speed) / speed - age, half)
        why = "" if prediction.known else "no such task has ended three times yet"
        return records.Estimate(
            mean / speed, math.sqrt(max(variance, 0.0)) / speed, half, ninety, prediction.known, why
        )

    def competing(self, lane: Lane, priority: int) -> list[tuple[Lane, float]]:
        """Other lanes with work for the same runtimes, and which share of it these runtimes will do."""
        found: list[tuple[Lane, float]] = []
        busy = [each for each in self._lanes.values() if each.count and each is not lane]
        if len(busy) > MAX_SHARED:
            busy = sorted(busy, key=lambda each: -each.count)[:MAX_SHARED]
        own = seconds_of(lane) if any(each.line is not lane.line for each in busy) else 0.0
        for each in busy:
            share = self._share(lane.demand, each.demand)
            if each.line is not lane.line:
                share *= turns(lane, own, priority, each)
            if share > 0.0:
                found.append((each, share))
        return found

    def _share(self, mine: Demand, other: Demand) -> float:
        """Of the runtimes that the other may use, the share (by speed and slots) that I may use too."""
        key = (mine, other)
        known = self._shares.get(key)
        if known is not None and known[0] == self._fleet.layout:
            return known[1]
        if len(self._shares) > 4096:
            self._shares.clear()
        wanted = set(self._fleet.candidates(mine))
        common = total = 0.0
        for book in self._fleet.candidates(other):
            capacity = book.speed * book.stock.total_slots
            total += capacity
            common += capacity if book in wanted else 0.0
        share = common / total if total else 0.0
        self._shares[key] = (self._fleet.layout, share)
        return share

    # ------------------------------------------------------------------------------------------ queues

    def queues(self, target: str, works: Iterable[Work], now: float) -> list[records.QueueState]:
        """Per runtime: seconds until a task planned there now would start, and what is ahead of it.

        ``works``: the kinds of work of that target; without a target all runtimes are told.
        """
        plan = self.planned(now)
        if target:
            books = {book for work in works for book in self._fleet.candidates(work.demand)}
        else:
            books = set(self._fleet.books.values())
        return [self._queue(book, target, *plan.get(book, (0, 0.0, 0.0)), now) for book in sorted(books, key=_serial)]

    def _queue(
        self, book: Book, target: str, planned: int, mean: float, variance: float, now: float
    ) -> records.QueueState:
        drain, error = book.planned_drain(now)
        total = max(book.stock.total_slots, 1.0)
        if planned and drain == 0.0:
            mean = max(mean - max(book.stock.slots, 0.0) * mean / planned, 0.0)
        count = planned + book.planned
        if count:
            mean += count * book.turnaround((mean + book.planned_mean) / count)
        if drain > 0.0:
            drain += book.expected_drain(now) - book.drain(now)[0]
        expectation = drain + mean / total
        error = math.sqrt(error * error + variance / (total * total))
        known = not book.unknown
        waiting = records.Estimate(
            expectation,
            error,
            expectation,
            expectation + 1.2816 * error,
            known,
            "" if known else "something that runs there has not ended three times yet",
        )
        if not book.open(now):
            waiting = records.Estimate(FOREVER, FOREVER, FOREVER, FOREVER, False, book.set_aside_why or "it drains")
        return records.QueueState(
            book.name, target, waiting, planned + book.planned, len(book.committed), len(book.running)
        )

    def planned(self, now: float) -> dict[Book, tuple[int, float, float]]:
        """The virtual plan: what waits in the common lanes, dealt to the runtimes it would go to.

        By runtime: how many, slot-seconds there, their variance.
        """
        plan: dict[Book, tuple[int, float, float]] = {}
        level: dict[Book, float] = {}
        for lane in self._lanes.values():
            if lane.count:
                books = [book for book in self._fleet.candidates(lane.demand) if book.open(now)]
                if books:
                    self._deal(lane, books, plan, level, now)
        return plan

    def _deal(
        self,
        lane: Lane,
        books: list[Book],
        plan: dict[Book, tuple[int, float, float]],
        level: dict[Book, float],
        now: float,
    ) -> None:
        """Each portion to the runtime where it would end first; portions of one task while they are few."""
        portion = max(1, lane.count // DEALT)
        waiting = lane.count  # buckets count removed tasks until their turn comes
        slots = lane.demand.need.slots
        for book in books:
            if book not in level:
                drain = book.planned_drain(now)[0]
                level[book] = drain
        for tier in lane.top:
            for bucket in sorted(tier.buckets.values(), key=lambda each: each.head_key):
                left, variance = min(bucket.count, waiting), bucket.variance()
                waiting -= left
                while left > 0:
                    count = min(portion, left)
                    left -= count
                    book = min(books, key=lambda each: (level[each] + bucket.mean / each.speed, each.serial))
                    seconds = count * bucket.mean * slots / book.speed
                    level[book] += seconds / max(book.stock.total_slots, 1.0)
                    had = plan.get(book, (0, 0.0, 0.0))
                    spread = count * slots * variance / (book.speed * book.speed)
                    plan[book] = (had[0] + count, had[1] + seconds, had[2] + spread)


def _serial(book: Book) -> int:
    return book.serial
