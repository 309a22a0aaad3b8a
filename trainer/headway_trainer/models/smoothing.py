"""Exponential smoothing, with trend, with damped trend, and the Theta method; season by the M4 recipe.

All are fitted by least squares of the one-step errors. Given the smoothing parameters these errors are linear in the
initial state, whose best value is then exact; so only one to three parameters in [0, 1] are searched, on a grid that
zooms in. A descent would be faster and stop in the wrong valley of some series.
"""

from __future__ import annotations

import itertools

import numpy as np

from headway_trainer.models.base import SEASON, Array, Model, State
from headway_trainer.models.registry import model
from headway_trainer.models.seasonal import remove_season

ALPHA = (1e-4, 0.9999)
RATIO = (1e-4, 0.9999)
"""Bounds of beta as a fraction of alpha: a trend that moves faster than the level has no meaning."""

PHI = (0.8, 0.98)
"""Usual bounds of the damping: less forgets the trend at once, more cannot be told from no damping."""

ALPHAS, ZOOMS = 24, 5
TREND_POINTS, TREND_ZOOMS = 6, 6


@model
class SES(Model):
    """Simple exponential smoothing: the last level."""

    name = "SES"
    intro = "simple exponential smoothing"
    parameters = (SEASON,)

    def learn(self, y: Array, features: Array | None) -> State:
        adjusted, figure = remove_season(y, self.params["season"])
        return {"level": np.array([last_level(adjusted)]), "figure": figure}

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        values: Array = state["level"][0] * np.resize(state["figure"], horizon)
        return values


@model
class Theta(Model):
    """Half the regression line and half the smoothed ``2·y - line``; the winner of the M3 competition.

    Negative forecasts become 0, as in the M4 recipe, where no value of the series is negative.
    """

    name = "Theta"
    intro = "the Theta method"
    parameters = (SEASON,)

    def learn(self, y: Array, features: Array | None) -> State:
        adjusted, figure = remove_season(y, self.params["season"])
        slope, end = regression(adjusted)
        line = end + slope * np.arange(1.0 - len(y), 1.0)
        level = last_level(2.0 * adjusted - line)
        floor = 0.0 if y.min() >= 0.0 else -np.inf
        return {"line": np.array([end, slope]), "level": np.array([level, floor]), "figure": figure}

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        (end, slope), (level, floor) = state["line"], state["level"]
        values = 0.5 * (end + slope * np.arange(1.0, horizon + 1) + level)
        forecast: Array = np.maximum(values, floor) * np.resize(state["figure"], horizon)
        return forecast


@model
class Holt(Model):
    """Exponential smoothing with a linear trend."""

    name = "Holt"
    intro = "exponential smoothing with a trend"
    parameters = (SEASON,)
    shortest = 2
    damping: tuple[float, float] = (1.0, 1.0)

    def learn(self, y: Array, features: Array | None) -> State:
        adjusted, figure = remove_season(y, self.params["season"])
        return {"trend": np.array(last_trend(adjusted, self.damping)), "figure": figure}

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        level, trend, phi = state["trend"]
        damped = np.cumsum(phi ** np.arange(1.0, horizon + 1))
        values: Array = (level + trend * damped) * np.resize(state["figure"], horizon)
        return values


@model
class Damped(Holt):
    """Exponential smoothing with a trend that fades."""

    name = "Damped"
    intro = "exponential smoothing with a damped trend"
    damping = PHI


def regression(y: Array) -> tuple[float, float]:
    """Slope of the least-squares line and its value at the last point."""
    times = np.arange(1.0 - len(y), 1.0)
    centred = times - times.mean()
    spread = float(centred @ centred)
    slope = float(centred @ (y - y.mean())) / spread if spread else 0.0
    return slope, float(y.mean()) - slope * float(times.mean())


def last_level(y: Array) -> float:
    """The last level under the alpha and the initial level that leave the least sum of squared errors."""
    origin = float(y[0])  # the fit does not mind a shift, and small numbers keep the sums of squares exact
    (low, high), best, level = ALPHA, np.inf, 0.0
    for _ in range(ZOOMS):
        alphas = np.linspace(low, high, ALPHAS)
        squares, levels = _level_fit(y - origin, alphas)
        least = int(np.argmin(squares))
        if squares[least] < best:
            best, level = float(squares[least]), float(levels[least])
        low, high = float(alphas[max(least - 1, 0)]), float(alphas[min(least + 1, ALPHAS - 1)])
    return origin + level


def _level_fit(y: Array, alphas: Array) -> tuple[Array, Array]:
    """For each alpha: sum of squared errors under the best initial level, and the last level.

    With beta = 1 - alpha the errors follow e[t] = y[t] - y[t-1] + beta·e[t-1]: a scan that doubles its reach each time
    replaces the loop over the series, and beta^t is the weight of the initial level.
    """
    betas = 1.0 - alphas
    errors = np.tile(np.diff(y, prepend=0.0), (len(alphas), 1))
    power, reach = betas.copy(), 1
    while reach < len(y):
        errors[:, reach:] += power[:, None] * errors[:, :-reach]
        power, reach = power**2, 2 * reach
    weights = betas[:, None] ** np.arange(len(y))
    initial = (errors * weights).sum(axis=1) / (weights**2).sum(axis=1)
    errors -= initial[:, None] * weights
    return (errors**2).sum(axis=1), y[-1] - betas * errors[:, -1]


def last_trend(y: Array, damping: tuple[float, float]) -> tuple[float, float, float]:
    """Last level, last trend and phi under the parameters that leave the least sum of squared errors."""
    origin, bounds = float(y[0]), [ALPHA, RATIO, damping]
    best, found = np.inf, (0.0, 0.0, 1.0)
    for _ in range(TREND_ZOOMS):
        axes = [np.linspace(low, high, TREND_POINTS) if high > low else np.array([low]) for low, high in bounds]
        grid = np.array(list(itertools.product(*axes)))
        squares, levels, trends = _trend_fit(y - origin, grid)
        least = int(np.argmin(squares))
        if squares[least] < best:
            best, found = float(squares[least]), (float(levels[least]), float(trends[least]), float(grid[least, 2]))
        bounds = [_around(axis, value) for axis, value in zip(axes, grid[least], strict=True)]
    return origin + found[0], found[1], found[2]


def _around(axis: Array, value: float) -> tuple[float, float]:
    at = int(np.searchsorted(axis, value))
    return float(axis[max(at - 1, 0)]), float(axis[min(at + 1, len(axis) - 1)])


def _trend_fit(y: Array, grid: Array) -> tuple[Array, Array, Array]:
    """For each row (alpha, ratio, phi): sum of squares, last level, last trend, under the best initial state.

    Three recursions run side by side: on the series from a zero state, and on zeros from a unit level and a unit trend.
    """
    alpha, beta, phi = grid[:, :1], grid[:, :1] * grid[:, 1:2], grid[:, 2:]
    level = np.tile([0.0, 1.0, 0.0], (len(grid), 1))
    trend = np.tile([0.0, 0.0, 1.0], (len(grid), 1))
    errors = np.empty((len(y), len(grid), 3))
    unit = np.array([1.0, 0.0, 0.0])
    for step, value in enumerate(y):
        expected = level + phi * trend
        error = errors[step] = value * unit - expected
        level = expected + alpha * error
        trend = phi * trend + beta * error
    initial = _initial(errors)
    weights = np.concatenate([np.ones((len(grid), 1)), initial], axis=1)
    squares = (np.einsum("tgk,gk->tg", errors, weights) ** 2).sum(axis=0)
    return squares, (level * weights).sum(axis=1), (trend * weights).sum(axis=1)


def _initial(errors: Array) -> Array:
    """The initial level and trend of each row of the grid by least squares, by pseudo-inverse where they are tied."""
    moments = np.einsum("tgi,tgj->gij", errors, errors)
    solved: Array = -(np.linalg.pinv(moments[:, 1:, 1:]) @ moments[:, 1:, :1])[:, :, 0]
    return solved
