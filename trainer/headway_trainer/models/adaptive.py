"""Maxima and averages whose window is chosen by a backtest over the last points."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from headway_trainer.models.base import Array, State, latest_n
from headway_trainer.models.parameters import Parameter
from headway_trainer.models.registry import model
from headway_trainer.models.simple import Level

CHOOSE = Parameter(
    "choose",
    "choice",
    "least",
    "the window with the least error, or with the most as older programs did by a slip of sign",
    choices=("least", "most"),
)


class Adaptive(Level):
    """For windows of 1 to ``latest_n`` values: how well does ``summary`` of a window foretell the value after it?"""

    summary: ClassVar[Callable[..., Array]]
    parameters = (latest_n(5, "the longest window, and over how many of the last points it is tried"), CHOOSE)

    def learn(self, y: Array, features: Array | None) -> State:
        trials = self.params["latest_n"]
        if len(y) < trials + 1:
            return {"level": np.array([self.reduce(y)]), "window": np.array([float(len(y))])}
        errors = [self.backtest(y, window, trials) for window in range(1, min(len(y) // 2, trials) + 1)]
        least = self.params["choose"] == "least"
        window = 1 + int(np.argmin(errors) if least else np.argmax(errors))
        return {"level": np.array([self.reduce(y[-window:])]), "window": np.array([float(window)])}

    def reduce(self, values: Array) -> float:
        return float(type(self).summary(values))

    def backtest(self, y: Array, window: int, trials: int) -> float:
        """Mean squared error over the last ``trials`` points, those without a whole window before them left out."""
        first = max(len(y) - trials, window)
        windows = np.lib.stride_tricks.sliding_window_view(y, window)[first - window : len(y) - window]
        return float(np.mean((type(self).summary(windows, axis=1) - y[first:]) ** 2))


@model
class AdaptiveMaxN(Adaptive):
    """The greatest of the last n values, with the n that did best."""

    name = "AdaptiveMaxN"
    intro = "the greatest of the last values, how many is learnt"
    summary = np.max


@model
class AdaptiveAverageN(Adaptive):
    """The mean of the last n values, with the n that did best."""

    name = "AdaptiveAverageN"
    intro = "the mean of the last values, how many is learnt"
    summary = np.mean
