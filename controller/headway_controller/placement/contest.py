"""Whose turn it is among the lanes that want room: fair shares first, then priority, then the clients' shares, then the order
within a lane.

Made anew for each dispatch. Only the lane at the head changes, with the accounts of its client and its namespace: the lanes of
a client stand in a heap, the clients of a namespace in another, the namespaces in a third, and a decision moves the head of
each. To compare all lanes at every decision would cost a union over 2,000 edges four million looks.
"""

from __future__ import annotations

from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headway_controller.placement.fairness import Line, Share
    from headway_controller.placement.lanes import Bucket, Lane, Tier

Turn = tuple["Lane", "Tier", "Bucket"]

Entry = tuple[float, float, int, Turn]
"""A lane among those of its client: level (negative: the highest goes first), key of the head, serial."""


class _Lanes:
    """Those of one client in one namespace."""

    __slots__ = ("heap", "line")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.heap: list[Entry] = []

    def entry(self) -> tuple[float, float, float, int, _Lanes]:
        level, key, serial, _ = self.heap[0]
        return level, self.line.had, key, serial, self


class _Lines:
    """Those of one namespace."""

    __slots__ = ("heap", "lines", "share")

    def __init__(self, share: Share) -> None:
        self.share = share
        self.lines: dict[Line, _Lanes] = {}
        self.heap: list[tuple[float, float, float, int, _Lanes]] = []

    def entry(self) -> tuple[float, float, float, float, int, _Lines]:
        return self.share.had, *self.heap[0][:4], self


class Contest:
    """``head()`` is whose turn it is; after it was served ``again()``, or ``drop()`` if it can be given nothing more."""

    def __init__(self, lanes: Iterable[Lane], now: float) -> None:
        self._now = now
        shares: dict[Share, _Lines] = {}
        for lane in lanes:
            entry = self._entry(lane)
            if entry is None:
                continue
            line = lane.line
            lines = shares.get(line.share)
            if lines is None:
                lines = shares[line.share] = _Lines(line.share)
            group = lines.lines.get(line)
            if group is None:
                group = lines.lines[line] = _Lanes(line)
            group.heap.append(entry)
        for lines in shares.values():
            for group in lines.lines.values():
                heapify(group.heap)
            lines.heap = [group.entry() for group in lines.lines.values()]
            heapify(lines.heap)
        self._heap = [lines.entry() for lines in shares.values()]
        heapify(self._heap)

    def head(self) -> Turn | None:
        """The lane whose turn it is, and where in it its first task is. None: no lane is left."""
        return self._heap[0][-1].heap[0][-1].heap[0][-1] if self._heap else None

    def again(self) -> None:
        """Something was taken from the head, or moved in it: it may be another's turn."""
        lanes = self._heap[0][-1].heap[0][-1].heap
        entry = self._entry(lanes[0][-1][0])
        if entry is None:
            self.drop()
        else:
            heapreplace(lanes, entry)
            self._move()

    def drop(self) -> None:
        """The head is given nothing more this time."""
        heappop(self._heap[0][-1].heap[0][-1].heap)
        self._move()

    def _entry(self, lane: Lane) -> Entry | None:
        found = lane.first(self._now) if lane.count else None
        if found is None:
            return None
        level, tier, bucket = found
        return -level, bucket.head_key, lane.serial, (lane, tier, bucket)

    def _move(self) -> None:
        """The client at the head, and its namespace, have had more, or have another lane before the others, or none."""
        lines = self._heap[0][-1]
        group = lines.heap[0][-1]
        if group.heap:
            heapreplace(lines.heap, group.entry())
        else:
            heappop(lines.heap)
        if lines.heap:
            heapreplace(self._heap, lines.entry())
        else:
            heappop(self._heap)


class Alone:
    """The contest of a single lane: nearly every one is."""

    __slots__ = ("_lane", "_now")

    def __init__(self, lane: Lane, now: float) -> None:
        self._lane: Lane | None = lane
        self._now = now

    def head(self) -> Turn | None:
        lane = self._lane
        found = lane.first(self._now) if lane is not None and lane.count else None
        return (lane, found[1], found[2]) if lane is not None and found is not None else None

    def again(self) -> None:
        """It is its turn again."""

    def drop(self) -> None:
        self._lane = None
