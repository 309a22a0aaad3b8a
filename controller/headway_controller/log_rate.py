"""How many log records of one task are kept of a second: a task that prints in a loop must not fill the store for all."""

from __future__ import annotations

from headway_bus.ids import TaskId

BURST_SECONDS = 10.0
"""Seconds of the rate that may come at once: what a task prints as it begins or fails."""

REMEMBERED = 10_000
"""Tasks whose records are counted at the same time; beyond, the memory starts anew."""


class LogRate:
    """``rate``: records of one task a second; 0: no limit. A bucket for each task that has logged of late."""

    def __init__(self, rate: float = 0.0) -> None:
        self.rate = rate
        self._left: dict[TaskId, tuple[float, float]] = {}

    def exceeded(self, task: TaskId, now: float) -> bool:
        """Whether one more record of the task is too much now."""
        rate = self.rate
        if not rate:
            return False
        if len(self._left) >= REMEMBERED:
            self._left.clear()
        most = rate * BURST_SECONDS
        left, since = self._left.get(task, (most, now))
        left = min(most, left + (now - since) * rate)
        if left < 1.0:
            self._left[task] = (left, now)
            return True
        self._left[task] = (left - 1.0, now)
        return False
