"""Spikes that arrive at random: when the next is due, times how high they are."""

from __future__ import annotations

import math

import numpy as np

from headway_trainer.models.base import Array, Model, State
from headway_trainer.models.parameters import Parameter
from headway_trainer.models.registry import model

DEVIATIONS = 2.0
"""A spike is a value this many standard deviations above the mean."""

SHAPES = (0.2, 20.0)
"""Weibull shapes looked at: beyond them the spread of the gaps is that of noise, or none."""


@model
class RandomArrival(Model):
    """Probability that a spike arrives in a step, given how long there was none, times the mean height of spikes.

    The gaps between spikes follow the distribution ``fit_model``. A series with fewer than two spikes has no gaps; its
    mean is forecast.
    """

    name = "RandomArrival"
    intro = "spikes that arrive at random"
    parameters = (
        Parameter("fit_model", "choice", "Expon", "how gaps are distributed", choices=("Expon", "Weibull", "Sampling")),
    )

    def learn(self, y: Array, features: Array | None) -> State:
        spikes = np.flatnonzero(y > y.mean() + DEVIATIONS * y.std())
        if len(spikes) < 2:
            return {"gaps": np.empty(0), "height": np.array([y.mean(), 0.0])}
        elapsed = float(len(y) - 1 - spikes[-1])
        return {"gaps": np.diff(spikes).astype(np.float64), "height": np.array([y[spikes].mean(), elapsed])}

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        height, elapsed = state["height"]
        if not len(state["gaps"]):
            return np.full(horizon, height)
        reached = self.arrived(state["gaps"], elapsed + np.arange(horizon + 1))
        left = 1.0 - reached[:-1]
        # Where every known gap is exceeded there is nothing left to divide: the spike is overdue, so it is due now.
        chance = np.divide(np.diff(reached), left, out=np.ones(horizon), where=left > 1e-12)
        forecast: Array = chance * height
        return forecast

    def arrived(self, gaps: Array, times: Array) -> Array:
        """Probability that a gap is at most each of ``times``."""
        mean = float(gaps.mean())
        if self.params["fit_model"] == "Expon":
            return -np.expm1(-times / mean)
        if self.params["fit_model"] == "Weibull":
            shape = weibull_shape(mean, float(gaps.std()))
            return -np.expm1(-((times * math.gamma(1.0 + 1.0 / shape) / mean) ** shape))
        return np.searchsorted(np.sort(gaps), times, side="right") / len(gaps)


def weibull_shape(mean: float, deviation: float) -> float:
    """The shape whose coefficient of variation is that of the gaps: moments, because maximum likelihood needs many."""
    wanted = (deviation / mean) ** 2 + 1.0
    low, high = SHAPES
    for _ in range(60):
        shape = (low + high) / 2
        found = math.gamma(1.0 + 2.0 / shape) / math.gamma(1.0 + 1.0 / shape) ** 2
        low, high = (shape, high) if found > wanted else (low, shape)
    return (low + high) / 2
