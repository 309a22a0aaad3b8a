"""Predicted against actual waiting times, from what each task's end says of both."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Waits:
    """Seconds, over the tasks that had a prediction when they were submitted; NaN where there was none.

    ``bias`` is predicted minus actual: above 0, the wait was said to be longer than it was. ``p50`` and ``p90`` are the
    shares of tasks that started within the time which half, or nine in ten, of them should keep; the controller counts
    them, since only it knows the quantiles it gave out.
    """

    predicted: int
    unknown: int
    mean_wait: float
    mean_absolute_error: float
    bias: float
    p50: float = math.nan
    p90: float = math.nan


def judge(pairs: Iterable[tuple[float, float]], p50: float = math.nan, p90: float = math.nan) -> Waits:
    """From (predicted, actual) seconds for each task; a prediction below 0 means that there was none."""
    told = list(pairs)
    known = [(predicted, actual) for predicted, actual in told if predicted >= 0]
    return Waits(
        predicted=len(known),
        unknown=len(told) - len(known),
        mean_wait=_mean([actual for _, actual in known]),
        mean_absolute_error=_mean([abs(predicted - actual) for predicted, actual in known]),
        bias=_mean([predicted - actual for predicted, actual in known]),
        p50=p50,
        p90=p90,
    )


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
