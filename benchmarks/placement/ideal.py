"""The ideal central queue: first come first served, no delay in its knowledge, the fastest free runtime takes the head."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from benchmarks.placement.workloads import Task


def latencies(tasks: Sequence[Task], speeds: Sequence[float], delay: float) -> list[float]:
    """Seconds from each arrival until the result is back, the two delays added."""
    free = [(-speed, index) for index, speed in enumerate(speeds)]
    heapq.heapify(free)
    busy: list[tuple[float, int]] = []
    found = []
    for task in tasks:
        while busy and busy[0][0] <= task.arrival:
            _, index = heapq.heappop(busy)
            heapq.heappush(free, (-speeds[index], index))
        start = task.arrival
        if free:
            _, index = heapq.heappop(free)
        else:
            start, index = heapq.heappop(busy)
        end = start + task.work / speeds[index]
        heapq.heappush(busy, (end, index))
        found.append(end - task.arrival + 2 * delay)
    return found
