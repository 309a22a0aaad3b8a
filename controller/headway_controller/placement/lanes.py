"""The queued tasks of one demand and one client in order: priority, then shortest expected first with ageing, or first come.

A lane holds the tasks that may go to the same runtimes and occupy the same there. In it there is a tier per priority,
and in a tier a bucket per expected run time (in steps of 10 %) or per FIFO queue. A bucket holds batches, not tasks: a
million tasks of one ``map`` are one batch, so order costs by the number of buckets and memory by eight bytes a task.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from headway_controller.placement.work import RANK_STEP, UNKNOWN, Batch, Kin, Work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headway_bus.ids import TaskId
    from headway_controller.placement.eligibility import Demand
    from headway_controller.placement.fairness import Line

AGEING = 0.05
"""Seconds of expected run time that one second of waiting makes up for: 20 s of waiting beat one second of work."""
PRIORITY_AGEING = 300.0
"""Seconds of waiting that raise a task by one level of priority, so that none starves under a stream of better ones."""

COUNTED = 16
"""Batches of one bucket that are counted one by one."""
STEADY = 0.25
"""Relative change of an expected run time up to which it keeps its standing in the order. What is learned is never at rest, and
two kinds that run about equally long would take turns at going first: nobody could say when a task of either starts."""

BucketKey = int | str | Kin
"""A rank; or the name of a FIFO queue; or what tasks share that are expected to run equally long.

The last have a bucket of their own because their common expectation is never quite at rest: by rank, those that came
before and after it crossed a step would be out of order.
"""


class Bucket:
    """Batches in order of arrival, oldest first."""

    __slots__ = ("count", "head_key", "heap", "is_ranked", "key", "mean", "scan", "serial", "standing")

    def __init__(self, key: BucketKey, serial: int) -> None:
        self.key = key
        self.serial = serial
        self.heap: list[tuple[float, int, Batch]] = []
        self.count = 0
        self.mean = 0.0
        """Expected run time at speed 1: of its rank, or of its latest member where there is no rank."""
        self.is_ranked = False
        """Whether the key says how long its tasks run; else its oldest batch does."""
        if isinstance(key, int) and key != UNKNOWN:
            self.is_ranked = True
            self.mean = math.exp(min((key + 0.5) * RANK_STEP, 700.0))
        self.standing = self.mean
        """The expected run time by which it is ordered."""
        self.head_key = math.inf
        self.scan = 0

    def head(self) -> Batch | None:
        """The oldest batch that still counts here."""
        heap = self.heap
        while heap:
            batch = heap[0][2]
            if batch.bucket is self and batch.tasks:
                return batch
            heappop(heap)
        return None

    def add(self, batch: Batch) -> None:
        batch.bucket = self
        self.count += len(batch.tasks)
        if not self.is_ranked:
            self.mean = batch.work.prediction.mean
        heappush(self.heap, (batch.arrival, batch.sequence, batch))

    def variance(self) -> float:
        """Of one task's run time at speed 1, as its oldest batch says."""
        return self.heap[0][2].work.prediction.variance if self.heap else 0.0

    def doubt(self) -> float:
        """The standard error of the expected run time, in shares of it, as its oldest batch says."""
        return self.heap[0][2].work.prediction.doubt if self.heap else 0.0

    def share_before(self, when: float, now: float) -> float:
        """The share of its tasks that arrived before ``when``; of many batches, as if they had come evenly until now."""
        if not self.heap:
            return 0.0
        oldest = self.heap[0][0]
        if when >= now or oldest >= now:
            return 1.0 if when >= oldest else 0.0
        if len(self.heap) <= COUNTED:
            here = [(arrival, len(batch.tasks)) for arrival, _, batch in self.heap if batch.bucket is self]
            total = sum(count for _, count in here)
            return sum(count for arrival, count in here if arrival < when) / total if total else 0.0
        return min(max((when - oldest) / (now - oldest), 0.0), 1.0)

    def order_key(self) -> float:
        """What orders buckets within a tier; smaller goes first. Static, so that no waiting task need be visited."""
        batch = self.head()
        if batch is None:
            return math.inf
        if not self.is_ranked:
            self.mean = batch.work.prediction.mean
            if abs(self.mean - self.standing) > STEADY * self.standing:
                self.standing = self.mean
        return self.standing + AGEING * batch.arrival


class Tier:
    """The buckets of one priority."""

    __slots__ = ("_checked", "_heap", "_oldest", "_serial", "buckets", "count", "priority")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.buckets: dict[BucketKey, Bucket] = {}
        self.count = 0
        self._heap: list[tuple[float, int, Bucket]] = []
        self._oldest = math.inf
        self._checked = -math.inf
        self._serial = 0

    def add(self, batch: Batch, key: BucketKey) -> None:
        bucket = self.buckets.get(key)
        if bucket is None:
            self._serial += 1
            bucket = self.buckets[key] = Bucket(key, self._serial)
        bucket.add(batch)
        self.count += len(batch.tasks)
        if batch.arrival < self._oldest:
            self._oldest = batch.arrival
        self.reorder(bucket)

    def reorder(self, bucket: Bucket) -> None:
        """Its head may have changed: see that it stands where it belongs."""
        key = bucket.order_key()
        if key != bucket.head_key:
            bucket.head_key = key
            if key != math.inf:
                heappush(self._heap, (key, bucket.serial, bucket))
                if len(self._heap) > 64 and len(self._heap) > 4 * len(self.buckets):
                    self._heap = [(b.head_key, b.serial, b) for b in self.buckets.values() if b.head_key != math.inf]
                    heapify(self._heap)

    def first(self) -> Bucket | None:
        heap = self._heap
        while heap:
            key, _, bucket = heap[0]
            if key == bucket.head_key and bucket.head() is not None:
                return bucket
            heappop(heap)
        return None

    def level(self, now: float) -> int:
        """The priority, raised by how long the oldest has waited (looked up once a second)."""
        if now - self._oldest < PRIORITY_AGEING:
            return self.priority
        if now - self._checked >= 1.0 or now < self._checked:
            self._checked = now
            self._oldest = min((head.arrival for head in self._heads()), default=math.inf)
        return self.priority + int(max(now - self._oldest, 0.0) / PRIORITY_AGEING) if self.count else self.priority

    def oldest_bucket(self) -> Bucket | None:
        return min(
            (bucket for bucket in self.buckets.values() if bucket.head() is not None),
            key=lambda bucket: bucket.heap[0][0],
            default=None,
        )

    def _heads(self) -> Iterator[Batch]:
        for bucket in self.buckets.values():
            head = bucket.head()
            if head is not None:
                yield head

    def lone(self) -> Bucket | None:
        """The bucket of the one batch that there is, at least as far as a glance tells. None: there are several, or none."""
        found: Bucket | None = None
        for bucket in self.buckets.values():
            if bucket.heap:
                if found is not None or len(bucket.heap) > 1:
                    return None
                found = bucket
        return found

    def prune(self) -> None:
        """Forget buckets that have been empty: a long life meets many run times."""
        for key in [key for key, bucket in self.buckets.items() if not bucket.heap]:
            del self.buckets[key]


class Lane:
    """``count`` is the number of tasks that wait here; removed ones are skipped when their turn comes."""

    __slots__ = ("_scan", "count", "demand", "line", "removed", "serial", "tiers", "top")

    def __init__(self, demand: Demand, line: Line, serial: int = 0) -> None:
        self.demand = demand
        self.line = line
        self.serial = serial
        """Of two lanes whose turn it is, the one with the lower goes first."""
        self.tiers: dict[int, Tier] = {}
        self.count = 0
        self.removed: set[TaskId] = set()
        self.top: list[Tier] = []
        """The tiers, highest priority first."""
        self._scan: list[tuple[Tier, Bucket]] = []

    def add(self, batch: Batch) -> None:
        tier = self.tiers.get(batch.work.priority)
        if tier is None:
            tier = self.tiers[batch.work.priority] = Tier(batch.work.priority)
            self.top = sorted(self.tiers.values(), key=lambda each: -each.priority)
        if self.removed:
            for task in self.removed.intersection(batch.tasks):
                self._purge(task)
        line = batch.work.line
        tier.add(batch, batch.work.rank() if line is None else line)
        self.count += len(batch.tasks)

    def remove(self, task: TaskId) -> None:
        """A task that is queued here, as the caller knows, is wanted no more; it is skipped when its turn comes."""
        if self.count and task not in self.removed:
            self.removed.add(task)
            self.count -= 1
            if not self.count:
                self.tiers, self.top, self._scan = {}, [], []
                self.removed.clear()

    def _purge(self, task: TaskId) -> None:
        """A removed task is to wait again: its old entry must not come to life. Walks all that waits; this is rare."""
        self.removed.discard(task)
        for tier in self.top:
            for bucket in tier.buckets.values():
                for _, _, batch in bucket.heap:
                    if batch.bucket is bucket and task in batch.tasks:
                        batch.tasks.remove(task)
                        bucket.count -= 1
                        tier.count -= 1
                        tier.reorder(bucket)
                        return

    def standing(self, work: Work, rank: BucketKey) -> float:
        """The expected run time by which such work is ordered."""
        tier = self.tiers.get(work.priority)
        bucket = tier.buckets.get(rank) if tier is not None else None
        return bucket.standing if bucket is not None and bucket.count else work.prediction.mean

    @property
    def alive(self) -> float:
        """The share of what the buckets count that was not removed."""
        return self.count / (self.count + len(self.removed)) if self.removed else 1.0

    def first(self, now: float) -> tuple[int, Tier, Bucket] | None:
        """(level, tier, bucket) of the task whose turn it is."""
        best: tuple[int, Tier, Bucket] | None = None
        alone = sum(tier.count > 0 for tier in self.top) == 1
        for tier in self.top:
            if not tier.count:
                continue
            level = tier.level(now)
            if best is not None and level <= best[0]:
                continue
            # Where a task has waited so long that its whole tier is raised, it goes first, or the others would profit. Among
            # its equals alone the order stays what everybody was told.
            bucket = tier.first() if alone or level == tier.priority else tier.oldest_bucket()
            if bucket is not None:
                best = (level, tier, bucket)
        return best

    def settle(self, tier: Tier, bucket: Bucket) -> bool:
        """See that the head of the bucket still belongs there; False: it went elsewhere, look again."""
        batch = bucket.head()
        if batch is None:
            return False
        if batch.work.line is not None:
            return True
        rank = batch.work.rank()
        if rank != bucket.key:
            self._move(tier, bucket, batch, rank)
            return False
        if bucket.order_key() != bucket.head_key:
            tier.reorder(bucket)
            return False
        return True

    def take(self, tier: Tier, bucket: Bucket, limit: int) -> tuple[Batch, list[TaskId]]:
        """Up to ``limit`` tasks of the bucket's first batch, in order; fewer or none where some were removed."""
        batch = bucket.heap[0][2]
        tasks = batch.tasks
        if limit >= len(tasks):
            taken = tasks[::-1]
            batch.tasks = []
        else:
            taken = tasks[: -limit - 1 : -1]
            del tasks[-limit:]
        batch.offset += len(taken)
        bucket.count -= len(taken)
        tier.count -= len(taken)
        if self.removed:
            kept = [task for task in taken if task not in self.removed]
            if len(kept) != len(taken):
                self.removed.difference_update(taken)
                taken = kept
        self.count -= len(taken)
        if not batch.tasks:
            heappop(bucket.heap)
            batch.bucket = None
            tier.reorder(bucket)
            if len(tier.buckets) > 256:
                tier.prune()
        return batch, taken

    def refresh(self, budget: int) -> None:
        """Look at some waiting batches and move those whose expected run time has changed.

        The head is looked at anyway when its turn comes, so a lone batch needs none of this.
        """
        if len(self.top) == 1 and (lone := self.top[0].lone()) is not None:
            if len(self.top[0].buckets) > 1:
                lone.scan = 0
                self._refresh_some(self.top[0], lone, 1)
            return
        while budget > 0:
            if not self._scan:
                self._scan = [
                    (tier, bucket)
                    for tier in self.top
                    for bucket in tier.buckets.values()
                    if bucket.heap and not isinstance(bucket.key, str)
                ]
                for _, bucket in self._scan:
                    bucket.scan = 0
                if not self._scan:
                    return
                budget -= 1
            tier, bucket = self._scan[-1]
            budget -= self._refresh_some(tier, bucket, budget) + 1
            if bucket.scan >= len(bucket.heap):
                self._scan.pop()

    def _refresh_some(self, tier: Tier, bucket: Bucket, budget: int) -> int:
        if not isinstance(bucket.key, int):
            bucket.scan = len(bucket.heap)  # all of it moves together
            tier.reorder(bucket)
            return 0
        entries = bucket.heap[bucket.scan : bucket.scan + budget]
        bucket.scan += len(entries)
        for _, _, batch in entries:
            if batch.bucket is bucket and batch.tasks:
                rank = batch.work.rank()
                if rank != bucket.key:
                    self._move(tier, bucket, batch, rank)
        return len(entries)

    def _move(self, tier: Tier, bucket: Bucket, batch: Batch, rank: int | Kin) -> None:
        bucket.count -= len(batch.tasks)
        tier.count -= len(batch.tasks)
        tier.add(batch, rank)
        tier.reorder(bucket)

    def batches(self) -> Iterator[Batch]:
        """All that waits, in no order."""
        for tier in self.top:
            for bucket in tier.buckets.values():
                for _, _, batch in bucket.heap:
                    if batch.bucket is bucket and batch.tasks:
                        yield batch
