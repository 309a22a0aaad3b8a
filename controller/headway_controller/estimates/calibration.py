"""The scale that makes "nine in ten start by then" true.

The raw error of a waiting time is off by up to a factor of two: the estimates of tasks that wait behind each other
share their mistakes, and later arrivals overtake. So one scale κ per (queue, level) is moved after each start:
κ ← κ·exp(rate·(miss − α)), where a miss is a start later than said and α the share of misses that is wanted. When "by
expectation + κ·error" is missed too often it grows, and the other way round; the share converges, whatever the error.
"""

from __future__ import annotations

import math
from typing import Any

RATE = 0.05
SMALLEST, LARGEST = 1e-3, 1e3
LEVELS = (0.5, 0.9)
MAX_QUEUES = 10_000


class Calibration:
    """p50 is κ·expectation, p90 is expectation + κ·error: the first can lie on either side of the expectation."""

    __slots__ = ("_scales",)

    def __init__(self) -> None:
        self._scales: dict[str, list[float]] = {}

    def scales(self, queue: str) -> tuple[float, float]:
        found = self._scales.get(queue)
        return (found[0], found[1]) if found else (1.0, 1.3)

    def quantiles(self, queue: str, expectation: float, error: float) -> tuple[float, float]:
        """(p50, p90) in seconds."""
        half, ninety = self.scales(queue)
        middle = half * expectation
        return middle, max(expectation + ninety * error, middle)

    def observe(self, queue: str, seen: float, p50: float, p90: float) -> None:
        """A task of that queue was said to start by ``p50`` and by ``p90``, and started after ``seen`` seconds."""
        found = self._scales.get(queue)
        if found is None:
            if len(self._scales) >= MAX_QUEUES:
                return
            found = self._scales[queue] = [1.0, 1.3]
        for place, (level, said) in enumerate(zip(LEVELS, (p50, p90), strict=True)):
            miss = 1.0 if seen > said else 0.0
            moved = found[place] * math.exp(RATE * (miss - (1.0 - level)))
            found[place] = min(max(moved, SMALLEST), LARGEST)

    def to_state(self) -> dict[str, Any]:
        return {queue: list(scales) for queue, scales in self._scales.items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Calibration:
        """Raises TypeError or ValueError when the state is not one of :meth:`to_state`."""
        made = cls()
        for queue, (half, ninety) in state.items():
            made._scales[str(queue)] = [min(max(float(value), SMALLEST), LARGEST) for value in (half, ninety)]
        return made
