"""Predicted against actual waiting times, from what each task's end says of both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Waits:
    """Seconds, over the tasks that had a prediction when they were submitted; NaN where there was none.

    ``bias`` is predicted minus actual: above 0, the wait was said to be longer than it was. ``p50`` and ``p90`` are the
    shares of starts within the time that half, or nine in ten, of them should keep. The controller counts them, over
    ``scored`` starts, since only it knows the quantiles that it gave out.
    """

    predicted: int
    unknown: int
    mean_wait: float
    mean_absolute_error: float
    bias: float
    scored: int = 0
    p50: float = math.nan
    p90: float = math.nan


def judge(pairs: Iterable[tuple[float, float]], score: Mapping[str, float]) -> Waits:
    """From (predicted, actual) seconds for each task, and the controller's score over all targets.

    A prediction below 0 means that there was none.
    """
    told = list(pairs)
    known = [(predicted, actual) for predicted, actual in told if predicted >= 0]
    return Waits(
        predicted=len(known),
        unknown=len(told) - len(known),
        mean_wait=_mean([actual for _, actual in known]),
        mean_absolute_error=_mean([abs(predicted - actual) for predicted, actual in known]),
        bias=_mean([predicted - actual for predicted, actual in known]),
        scored=round(score.get("count", 0)),
        p50=score.get("p50", math.nan),
        p90=score.get("p90", math.nan),
    )


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
