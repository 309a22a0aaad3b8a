"""The scheduler: which queued task goes to which runtime, and when. Pure: time is an argument, nothing is awaited.

The controller's core keeps the tasks; this keeps order, books and estimates. Tasks go through it as ids and options.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from headway_bus.ids import TaskId
from headway_bus.records import Options, RuntimeInfo
from headway_controller.estimates.predictor import LearnedPredictor
from headway_controller.placement.book import Book
from headway_controller.placement.credit import opens_in, room
from headway_controller.placement.eligibility import (
    Demand,
    demand_key,
    matching,
    patterns_in,
    profile_of,
)
from headway_controller.placement.lanes import Bucket, Lane, Tier
from headway_controller.placement.pools import Pool, PoolKey, pool_key
from headway_controller.placement.resources import TOLERANCE, Need, need_key
from headway_controller.placement.work import Batch, Work

MAX_REMEMBERED = 20_000
"""Options and kinds of work kept at hand; beyond, they are made anew."""
MAX_WATCHED = 64
"""Needs for which every pool keeps account of who has room."""
START_FAILURES = 3
SET_ASIDE = (30.0, 3600.0)
"""Seconds that a bad machine is left alone: at first, and at most."""
EXAMINE = 4
"""Waiting batches whose expected run time is looked at again for each decision."""


class Commit(NamedTuple):
    """Send these tasks to that runtime now; they are booked there."""

    runtime: str
    options: Options
    tasks: list[TaskId]


class Notice(NamedTuple):
    """Something an operator should see: a log line and a counter."""

    kind: str  # "set-aside", "tried-again", "strategy-failed", "predictor-failed"
    name: str  # of the runtime, strategy or predictor
    text: str


class Scheduler:
    """See the docstring of :mod:`headway_controller.placement` for how the core uses it."""

    def __init__(self, predictor: LearnedPredictor | None = None, fifo_queues: Iterable[str] = ()) -> None:
        self.predictor = predictor if predictor is not None else LearnedPredictor()
        self.fifo_queues = frozenset(fifo_queues)
        self.queued = 0
        self.books: dict[str, Book] = {}
        self.counters: dict[str, int] = {"committed": 0, "taken_back": 0, "adopted": 0, "unknown": 0}
        self._pools: dict[PoolKey, Pool] = {}
        self._layout = 0
        """Changes when pools come or go."""
        self._lanes: dict[tuple[object, ...], Lane] = {}
        self._lane_pools: dict[Lane, tuple[int, list[Pool]]] = {}
        self._works: dict[tuple[object, ...], Work] = {}
        self._by_options: dict[int, tuple[Options, Work]] = {}
        self._needs: dict[tuple[object, ...], Need] = {}
        self._watched: dict[Need, None] = {}
        self._demands: dict[tuple[object, ...], Demand] = {}
        self._patterns: frozenset[str] = frozenset()
        self._matches: dict[tuple[str, str], frozenset[str]] = {}
        self._dirty: dict[Book, None] = {}
        self._wake: list[tuple[float, int, Book]] = []
        self._sequence = 0
        self._notices: list[Notice] = []

    # ------------------------------------------------------------------------------------------ runtimes

    def add_runtime(self, info: RuntimeInfo, now: float, round_trip: float = 0.0) -> None:
        """A runtime is there, or said again what it offers (what is booked there stays)."""
        book = self.books.get(info.name)
        if book is not None:
            self._replace_info(book, info)
        else:
            self._sequence += 1
            book = self.books[info.name] = Book(info, now, max(round_trip, 0.0), self._sequence)
        self.predictor.speeds.declare(info.name, info.speed)
        book.speed = self.predictor.speeds.of(info.name)
        new = patterns_in(info.serves) - self._patterns
        if new:
            self._patterns |= new
            self._match_anew()
        self._assign_pool(book)

    def update_runtime(self, name: str, now: float, round_trip: float | None = None) -> None:
        """What is measured of a runtime has changed."""
        book = self.books.get(name)
        if book is not None:
            if round_trip is not None and math.isfinite(round_trip):
                book.delay = max(round_trip, 0.0) / 2
            self._assign_pool(book)

    def remove_runtime(self, name: str) -> list[TaskId]:
        """The runtime is gone. Returns all that was booked there; what of it is to run again is enqueued anew."""
        book = self.books.pop(name, None)
        if book is None:
            return []
        self._leave_pool(book)
        self._dirty.pop(book, None)
        return [*book.committed, *book.running]

    lost_runtime = remove_runtime

    def drain(self, name: str, draining: bool) -> None:
        """Give it nothing new, or again."""
        book = self.books.get(name)
        if book is not None:
            book.draining = draining
            self._dirty[book] = None

    def set_aside(self, name: str, why: str, until: float) -> None:
        """Give it nothing until then; an operator sees why."""
        book = self.books.get(name)
        if book is not None:
            book.set_aside_until, book.set_aside_why = until, why
            heappush(self._wake, (until, book.serial, book))
            self._dirty[book] = None

    # ------------------------------------------------------------------------------------------ tasks

    def enqueue(self, task: TaskId, options: Options, now: float) -> None:
        """A task waits for a runtime since ``now`` (its own earlier time, if it comes back)."""
        self.enqueue_many(options, (task,), now)

    def enqueue_many(self, options: Options, tasks: Sequence[TaskId], now: float) -> None:
        """Tasks of the same options wait, in this order."""
        if not tasks:
            return
        work = self.work_of(options)
        if work.demand.need not in self._watched:
            self._watch(work.demand.need)
        self._sequence += 1
        self._lane_of(work.demand).add(Batch(work, options, now, self._sequence, list(tasks)[::-1]))
        self.queued += len(tasks)

    def remove(self, task: TaskId, options: Options) -> None:
        """A task that is queued here, and only such a one, is cancelled or has expired."""
        lane = self._lane_of(self.work_of(options).demand)
        before = lane.count
        lane.remove(task)
        self.queued += lane.count - before

    def started(self, runtime: str, task: TaskId, options: Options, now: float, age: float = 0.0) -> None:
        """It began ``age`` seconds before the report was sent."""
        book = self.books.get(runtime)
        if book is None:
            self.counters["unknown"] += 1
            return
        since = now - max(age, 0.0) - book.delay
        if not book.start(task, since) and task not in book.running:
            self.adopt(runtime, task, options, now, age)
        self._dirty[book] = None

    def started_many(self, runtime: str, started: Iterable[tuple[TaskId, float]], now: float) -> None:
        """(task, age) of attempts that are booked there; others are ignored."""
        book = self.books.get(runtime)
        if book is None:
            return
        latest = now - book.delay
        for task, age in started:
            book.start(task, latest - age if age > 0.0 else latest)
        self._dirty[book] = None

    def adopt(self, runtime: str, task: TaskId, options: Options, now: float, age: float | None = None) -> None:
        """A runtime holds what nobody booked (after a restart): ``age`` seconds running, or held if None."""
        book = self.books.get(runtime)
        if book is None or task in book.committed or task in book.running:
            return
        self.counters["adopted"] += 1
        work = self.work_of(options)
        started = None if age is None else now - max(age, 0.0) - book.delay
        book.adopt(task, work, started, now)
        self._dirty[book] = None

    def finished(
        self, runtime: str, task: TaskId, options: Options, seconds: float, ok: bool, now: float, age: float = 0.0
    ) -> bool:
        """It is over after ``seconds`` of running, ``age`` before the report. False: it was not booked there."""
        return self.finished_many(runtime, ((task, seconds if ok else -1.0),), now, age) == 1

    def finished_many(self, runtime: str, ended: Iterable[tuple[TaskId, float]], now: float, age: float = 0.0) -> int:
        """(task, seconds) of attempts that are over; seconds below 0: it says nothing about how long such tasks run."""
        book = self.books.get(runtime)
        if book is None:
            return 0
        self._dirty[book] = None
        when = now - max(age, 0.0) - book.delay
        known = 0
        work: Work | None = None
        durations: list[float] = []
        for task, seconds in ended:
            booking = book.end(task, when)
            if booking is None:
                continue
            known += 1
            if seconds < 0.0:
                continue
            if booking.work is not work:
                if work is not None and durations:
                    self._learn(book, work, durations)
                work, durations = booking.work, []
            durations.append(seconds)
        if work is not None and durations:
            self._learn(book, work, durations)
        return known

    def returned(self, runtime: str, task: TaskId, now: float) -> bool:
        """It was given back unstarted; the caller enqueues it again. False: it was not booked there."""
        book = self.books.get(runtime)
        if book is None or book.end(task, now - book.delay) is None:
            return False
        self._dirty[book] = None
        return True

    def start_failed(self, runtime: str, task: TaskId, now: float, why: str) -> None:
        """It ended because the runtime could not start it. Three in a row speak against the machine."""
        book = self.books.get(runtime)
        if book is None:
            return
        book.end(task, now - book.delay)
        self._dirty[book] = None
        book.failures += 1
        if book.failures >= START_FAILURES and now >= book.set_aside_until:
            length = min(SET_ASIDE[0] * 2.0 ** (book.failures - START_FAILURES), SET_ASIDE[1])
            text = f"{book.failures} tasks in a row could not be started, the last one because: {why}"
            self.set_aside(runtime, text, now + length)
            self._notices.append(Notice("set-aside", runtime, f"{text}. It is tried again in {length:.0f} s."))

    def notices(self) -> list[Notice]:
        """What an operator should see since the last call."""
        found, self._notices = self._notices, []
        return found

    # ------------------------------------------------------------------------------------------ deciding

    def dispatch(self, now: float) -> list[Commit]:
        """What to commit now. It is booked when this returns."""
        self._examine_runtimes(now)
        commits: list[Commit] = []
        if not self.queued:
            return commits
        blocked: set[Lane] = set()
        while True:
            chosen = self._next_lane(now, blocked)
            if chosen is None:
                return commits
            lane, tier, bucket = chosen
            if lane.settle(tier, bucket) and not self._commit_some(lane, tier, bucket, now, commits):
                blocked.add(lane)

    def next_wake(self) -> float:
        """When :meth:`dispatch` should be called though nothing happened; infinity: need not be."""
        return self._wake[0][0] if self._wake and self.queued else math.inf

    def _next_lane(self, now: float, blocked: set[Lane]) -> tuple[Lane, Tier, Bucket] | None:
        best: tuple[Lane, Tier, Bucket] | None = None
        best_key: tuple[float, float] | None = None
        for lane in self._lanes.values():
            if not lane.count or lane in blocked or not self._has_room(lane):
                continue
            lane.refresh(EXAMINE)
            found = lane.first(now)
            if found is None:
                continue
            level, tier, bucket = found
            key = (-level, bucket.head_key)
            if best_key is None or key < best_key:
                best, best_key = (lane, tier, bucket), key
        return best

    def _commit_some(self, lane: Lane, tier: Tier, bucket: Bucket, now: float, commits: list[Commit]) -> bool:
        """Commit the head of that bucket, and as many of its like as make sense at once. False: no room for it."""
        head = bucket.heap[0][2]
        work = head.work
        need = work.demand.need
        book = self._named(lane.demand, work, now) if lane.demand.runtime else self._choose(lane, work, now)
        if book is None:
            return False
        limit = room(book, work, now)
        if limit < 1:
            self._classify(book, now)
            return True
        if limit > 1:
            # Half of a fair share at a time: all that have room fill evenly, in few steps even for thousands of tasks.
            open_books = self._count_open(lane)
            limit = max(1, min(limit, len(head.tasks) // (2 * open_books) if open_books > 1 else limit))
        if not need.plain:
            limit = 1
        batch, tasks = lane.take(tier, bucket, limit)
        if tasks:
            self.queued -= len(tasks)
            self.counters["committed"] += len(tasks)
            book.commit(tasks, work, now)
            if commits and commits[-1].runtime == book.name and commits[-1].options is batch.options:
                commits[-1].tasks.extend(tasks)
            else:
                commits.append(Commit(book.name, batch.options, tasks))
            self._classify(book, now)
        return True

    def _choose(self, lane: Lane, work: Work, now: float) -> Book | None:
        """Of those that have room, the runtime with the least expected completion."""
        mean = work.prediction.mean
        best: Book | None = None
        least = math.inf
        need = work.demand.need
        for pool in self._pools_of(lane):
            found = pool.best(need, now)
            if found is None:
                continue
            book, wait = found
            end = max(wait, book.delay) + mean / book.speed + book.delay
            if end < least:
                best, least = book, end
        return best

    # ------------------------------------------------------------------------------------------ rooms and pools

    def _examine_runtimes(self, now: float) -> None:
        """See who has room, of those to which something happened or whose time has come."""
        wake = self._wake
        while wake and wake[0][0] <= now:
            when, _, book = heappop(wake)
            if book.set_aside_until == when and book.name in self.books:
                book.set_aside_until = -math.inf
                self._notices.append(Notice("tried-again", book.name, "it is given tasks again"))
                self._dirty[book] = None
            elif book.wake_at == when:
                book.wake_at = math.inf
                self._dirty[book] = None
        if self._dirty:
            dirty, self._dirty = self._dirty, {}
            for book in dirty:
                if self.books.get(book.name) is book:
                    book.speed = self.predictor.speeds.of(book.name)
                    self._assign_pool(book)
                    self._classify(book, now)

    def _classify(self, book: Book, now: float) -> None:
        """Put the runtime where it belongs in its pool: free, near, or neither."""
        pool = book.pool
        if pool is None:
            return
        if not book.open(now):
            pool.drop(book)
            return
        wait = -1.0
        for need, free in pool.free.items():
            near = pool.near[need]
            free.pop(book, None)
            if book.stock.fits(need):
                near.pop(book, None)
                free[book] = None  # at the end: equals take turns
                continue
            if not need.plain:
                continue
            if wait < 0.0:
                wait = opens_in(book, now)
            if wait <= 0.0:
                near[book] = None
            else:
                near.pop(book, None)
        if 0.0 < wait < math.inf and now + wait < book.wake_at:
            book.wake_at = now + wait
            heappush(self._wake, (book.wake_at, book.serial, book))

    def _assign_pool(self, book: Book) -> None:
        profile = book.pool.key[0] if book.pool is not None else profile_of(book.info)
        key = pool_key(profile, book)
        if book.pool is not None and book.pool.key == key:
            return
        self._leave_pool(book)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(key)
            for need in self._watched:
                pool.watch(need)
            self._layout += 1
        pool.books[book.name] = book
        book.pool = pool
        self._dirty[book] = None

    def _leave_pool(self, book: Book) -> None:
        pool = book.pool
        if pool is None:
            return
        pool.drop(book)
        pool.books.pop(book.name, None)
        book.pool = None
        if not pool.books:
            del self._pools[pool.key]
            self._layout += 1

    def _replace_info(self, book: Book, info: RuntimeInfo) -> None:
        """The runtime offers something else now: what it holds is claimed anew from the new totals."""
        if info == book.info:
            return
        self._leave_pool(book)
        fresh = Book(info, book.idle_since, 2 * book.delay)
        book.info, book.stock = info, fresh.stock
        for booking in [*book.committed.values(), *(entry[0] for entry in book.running.values())]:
            book.stock.claim(booking.work.demand.need)

    def _pools_of(self, lane: Lane) -> list[Pool]:
        """The pools whose runtimes may run the lane's tasks."""
        found = self._lane_pools.get(lane)
        if found is not None and found[0] == self._layout:
            return found[1]
        demand = lane.demand
        pools = [
            pool
            for pool in self._pools.values()
            if not demand.runtime and not demand.refusals(next(iter(pool.books.values())).info)
        ]
        self._lane_pools[lane] = (self._layout, pools)
        return pools

    def _watch(self, need: Need) -> None:
        if len(self._watched) >= MAX_WATCHED:
            self._unwatch_idle()
        self._watched[need] = None
        for pool in self._pools.values():
            pool.watch(need)
        for book in self.books.values():
            self._dirty[book] = None

    def _unwatch_idle(self) -> None:
        used = {lane.demand.need for lane in self._lanes.values() if lane.count}
        for need in [need for need in self._watched if need not in used]:
            del self._watched[need]
            for pool in self._pools.values():
                pool.unwatch(need)
        self._lane_pools.clear()
        for key in [key for key, lane in self._lanes.items() if not lane.count]:
            del self._lanes[key]

    def _has_room(self, lane: Lane) -> bool:
        need = lane.demand.need
        if lane.demand.runtime:
            return lane.demand.runtime in self.books
        return any(pool.has_room(need) for pool in self._pools_of(lane))

    def _named(self, demand: Demand, work: Work, now: float) -> Book | None:
        """The runtime that the tasks ask for by name, if it can take one now."""
        book = self.books.get(demand.runtime)
        if book is None or not book.open(now) or demand.refusals(book.info):
            return None
        return book if room(book, work, now) else None

    def _count_open(self, lane: Lane) -> int:
        need = lane.demand.need
        return sum(len(pool.free[need]) + len(pool.near[need]) for pool in self._pools_of(lane) if need in pool.free)

    # ------------------------------------------------------------------------------------------ works and lanes

    def work_of(self, options: Options) -> Work:
        """What placement knows of tasks of these options."""
        found = self._by_options.get(id(options))
        if found is not None and found[0] is options:
            return found[1]
        work = self._find_work(options)
        if len(self._by_options) >= MAX_REMEMBERED:
            self._by_options.clear()
        self._by_options[id(options)] = (options, work)
        return work

    def _find_work(self, options: Options) -> Work:
        demand = self._demand_of(options)
        target = f"{options.kind.value}:{options.target}"
        prediction = self.predictor.prepare(target, options.meta)
        key = (demand, options.queue, options.priority, target, prediction.cleaned.words, prediction.cleaned.numbers)
        work = self._works.get(key)
        if work is None:
            if len(self._works) >= MAX_REMEMBERED:
                self._works.clear()
            work = self._works[key] = Work(options, demand, prediction, options.queue in self.fifo_queues)
        return work

    def _demand_of(self, options: Options) -> Demand:
        requirements = options.requirements
        matched = self._matched(options.kind.value, options.target)
        key = need_key(requirements)
        need = self._needs.get(key)
        if need is None:
            need = self._needs[key] = Need(requirements)
        full = demand_key(options, matched, need)
        demand = self._demands.get(full)
        if demand is None:
            demand = self._demands[full] = Demand(options, matched, need)
        return demand

    def _matched(self, kind: str, target: str) -> frozenset[str]:
        if not self._patterns:
            return self._patterns
        found = self._matches.get((kind, target))
        if found is None:
            if len(self._matches) >= MAX_REMEMBERED:
                self._matches.clear()
            found = self._matches[kind, target] = matching(self._patterns, kind, target)
        return found

    def _match_anew(self) -> None:
        """A pattern was never met before: tasks that it names go to lanes of their own."""
        self._matches.clear()
        self._by_options.clear()
        self._works.clear()
        lanes, self._lanes = self._lanes, {}
        self._lane_pools.clear()
        for lane in lanes.values():
            for batch in lane.batches():
                work = self.work_of(batch.options)
                fresh = self._lane_of(work.demand)
                tasks = [task for task in batch.tasks if task not in lane.removed]
                if tasks:
                    fresh.add(Batch(work, batch.options, batch.arrival, batch.sequence, tasks))

    def _lane_of(self, demand: Demand) -> Lane:
        lane = self._lanes.get(demand.key)
        if lane is None:
            lane = self._lanes[demand.key] = Lane(demand)
        return lane

    def _learn(self, book: Book, work: Work, durations: list[float]) -> None:
        book.failures = 0
        work.prediction.observe_many(book.name, durations)

    # ------------------------------------------------------------------------------------------ checking

    def validate(self) -> None:
        """Raises AssertionError when the books do not agree with themselves."""
        assert self.queued == sum(lane.count for lane in self._lanes.values()), "the count of queued tasks is wrong"
        for book in self.books.values():
            self._validate_book(book)

    def _validate_book(self, book: Book) -> None:
        held = [*book.committed.values(), *(entry[0] for entry in book.running.values())]
        used = sum(booking.work.demand.need.slots for booking in held)
        total = book.stock.total_slots
        assert abs(total - used - book.stock.slots) < 1e-6, f"{book.name}: slots are not what is booked"
        assert all(-TOLERANCE <= share <= 1.0 + TOLERANCE for share in book.stock.gpus), f"{book.name}: a GPU overdrawn"
        assert book.unknown == sum(not booking.known for booking in held), f"{book.name}: guesses miscounted"
        assert book.recalled <= book.committed.keys(), f"{book.name}: recalled what it does not hold"
        assert not (book.committed.keys() & book.running.keys()), f"{book.name}: a task committed and running"
