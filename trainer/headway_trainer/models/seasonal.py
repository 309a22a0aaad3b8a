"""The season of a series as the M4 competition's benchmarks treat it: a test, and its removal by ratios.

Source: Makridakis, Spiliotis and Assimakopoulos, "The M4 Competition", IJF 36 (2020), and the description of the
classical decomposition in any textbook: a centred moving average, ratios to it, their means by position, scaled to mean 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CRITICAL = 1.645
"""The 90 percent point, two-sided, of the normal distribution."""

SEASONS = 3
"""A season is looked for only where at least this many fit into the series."""


def is_seasonal(y: Array, season: int) -> bool:
    """Whether the autocorrelation at lag ``season`` is beyond its limit under correlation at shorter lags alone."""
    if season < 2 or len(y) < SEASONS * season:
        return False
    correlation = autocorrelation(y, season)
    if correlation is None:
        return False
    limit = CRITICAL * np.sqrt((1.0 + 2.0 * np.sum(correlation[:-1] ** 2)) / len(y))
    return bool(abs(correlation[-1]) > limit)


def autocorrelation(y: Array, lags: int) -> Array | None:
    """Autocorrelations at lags 1 to ``lags``; None for a series that never changes."""
    centred = y - y.mean()
    whole = float(centred @ centred)
    if whole == 0.0 or np.ptp(y) == 0.0:
        return None
    return np.array([float(centred[lag:] @ centred[:-lag]) / whole for lag in range(1, lags + 1)])


def remove_season(y: Array, season: int) -> tuple[Array, Array]:
    """The adjusted series, and the factors of the next ``season`` steps. Both unchanged where there is no season.

    A ratio means something only where values do not change their sign, so a series with negative ones is left as it is;
    so is one whose season has a position that is always 0, by which nothing can be divided.
    """
    if (y < 0.0).any() or not is_seasonal(y, season):
        return y, np.ones(1)
    factors = seasonal_factors(y, season)
    if not (factors > 0.0).all():
        return y, np.ones(1)
    return y / np.resize(factors, len(y)), np.roll(factors, -(len(y) % season))


def seasonal_factors(y: Array, season: int) -> Array:
    """The factor of each position in the season, beginning with that of the first value; their mean is 1."""
    weights = np.full(season, 1.0 / season)
    if season % 2 == 0:
        weights = np.concatenate([weights[:1] / 2, weights[1:], weights[:1] / 2])
    trend = np.convolve(y, weights, mode="valid")
    before = (len(weights) - 1) // 2
    known = np.flatnonzero(trend > 0.0)  # where a whole season is 0 there is no ratio to it
    ratios = np.full(len(y), np.nan)
    ratios[before + known] = y[before + known] / trend[known]
    positions = [ratios[position::season] for position in range(season)]
    factors = np.array([np.mean(one[np.isfinite(one)]) if np.isfinite(one).any() else 0.0 for one in positions])
    scaled: Array = factors / factors.mean()
    return scaled
