"""What is committed now: the head of the order goes to the runtime that will finish it first, as long as one has room."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headway_bus.ids import TaskId
from headway_bus.records import Options
from headway_controller.placement.contest import Alone, Contest
from headway_controller.placement.credit import room

if TYPE_CHECKING:
    from headway_controller.placement.backlog import Backlog
    from headway_controller.placement.binding import Binder
    from headway_controller.placement.book import Book
    from headway_controller.placement.fleet import Fleet
    from headway_controller.placement.lanes import Bucket, Lane, Tier
    from headway_controller.placement.work import Batch

EXAMINED = 4
"""Waiting batches whose expected run time is looked at again for each decision."""


class Commit(NamedTuple):
    """Send these tasks to that runtime now; they are booked there."""

    runtime: str
    options: Options
    tasks: list[TaskId]


class Dispatcher:
    """Late binding from the common lanes; with an early-binding strategy, from what is planned on each runtime."""

    def __init__(self, fleet: Fleet, backlog: Backlog, binder: Binder) -> None:
        self.committed = 0
        """Tasks committed so far."""
        self._fleet = fleet
        self._backlog = backlog
        self._binder = binder

    def dispatch(self, now: float) -> list[Commit]:
        """What to commit now. It is booked when this returns."""
        changed = self._fleet.examine(now)
        self._backlog.wake(changed)
        commits: list[Commit] = []
        if not self._backlog.queued:
            return commits
        if not self._binder.late:
            self._dispatch_planned(changed, now, commits)
        if self._binder.late:
            self._dispatch_common(now, commits)
        return commits

    # ------------------------------------------------------------------------------------------ late

    def _dispatch_common(self, now: float, commits: list[Commit]) -> None:
        wanting = self._wanting(now)
        if not wanting:
            return
        contest = Contest(wanting, now) if len(wanting) > 1 else Alone(wanting[0], now)
        has_taken = False
        while (chosen := contest.head()) is not None:
            lane, tier, bucket = chosen
            if has_taken and not self._fleet.has_room(lane.demand, now):
                contest.drop()
            elif not lane.settle(tier, bucket):
                contest.again()
            elif self._commit_some(lane, tier, bucket, now, commits):
                has_taken = True
                contest.again()
            else:
                contest.drop()

    def _wanting(self, now: float) -> list[Lane]:
        """The lanes for which somebody has room."""
        backlog, has_room = self._backlog, self._fleet.has_room
        wanting: list[Lane] = []
        idle: list[Lane] = []
        for lane in backlog.awake:
            if not lane.count:
                idle.append(lane)
                continue
            if lane.count > EXAMINED:
                lane.refresh(EXAMINED)
            if has_room(lane.demand, now):
                wanting.append(lane)
            elif lane.demand.runtime:
                idle.append(lane)
        for lane in idle:
            backlog.put_to_sleep(lane)
        return wanting

    def _commit_some(self, lane: Lane, tier: Tier, bucket: Bucket, now: float, commits: list[Commit]) -> bool:
        """Commit the head of that bucket, and as many of its like as make sense at once. False: no room for it."""
        head = bucket.heap[0][2]
        work = head.work
        choice = self._fleet.choose(work, now)
        if choice is None:
            return False
        book = choice.book
        limit = room(book, work, now, len(head.tasks))
        if limit > 1:
            # Half of a fair share at a time: all that have room fill evenly, in few steps even for thousands of tasks.
            others = self._fleet.count_open(lane.demand)
            if others > 1:
                limit = max(1, min(limit, len(head.tasks) // (2 * others)))
        if limit >= 1:
            batch, tasks = self._backlog.take(lane, tier, bucket, limit)
            if tasks:
                book.commit(tasks, work, now, choice)
                self._add_commit(commits, book, batch, tasks)
        self._fleet.classify(book, now, filling=True)
        # Without room it must have left those that have some, or it would be chosen for ever.
        return limit >= 1 or not self._fleet.offers(book, work.demand.need)

    def _add_commit(self, commits: list[Commit], book: Book, batch: Batch, tasks: list[TaskId]) -> None:
        self.committed += len(tasks)
        if commits and commits[-1].options is batch.options and commits[-1].runtime == book.name:
            commits[-1].tasks.extend(tasks)
        else:
            commits.append(Commit(book.name, batch.options, tasks))

    # ------------------------------------------------------------------------------------------ early

    def _dispatch_planned(self, changed: list[Book], now: float, commits: list[Commit]) -> None:
        """Plan what came in, then commit from the plans of runtimes to which something happened."""
        for lane in list(self._backlog.busy_lanes()):
            self._binder.bind(lane, now)
            if self._binder.late:  # the strategy was set aside
                self._backlog.unplan(None)
                return
        touched, self._binder.touched = self._binder.touched, {}
        for book in {**dict.fromkeys(changed), **touched}:
            if book.open(now) and book.planned:
                self._commit_planned(book, now, commits)
                self._fleet.classify(book, now)

    def _commit_planned(self, book: Book, now: float, commits: list[Commit]) -> None:
        plans = self._binder.plans
        blocked: set[Lane] = set()
        while True:
            found = [
                (lane, first)
                for lane in plans.lanes_of(book)
                if lane not in blocked and (first := lane.first(now)) is not None
            ]
            if not found:
                return
            lane, (_, tier, bucket) = min(found, key=_turn)
            if not lane.settle(tier, bucket):
                continue
            work = bucket.heap[0][2].work
            limit = room(book, work, now)
            if limit < 1:
                blocked.add(lane)
                continue
            batch, tasks = self._backlog.take(lane, tier, bucket, limit)
            if tasks:
                plans.taken(book, tasks, batch)
                book.commit(tasks, work, now)
                self._add_commit(commits, book, batch, tasks)


def _turn(found: tuple[Lane, tuple[int, Tier, Bucket]]) -> tuple[float, ...]:
    """What orders the heads of lanes; see ``contest``."""
    lane, (level, _, bucket) = found
    return lane.line.share.had, -level, lane.line.had, bucket.head_key
