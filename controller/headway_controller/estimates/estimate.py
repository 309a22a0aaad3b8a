"""An estimate: seconds, with what is known of the spread around them."""

from __future__ import annotations

import math
from collections.abc import Callable

from headway_bus import records

YEAR = 3.2e7
"""Seconds; nothing that is predicted here is believed to be longer than ten of these."""


class Estimate:
    """``expectation`` ± ``error`` (one standard deviation) in seconds. ``known`` is false while it is only a guess."""

    __slots__ = ("_quantile", "error", "expectation", "known", "scale", "source", "why")

    def __init__(
        self,
        expectation: float,
        error: float,
        known: bool = True,
        why: str = "",
        quantile: Callable[[float], float] | None = None,
        source: object = None,
        scale: float = 1.0,
    ) -> None:
        self.expectation = expectation
        self.error = error
        self.known = known
        self.why = why
        self.source = source
        """What made it, for :meth:`Predictor.remaining`; nobody else looks at it."""
        self.scale = scale
        self._quantile = quantile

    def quantile(self, p: float) -> float:
        """Seconds that are not exceeded with probability ``p``; log-normal where the maker knows no better."""
        if self._quantile is not None:
            return self._quantile(p)
        return log_normal_quantile(self.expectation, self.error, p)

    def record(self) -> records.Estimate:
        """The form that travels."""
        return records.Estimate(
            self.expectation, self.error, self.quantile(0.5), self.quantile(0.9), self.known, self.why
        )

    def __repr__(self) -> str:
        return f"{self.expectation:.4g} ± {self.error:.4g} s" + ("" if self.known else f" (unknown: {self.why})")


def log_normal_quantile(expectation: float, error: float, p: float) -> float:
    """The quantile of the log-normal distribution with that mean and standard deviation."""
    if expectation <= 0.0:
        return 0.0
    spread = math.log1p((error / expectation) ** 2)
    return expectation * math.exp(normal_quantile(p) * math.sqrt(spread) - spread / 2)


def normal_quantile(p: float) -> float:
    """The standard normal quantile to within 0.00045 (Abramowitz and Stegun 26.2.23)."""
    p = min(max(p, 1e-9), 1 - 1e-9)
    t = math.sqrt(-2 * math.log(min(p, 1 - p)))
    numerator = 2.515517 + t * (0.802853 + t * 0.010328)
    denominator = 1 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    return math.copysign(t - numerator / denominator, p - 0.5)
