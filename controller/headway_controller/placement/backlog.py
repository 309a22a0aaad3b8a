"""All that waits for a runtime: a lane of tasks for each demand, and what an early-binding strategy has planned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from headway_bus.ids import TaskId
from headway_controller.placement.fairness import Line, Shares
from headway_controller.placement.lanes import Lane
from headway_controller.placement.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from random import Random

    from headway_bus.records import Options
    from headway_controller.placement.binding import Binder
    from headway_controller.placement.book import Book
    from headway_controller.placement.catalogue import Catalogue
    from headway_controller.placement.eligibility import Demand
    from headway_controller.placement.lanes import Bucket, Tier
    from headway_controller.placement.resources import Need
    from headway_controller.placement.work import Batch

MAX_LANES = 256
"""Beyond so many lanes, and when they have doubled since, the empty ones are forgotten."""
MAX_DRAWN = 64
"""Batches of one bucket among which one is drawn; of more, the first is taken."""


class Drawn(NamedTuple):
    """A waiting task; ``after``: how many of its bucket come after it."""

    task: TaskId
    work: Work
    lane: Lane
    after: int
    arrived: float


class Backlog:
    """``queued`` is the number of tasks that wait, in a common lane or planned on a runtime."""

    def __init__(self, catalogue: Catalogue, binder: Binder) -> None:
        self.lanes: dict[tuple[Line, Demand], Lane] = {}
        self.awake: dict[Lane, None] = {}
        """The lanes that a decision looks at: in all others nothing waits, or what waits there names a runtime that has no
        room, and to which nothing has happened since."""
        self.queued = 0
        self.shares = Shares()
        self._catalogue = catalogue
        self._binder = binder
        self._asleep: dict[str, dict[Lane, None]] = {}
        """By the runtime that they name."""
        self._serial = 0
        self._most_lanes = MAX_LANES

    def line_of(self, work: Work, owner: str) -> Line:
        """Whose turn such work of that client waits for. A queue in strict order of arrival is one for all clients."""
        return self.shares.line_of(work.namespace, owner if work.line is None else "")

    def lane_of(self, work: Work, line: Line) -> Lane:
        """The lane in which such work waits; made when it is asked for."""
        key = (line, work.demand)
        lane = self.lanes.get(key)
        if lane is None:
            if len(self.lanes) > self._most_lanes:
                self._prune()
            self._serial += 1
            lane = self.lanes[key] = Lane(work.demand, line, self._serial)
        return lane

    def _prune(self) -> None:
        for empty in [key for key, each in self.lanes.items() if not each.count]:
            lane = self.lanes.pop(empty)
            self.awake.pop(lane, None)
            if lane.demand.runtime in self._asleep:
                self._asleep[lane.demand.runtime].pop(lane, None)
        self._most_lanes = max(MAX_LANES, 2 * len(self.lanes))

    def put_to_sleep(self, lane: Lane) -> None:
        """Nothing waits there, or the runtime that it names has no room: look at it again when that has changed."""
        del self.awake[lane]
        if lane.count:
            self._asleep.setdefault(lane.demand.runtime, {})[lane] = None

    def wake(self, books: Iterable[Book]) -> None:
        """Something has happened to these runtimes, or they are new."""
        if self._asleep:
            for book in books:
                if lanes := self._asleep.pop(book.name, None):
                    self.awake.update(lanes)

    def _put(self, batch: Batch) -> None:
        lane = self.lane_of(batch.work, batch.line)
        lane.add(batch)
        self.awake[lane] = None

    def busy_lanes(self) -> Iterator[Lane]:
        """The common lanes in which something waits."""
        return (lane for lane in self.lanes.values() if lane.count)

    def needs(self) -> set[Need]:
        """What the waiting tasks occupy when they run, each kind once; what is planned may come back to the common lanes."""
        return {lane.demand.need for lanes in (self.busy_lanes(), self._binder.plans.busy_lanes()) for lane in lanes}

    def add(self, batch: Batch) -> None:
        self._put(batch)
        self.queued += len(batch.tasks)
        self.shares.add(batch.line, len(batch.tasks))

    def remove(self, task: TaskId, options: Options, owner: str) -> None:
        """A task that waits here is wanted no more."""
        work = self._catalogue.work_of(options)
        line = self.line_of(work, owner)
        plans = self._binder.plans
        if plans.where and plans.remove(task, work.demand, line):
            self.queued -= 1
            self.shares.remove(line, 1)
            return
        lane = self.lane_of(work, line)
        before = lane.count
        lane.remove(task)
        self.queued += lane.count - before
        self.shares.remove(line, before - lane.count)

    def take(self, lane: Lane, tier: Tier, bucket: Bucket, limit: int) -> tuple[Batch, list[TaskId]]:
        """Up to ``limit`` tasks of the bucket's first batch; they wait no more."""
        batch, tasks = lane.take(tier, bucket, limit)
        self.queued -= len(tasks)
        self.shares.remove(batch.line, len(tasks))
        self.shares.charge(batch.line, batch.work, len(tasks))
        return batch, tasks

    def draw(self, source: Random) -> Drawn | None:
        """One of the waiting tasks in the common lanes, by lot: sooner ones more often than later ones. None: no luck."""
        lanes = list(self.busy_lanes())
        if not lanes:
            return None
        lane = lanes[int(source.random() * len(lanes))]
        buckets = [bucket for tier in lane.top for bucket in tier.buckets.values() if bucket.head() is not None]
        if not buckets:
            return None
        bucket = buckets[int(source.random() * len(buckets))]
        entries = sorted(bucket.heap) if len(bucket.heap) <= MAX_DRAWN else bucket.heap[:1]
        batches = [batch for _, _, batch in entries if batch.bucket is bucket and batch.tasks]
        # Logarithmically even: as many within the first ten as within the next ninety.
        place = int(math.exp(source.random() * math.log(sum(len(batch.tasks) for batch in batches) + 1.0))) - 1
        after = bucket.count - place - 1
        for batch in batches:
            if place < len(batch.tasks):
                task = batch.tasks[-1 - place]
                return Drawn(task, batch.work, lane, after, batch.arrival) if task not in lane.removed else None
            place -= len(batch.tasks)
        return None

    def unplan(self, book: Book | None) -> None:
        """Back to the common lanes with what was planned on that runtime, or on all."""
        for batch in self._binder.plans.release(book):
            self._put(batch)

    def sort_anew(self) -> None:
        """Which lane a task belongs to, or its place there, may have changed: put every batch where it belongs."""
        # Plans are kept by demand too: what is filed under one that has changed would not be found again.
        self.unplan(None)
        self._catalogue.forget()
        lanes = list(self.lanes.values())
        for table in (self.lanes, self.awake, self._asleep):
            table.clear()
        for lane in lanes:
            for batch in lane.batches():
                tasks = [task for task in batch.tasks if task not in lane.removed]
                if tasks:
                    work = self._catalogue.work_of(batch.options)
                    line = self.line_of(work, batch.owner)
                    self.shares.remove(batch.line, len(tasks))
                    self.shares.add(line, len(tasks))
                    self._put(batch.part(tasks, batch.offset, work, line))

    def validate(self) -> None:
        """Raises AssertionError when the count is not what waits."""
        waiting = sum(lane.count for lane in self.lanes.values()) + len(self._binder.plans.where)
        assert self.queued == waiting, f"{self.queued} tasks are counted as queued, {waiting} wait"
        watched = self.awake.keys() | {lane for lanes in self._asleep.values() for lane in lanes}
        assert all(lane in watched for lane in self.busy_lanes()), "something waits where nobody looks"
        self.shares.validate(waiting)
