"""What was measured: one figure, from several rounds, with what is needed to judge it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """``value`` is the median of the rounds, ``low`` and ``high`` the least and the greatest.

    ``better``: "more" or "less", which of two values is the better one.
    """

    key: str
    what: str
    unit: str
    better: str
    value: float
    low: float
    high: float
    rounds: int
    layout: str = ""
    durability: str = "normal"
    note: str = ""

    def data(self) -> dict[str, Any]:
        """As plain data; the keys are a promise."""
        return asdict(self)


def figure(
    key: str,
    what: str,
    unit: str,
    values: Sequence[float],
    *,
    better: str = "less",
    layout: str = "",
    durability: str = "normal",
    note: str = "",
) -> Figure:
    """A figure from the rounds' values."""
    middle = statistics.median(values)
    return Figure(key, what, unit, better, middle, min(values), max(values), len(values), layout, durability, note)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that ``share`` of the sorted values do not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def number(value: float) -> str:
    """Four digits, as a person reads them."""
    if value == 0 or 100_000 > abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100_000:
        return f"{value / 1000:,.0f},000"
    return f"{value:.3g}"
