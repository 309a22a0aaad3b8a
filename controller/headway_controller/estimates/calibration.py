"""The scales that make "nine in ten start by then" true.

The raw error of a waiting time is off by up to a factor of two: the estimates of tasks that wait behind each other
share their mistakes, and later arrivals overtake. So one scale κ per (queue, level) is moved after each start:
κ ← κ·exp(rate·(miss − α)), where a miss is a start later than said and α the share of misses that is wanted. When "by
expectation + κ·error" is missed too often it grows, and the other way round; the share converges, whatever the error.
The expectation itself is scaled by what was seen / what was said, both fading.
"""

from __future__ import annotations

import math
from typing import Any

RATE = 0.05
FIRST_RATE = 0.4
"""What is added to the rate at first, so that a new queue need not be off for hundreds of tasks."""
FADING = 0.01
SMALLEST, LARGEST = 1e-3, 1e3
MAX_QUEUES = 10_000
START = (1.0, 1.0, 1.3)


class Scale:
    """``half``: p50 in expectations; ``ninety``: p90 in errors beyond the expectation; ``factor``: of the expectation."""

    __slots__ = ("count", "factor", "half", "ninety", "said", "seen")

    def __init__(self) -> None:
        self.factor, self.half, self.ninety = START
        self.seen = 0.0
        self.said = 0.0
        self.count = 0.0

    def observe(self, seen: float, raw: float, p50: float, p90: float) -> None:
        self.count += 1.0
        gain = max(1.0 / self.count, FADING)
        self.seen += gain * (seen - self.seen)
        self.said += gain * (raw - self.said)
        # Ten observations' worth of "as said", so that the first few do not overturn it.
        trust = min(self.count / 10.0, 1.0)
        if self.said > 0.0:
            self.factor = min(max(1.0 + trust * (self.seen / self.said - 1.0), 0.1), 10.0)
        rate = RATE + FIRST_RATE / (1.0 + self.count / 20.0)
        self.half = moved(self.half, rate * ((seen > p50) - 0.5))
        self.ninety = moved(self.ninety, rate * ((seen > p90) - 0.1))


class Calibration:
    """p50 is κ·expectation (it can lie on either side of it), p90 is expectation + κ·error."""

    __slots__ = ("_scales",)

    def __init__(self) -> None:
        self._scales: dict[str, Scale] = {}

    def quantiles(self, queue: str, raw: float, error: float) -> tuple[float, float, float]:
        """(expectation, p50, p90) in seconds, from a raw expectation and error."""
        scale = self._scales.get(queue)
        factor, half, ninety = (scale.factor, scale.half, scale.ninety) if scale is not None else START
        expectation = factor * raw
        middle = half * expectation
        return expectation, middle, max(expectation + ninety * error, middle)

    def observe(self, queue: str, seen: float, raw: float, p50: float, p90: float) -> None:
        """A task of that queue was said to start by ``p50`` and by ``p90``, and started after ``seen`` seconds."""
        scale = self._scales.get(queue)
        if scale is None:
            if len(self._scales) >= MAX_QUEUES:
                return
            scale = self._scales[queue] = Scale()
        scale.observe(seen, raw, p50, p90)

    def to_state(self) -> dict[str, Any]:
        return {queue: [s.factor, s.half, s.ninety, s.seen, s.said, s.count] for queue, s in self._scales.items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Calibration:
        """Raises TypeError or ValueError when the state is not one of :meth:`to_state`."""
        made = cls()
        for queue, values in state.items():
            s = made._scales[str(queue)] = Scale()
            s.factor, s.half, s.ninety, s.seen, s.said, s.count = (max(float(value), 0.0) for value in values)
            s.half, s.ninety = bounded(s.half), bounded(s.ninety)
        return made


def moved(scale: float, step: float) -> float:
    return bounded(scale * math.exp(step))


def bounded(scale: float) -> float:
    return min(max(scale, SMALLEST), LARGEST)
