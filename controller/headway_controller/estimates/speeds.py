"""How fast each runtime is, relative to the others: a logarithm per runtime, learned from the ratio seen / expected."""

from __future__ import annotations

import math

CAP = 50
"""A running mean over the last 50 or so, so that a machine that becomes slow is noticed."""
NOISY_CAP = 600
"""Where times scatter by e^±1.5, fifty observations leave an uncertainty of 20 %; then the mean runs over more."""
QUIET = 0.35
"""The standard deviation of log time up to which fifty observations are enough (5 %)."""
LIMIT = math.log(1000.0)

REMEMBERED = 10_000
"""Runtimes; of more, the one that came first is forgotten: where names are made up for each start, there is no end of them."""


class Speeds:
    """1.0 is the speed of a runtime that declares nothing and behaves as the average."""

    __slots__ = ("_counts", "_declared", "_logs")

    def __init__(self) -> None:
        self._logs: dict[str, float] = {}
        self._counts: dict[str, float] = {}
        self._declared: dict[str, float] = {}

    def declare(self, runtime: str, speed: float) -> None:
        """What the runtime says of itself: where learning starts. A changed declaration starts anew."""
        log = math.log(speed) if math.isfinite(speed) and speed > 0.0 else 0.0
        log = min(max(log, -LIMIT), LIMIT)
        if runtime not in self._logs and len(self._logs) >= REMEMBERED:
            first = next(iter(self._logs))
            for table in (self._logs, self._counts, self._declared):
                table.pop(first, None)
        if self._declared.get(runtime) != log:
            self._declared[runtime] = self._logs[runtime] = log
            self._counts[runtime] = 0.0

    def log_of(self, runtime: str) -> float:
        return self._logs.get(runtime, 0.0)

    def of(self, runtime: str) -> float:
        return math.exp(self._logs.get(runtime, 0.0))

    def observe(self, runtime: str, log_ratio: float, spread: float, count: int = 1) -> None:
        """``log_ratio``: the mean of log(seen / expected here) over ``count`` attempts that scatter by ``spread``."""
        if runtime not in self._logs:
            self._logs[runtime] = 0.0
        cap = CAP if spread <= QUIET else min(CAP * (spread / QUIET) ** 2, NOISY_CAP)
        # The declaration weighs as five attempts, or the first one would overturn it.
        seen = self._counts[runtime] = min(self._counts.get(runtime, 0.0) + count, cap)
        gain = min(count / (seen + 5.0), 0.5)
        limit = 3.0 * spread + 0.5
        change = min(max(log_ratio, -limit), limit)
        self._logs[runtime] = min(max(self._logs[runtime] - gain * change, -LIMIT), LIMIT)

    def to_state(self) -> dict[str, object]:
        return {
            name: [log, self._counts.get(name, 0.0), self._declared.get(name, 0.0)] for name, log in self._logs.items()
        }

    @classmethod
    def from_state(cls, state: dict[str, object]) -> Speeds:
        """Raises TypeError or ValueError when the state is not one of :meth:`to_state`."""
        made = cls()
        for name, values in state.items():
            log, count, declared = (float(value) for value in values)  # type: ignore[attr-defined]
            made._logs[str(name)] = min(max(log, -LIMIT), LIMIT)
            made._counts[str(name)] = count
            made._declared[str(name)] = declared
        return made
