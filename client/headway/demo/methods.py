"""Three forecasting methods and the two measures of the M4 competition, in plain numpy.

This is what the demo's tasks run, so it imports nothing of headway. Recipe and names follow Makridakis, Spiliotis and
Assimakopoulos, "The M4 Competition", International Journal of Forecasting 36 (2020); weekly series have no season
there (m = 1), so nothing is taken out before the forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

ALPHA_LOW = 1e-4
ALPHA_HIGH = 0.9999
GRID = 24
"""Smoothing parameters tried at once."""

ZOOMS = 5
"""Rounds of the search; each keeps the two neighbours of the best of 24 points, so alpha is exact to about 1e-6."""


def naive(series: Series, horizon: int) -> Series:
    """The last value, ``horizon`` times."""
    return np.full(horizon, series[-1])


def ses(series: Series, horizon: int) -> Series:
    """Simple exponential smoothing, alpha and initial level by least squares: its last level, ``horizon`` times."""
    return np.full(horizon, smoothed_level(series))


def theta(series: Series, horizon: int) -> Series:
    """The Theta method: half the regression line, half the smoothed ``2·y - line``; negative values become 0."""
    length = len(series)
    times = np.arange(1.0, length + horizon + 1)
    line = regression_line(series, times)
    level = smoothed_level(2.0 * series - line[:length])
    return np.maximum(0.5 * (line[length:] + level), 0.0)


METHODS: dict[str, Callable[[Series, int], Series]] = {"Naive": naive, "SES": ses, "Theta": theta}


def forecast(method: str, series: Sequence[float] | Series, horizon: int) -> Series:
    """``horizon`` values after the end of ``series`` by one of :data:`METHODS`.

    Raises ValueError for an unknown method, an empty series, or one with values that are not finite.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: expected one of {', '.join(METHODS)}")
    values = np.asarray(series, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError("a series is a flat list of at least one finite number")
    return METHODS[method](values, horizon)


def evaluate(method: str, train: Sequence[float] | Series, test: Sequence[float] | Series) -> list[float]:
    """sMAPE in percent and MASE of one method on one series: what one task of the demo returns."""
    seen, actual = np.asarray(train, dtype=np.float64), np.asarray(test, dtype=np.float64)
    predicted = forecast(method, seen, len(actual))
    return [smape(actual, predicted), mase(seen, actual, predicted)]


def smape(actual: Series, predicted: Series) -> float:
    """Mean of 200·|error| / (|actual| + |predicted|), in percent. Where both are 0 the error is 0."""
    size = np.abs(actual) + np.abs(predicted)
    return float(np.mean(200.0 * np.abs(actual - predicted) / np.where(size > 0.0, size, 1.0)))


def mase(train: Series, actual: Series, predicted: Series) -> float:
    """Mean absolute error over the mean absolute step of the training values; infinite if those never change."""
    scale = float(np.mean(np.abs(np.diff(train)))) if len(train) > 1 else 0.0
    error = float(np.mean(np.abs(actual - predicted)))
    return error / scale if scale > 0.0 else float("inf")


def regression_line(series: Series, times: Series) -> Series:
    """The least-squares line through ``series`` at times 1, 2, …, read off at ``times``."""
    seen = np.arange(1.0, len(series) + 1)
    centred = seen - seen.mean()
    spread = float(centred @ centred)
    slope = float(centred @ (series - series.mean())) / spread if spread else 0.0
    line: Series = series.mean() + slope * (times - seen.mean())
    return line


def smoothed_level(series: Series) -> float:
    """The last level of exponential smoothing, with alpha and the initial level that leave the least squares.

    A grid that zooms in, rather than a descent: the sum of squares has flat stretches and, in some series, two valleys.
    """
    low, high = ALPHA_LOW, ALPHA_HIGH
    origin = float(series[0])  # smoothing does not mind the shift, and small numbers keep the sums of squares exact
    best, level = np.inf, 0.0
    for _ in range(ZOOMS):
        alphas = np.linspace(low, high, GRID)
        squares, levels = smoothing_fit(series - origin, alphas)
        least = int(np.argmin(squares))
        if squares[least] < best:
            best, level = float(squares[least]), float(levels[least])
        low, high = float(alphas[max(least - 1, 0)]), float(alphas[min(least + 1, GRID - 1)])
    return origin + level


def smoothing_fit(series: Series, alphas: Series) -> tuple[Series, Series]:
    """For each alpha: the sum of squared one-step errors under the best initial level, and the last level then.

    The errors follow e[t] = y[t] - y[t-1] + beta·e[t-1] with beta = 1 - alpha, and are linear in the initial level,
    whose weight is beta^t: so the best one has a closed form. The recursion runs as a doubling scan, 2·log2(length)
    operations on whole arrays, all alphas at once.
    """
    betas = 1.0 - alphas
    errors = np.repeat(np.diff(series, prepend=0.0)[None, :], len(alphas), axis=0)
    power, step = betas.copy(), 1
    while step < len(series):
        errors[:, step:] += power[:, None] * errors[:, :-step]
        power, step = power * power, 2 * step
    weights = betas[:, None] ** np.arange(len(series))
    shared = np.einsum("ij,ij->i", errors, weights)
    initial = shared / np.einsum("ij,ij->i", weights, weights)
    errors -= initial[:, None] * weights
    return np.einsum("ij,ij->i", errors, errors), series[-1] - betas * errors[:, -1]
