"""Models that repeat, average, take the greatest, or draw a line."""

from __future__ import annotations

import functools
import math

import numpy as np

from headway_trainer.models.base import SEASON, Array, Model, State, latest_n
from headway_trainer.models.parameters import Parameter
from headway_trainer.models.registry import model
from headway_trainer.models.seasonal import remove_season


class Level(Model):
    """A model whose forecast is one number, as often as wanted."""

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        return np.full(horizon, state["level"][0])


@model
class Naive(Level):
    """The last value."""

    name = "Naive"
    intro = "the last value"

    def learn(self, y: Array, features: Array | None) -> State:
        return {"level": y[-1:]}


@model
class AverageN(Level):
    """The mean of the last n values; of all, if there are fewer."""

    name = "AverageN"
    intro = "the mean of the last values"
    parameters = (latest_n(3, "how many of the last values"),)

    def learn(self, y: Array, features: Array | None) -> State:
        return {"level": np.array([y[-self.params["latest_n"] :].mean()])}


@model
class MaxN(Level):
    """The greatest of the last n values; of all, if there are fewer."""

    name = "MaxN"
    intro = "the greatest of the last values"
    parameters = (latest_n(3, "how many of the last values"),)

    def learn(self, y: Array, features: Array | None) -> State:
        return {"level": np.array([y[-self.params["latest_n"] :].max()])}


@model
class SeasonalNaive(Model):
    """The value of one season ago; a series shorter than a season repeats its last value."""

    name = "SeasonalNaive"
    intro = "the value of one season ago"
    parameters = (SEASON,)

    def learn(self, y: Array, features: Array | None) -> State:
        season = self.params["season"]
        return {"last": y[-season:] if len(y) >= season else y[-1:]}

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        return np.resize(state["last"], horizon)


@model
class Naive2(Model):
    """The last value after the season is taken out, with the season put back: the measure of the M4 competition."""

    name = "Naive2"
    intro = "the last value, seasonally adjusted"
    parameters = (SEASON,)

    def learn(self, y: Array, features: Array | None) -> State:
        adjusted, figure = remove_season(y, self.params["season"])
        return {"level": adjusted[-1:], "figure": figure}

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        values: Array = state["level"][0] * np.resize(state["figure"], horizon)
        return values


@model
class Drift(Model):
    """The line from the first value through the last."""

    name = "Drift"
    intro = "the line through the first and the last value"

    def learn(self, y: Array, features: Array | None) -> State:
        slope = (y[-1] - y[0]) / (len(y) - 1) if len(y) > 1 else 0.0
        return {"line": np.array([y[-1], slope])}

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        level, slope = state["line"]
        line: Array = level + slope * np.arange(1.0, horizon + 1)
        return line


@model
class LinearFit(Model):
    """The least-squares line through the last n values, plus a multiple of the spread of its residuals."""

    name = "LinearFit"
    intro = "a straight line through the last values"
    parameters = (
        latest_n(5, "how many of the last values the line goes through"),
        Parameter("add_std_factor", "float", 0.0, "standard deviations of the residuals to add", search=(0.0, 1.0)),
    )

    def learn(self, y: Array, features: Array | None) -> State:
        seen = y[-self.params["latest_n"] :]
        centred, spread = _times(len(seen))
        mean = float(seen.sum()) / len(seen)
        slope = float(centred @ seen) / spread if spread else 0.0
        level = mean + slope * centred[-1]  # at the last value, so that step h of the forecast is h slopes more
        residuals = seen - (mean + slope * centred)
        return {
            "line": np.array(
                [level + self.params["add_std_factor"] * math.sqrt(residuals @ residuals / len(seen)), slope]
            )
        }

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        level, slope = state["line"]
        line: Array = level + slope * np.arange(1.0, horizon + 1)
        return line


@functools.cache
def _times(count: int) -> tuple[Array, float]:
    """Moments around their mean, and the sum of their squares. A search asks for the same few counts thousands of times."""
    centred = np.arange(float(count)) - (count - 1) / 2
    return centred, float(centred @ centred)
