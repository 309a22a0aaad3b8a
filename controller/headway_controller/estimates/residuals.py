"""The spread around a prediction: a histogram of the ratio seen / predicted, in logarithmic buckets of 12 %.

From it come mean, variance, quantiles, and the remaining life given the age. The last is why a histogram is kept and
not two moments: a task of a heavy-tailed kind that has run long is expected to run longer, and "mean minus age" would
underestimate the waits behind it by 20 to 60 %.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable

STEP = math.log(1.12)
HALF = 100
"""Buckets on either side of 1: ratios from 1.2e-5 to 83,000; beyond, the outermost ones collect."""
SIZE = 2 * HALF
HALF_LIFE = 1000
"""Observations after which one counts half."""
GROWTH = 2 ** (1 / HALF_LIFE)
RENORMALISE_AT = 1e12
PRIOR_WEIGHT = 1.0
PRIOR_SPREAD = 1.0
"""Until there are data, as if a log-normal with this standard deviation of the logarithm had been seen once."""

_EDGES = [math.exp((i - HALF) * STEP) for i in range(SIZE + 1)]
_MIDDLES = [(_EDGES[i] + _EDGES[i + 1]) / 2 for i in range(SIZE)]
_prior = [math.exp(-0.5 * ((i + 0.5 - HALF) * STEP / PRIOR_SPREAD) ** 2) for i in range(SIZE)]
_PRIOR = [weight * PRIOR_WEIGHT / sum(_prior) for weight in _prior]


class Residuals:
    """Instead of fading all buckets at every observation, new ones weigh ever more; rarely, all are scaled back."""

    __slots__ = ("_first", "_second", "_stale", "_tail", "_unit", "buckets", "mean", "total", "variance")

    def __init__(self) -> None:
        self.buckets = [0.0] * SIZE
        self.total = 0.0
        """The sum of the buckets, in present units."""
        self._unit = 1.0
        self._stale = 0
        self.mean = 1.0
        self.variance = 1.0
        self._tail: list[float] = []
        self._first: list[float] = []
        self._second: list[float] = []
        self._tabulate()

    def observe_logs(self, logs: Iterable[float]) -> None:
        """Fold in the logarithms of ratios seen / predicted."""
        buckets, unit, growth = self.buckets, self._unit, GROWTH
        added = 0.0
        count = 0
        for log in logs:
            place = int(log / STEP + HALF)
            buckets[0 if place < 0 else SIZE - 1 if place >= SIZE else place] += unit
            added += unit
            unit *= growth
            count += 1
        self.total += added
        self._unit = unit
        self._stale += count
        if unit > RENORMALISE_AT:
            self._renormalise()

    def observed(self) -> float:
        """How many observations are not forgotten yet."""
        return self.total / self._unit

    def refresh(self) -> None:
        """Bring mean, variance and the tables of the tail up to date, if enough was seen since the last time."""
        if self._stale and (self._stale >= 64 or self._stale * 8 >= self.observed()):
            self._tabulate()

    def remaining(self, age: float) -> tuple[float, float]:
        """Mean and variance of what is left after ``age`` (in units of the prediction)."""
        if age <= _EDGES[0]:
            return self.mean, self.variance
        place = int(math.log(age) / STEP + HALF)
        if place >= SIZE - 1:
            return age, age * age
        upper = _EDGES[place + 1]
        share = (upper - age) / (upper - _EDGES[place])
        middle = (upper + age) / 2
        here = (self._tail[place] - self._tail[place + 1]) * share
        weight = self._tail[place + 1] + here
        if weight < 0.5:  # beyond the data: as long again as it has run
            return age, age * age
        first = (self._first[place + 1] + here * middle) / weight
        second = (self._second[place + 1] + here * middle * middle) / weight
        return max(first - age, 0.0), max(second - first * first, 0.0)

    def quantile(self, p: float, age: float = 0.0) -> float:
        """The ratio that is not exceeded with probability ``p``, given that it is more than ``age``."""
        start = 0 if age <= _EDGES[0] else min(int(math.log(age) / STEP + HALF), SIZE - 1)
        tail = self._tail[start] * (1.0 - min(max(p, 0.0), 1.0))
        # The tails fall with the index; bisect wants them rising.
        place = bisect_left(self._tail, -tail, key=float.__neg__)
        place = min(max(place, start + 1), SIZE)
        high, low = self._tail[place - 1], self._tail[place]
        share = (high - tail) / (high - low) if high > low else 0.5
        return max(_EDGES[place - 1] + share * (_EDGES[place] - _EDGES[place - 1]), age)

    def _tabulate(self) -> None:
        scale = 1.0 / self._unit
        # The prior fades as data come: it must not keep a tail alive that nobody has seen.
        trust = 1.0 / (1.0 + self.total * scale / 8.0)
        tail = [0.0] * (SIZE + 1)
        first = [0.0] * (SIZE + 1)
        second = [0.0] * (SIZE + 1)
        weight = one = two = 0.0
        buckets = self.buckets
        for i in range(SIZE - 1, -1, -1):
            here = buckets[i] * scale + _PRIOR[i] * trust
            middle = _MIDDLES[i]
            weight += here
            one += here * middle
            two += here * middle * middle
            tail[i], first[i], second[i] = weight, one, two
        self._tail, self._first, self._second = tail, first, second
        self.mean = one / weight
        self.variance = max(two / weight - self.mean * self.mean, 0.0)
        self._stale = 0

    def _renormalise(self) -> None:
        scale = 1.0 / self._unit
        self.buckets = [weight * scale for weight in self.buckets]
        self.total = sum(self.buckets)
        self._unit = 1.0

    def to_state(self) -> dict[str, object]:
        scale = 1.0 / self._unit
        return {"buckets": [[i, weight * scale] for i, weight in enumerate(self.buckets) if weight]}

    @classmethod
    def from_state(cls, state: dict[str, object]) -> Residuals:
        """Raises KeyError, TypeError or ValueError when the state is not one of :meth:`to_state`."""
        made = cls()
        buckets = state["buckets"]
        if not isinstance(buckets, list):
            raise TypeError("the buckets of a histogram are a list of places and weights")
        for place, weight in buckets:
            made.buckets[min(max(int(place), 0), SIZE - 1)] += max(float(weight), 0.0)
        made.total = sum(made.buckets)
        made._tabulate()
        return made
