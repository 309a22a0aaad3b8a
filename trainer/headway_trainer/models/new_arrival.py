"""Spikes with a rise and a decline of their own: where in a spike the series stands decides what comes next."""

from __future__ import annotations

import numpy as np

from headway_trainer.models.base import Array, Model, State, latest_n
from headway_trainer.models.parameters import Parameter
from headway_trainer.models.registry import model

QUIET, RISING, DECLINING = 0.0, 1.0, 2.0
GREATEST = 3
"""``max_n`` limits a forecast by the mean of this many of the highest spikes."""


@model
class NewRandomArrival(Model):
    """Spikes found by z-score, their rise and decline measured, and continued from where the series ends.

    A quiet end forecasts the quiet level. Within a rise, ``exponential`` multiplies by the mean growth, ``linear`` adds
    the mean step, ``expectation`` goes to confidence × mean height, where confidence is the share of spikes that rose
    higher than this one has; ``auto`` is expectation below the threshold, else the greater of it and exponential. After
    the mean length of a rise the decline begins, and no forecast of it goes below the quiet level.
    """

    name = "NewRandomArrival"
    intro = "spikes that rise and decline"
    parameters = (
        Parameter("spike_detect_lag", "int", 12, "values that say what is usual", low=2),
        Parameter("spike_detect_std_threshold", "float", 2.0, "standard deviations of a spike", low=0.0),
        Parameter("spike_detect_influence", "float", 0.5, "weight of a spike in what is usual", low=0.0, high=1.0),
        latest_n(360, "how many of the last values are looked at", high=360),
        Parameter(
            "rise_strategy", "choice", "auto", "how it rises", choices=("exponential", "expectation", "linear", "auto")
        ),
        Parameter(
            "decline_strategy",
            "choice",
            "exponential",
            "how it declines",
            choices=("exponential", "expectation", "linear"),
        ),
        Parameter("confidence_threshold", "float", 0.5, "below it, auto is expectation", low=0.0, high=1.0),
        Parameter("height_limit", "choice", "average", "what no forecast exceeds", choices=("average", "max_n")),
    )

    def learn(self, y: Array, features: Array | None) -> State:
        seen = y[-self.params["latest_n"] :]
        flags = self.spikes(seen)
        quiet = float(seen[~flags].mean()) if not flags.all() else float(seen.mean())
        runs = _runs(flags)
        rises = [(seen[first : first + 1 + int(np.argmax(seen[first:end]))], seen[first:end]) for first, end in runs]
        heights = np.array([spike.max() - quiet for _, spike in rises])
        now = [quiet, float(seen[-1]), QUIET, 0.0]
        if flags[-1]:
            rise, spike = rises[-1]
            now[2:] = [RISING if len(rise) == len(spike) else DECLINING, float(len(rise))]
        return {"now": np.array(now), "heights": heights, "shape": np.array(_shape(rises, quiet))}

    def spikes(self, y: Array) -> NDBool:
        """Which values are further above the smoothed mean of the values before than the threshold allows."""
        lag, weight = self.params["spike_detect_lag"], self.params["spike_detect_influence"]
        flags, smoothed = np.zeros(len(y), dtype=np.bool_), y.copy()
        for at in range(lag, len(y)):
            window = smoothed[at - lag : at]
            limit = window.mean() + self.params["spike_detect_std_threshold"] * window.std()
            if y[at] > limit:
                flags[at] = True
                smoothed[at] = weight * y[at] + (1.0 - weight) * smoothed[at - 1]
        return flags

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        quiet, value, phase, risen = state["now"]
        if phase == QUIET or not len(state["heights"]):
            return np.full(horizon, quiet)
        length, limit = state["shape"][0], quiet + self.limit(state["heights"])
        values = np.empty(horizon)
        for step in range(horizon):
            rising = phase == RISING and risen < length
            value = self.risen(state, value) if rising else self.declined(state, value)
            value = values[step] = max(min(value, max(limit, quiet)), quiet)
            risen, phase = risen + 1.0, RISING if rising else DECLINING
        return values

    def limit(self, heights: Array) -> float:
        """The height above the quiet level that no forecast exceeds."""
        if self.params["height_limit"] == "average":
            return float(heights.mean())
        return float(np.sort(heights)[-GREATEST:].mean())

    def risen(self, state: State, value: float) -> float:
        """The value one step further into a rise."""
        quiet, heights = float(state["now"][0]), state["heights"]
        _, growth, step, _, _ = state["shape"]
        confidence = float(np.mean(heights > value - quiet))
        expected = quiet + confidence * float(heights.mean())
        exponential = quiet + (value - quiet) * growth
        strategy = self.params["rise_strategy"]
        if strategy == "auto":
            unsure = confidence < self.params["confidence_threshold"]
            return expected if unsure else float(max(expected, exponential))
        return float({"exponential": exponential, "expectation": expected, "linear": value + step}[strategy])

    def declined(self, state: State, value: float) -> float:
        """The value one step further into a decline."""
        quiet = float(state["now"][0])
        _, _, _, decay, step = state["shape"]
        strategy = self.params["decline_strategy"]
        return float(
            {"exponential": quiet + (value - quiet) * decay, "expectation": quiet, "linear": value - step}[strategy]
        )


NDBool = np.ndarray[tuple[int], np.dtype[np.bool_]]


def _runs(flags: NDBool) -> list[tuple[int, int]]:
    """First index and end of each run of flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def _shape(rises: list[tuple[Array, Array]], quiet: float) -> list[float]:
    """Mean length of a rise, its growth and step, decay and step of a decline. Means of none are neutral."""
    growths = [g for rise, _ in rises for g in (rise[1:] - quiet) / (rise[:-1] - quiet) if np.isfinite(g) and g > 0]
    falls = [spike[len(rise) - 1 :] for rise, spike in rises]
    decays = [d for fall in falls for d in (fall[1:] - quiet) / (fall[:-1] - quiet) if np.isfinite(d) and 0 <= d <= 1]
    length = float(np.mean([len(rise) for rise, _ in rises])) if rises else 1.0
    height = float(np.mean([rise[-1] - quiet for rise, _ in rises])) if rises else 0.0
    fall = float(np.mean([len(fall) for fall in falls])) if falls else 1.0
    growth = float(np.mean(growths)) if growths else 1.0
    decay = float(np.mean(decays)) if decays else 0.5
    return [length, growth, height / length, decay, height / fall]
