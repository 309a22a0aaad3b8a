"""What a metric is given, how it is registered, and the one function that computes several of them.

A metric is a function of a :class:`Case` that returns a number or raises :class:`Undefined`. Nothing is added to a
denominator to keep it from zero: the tiny constants that are usual there turn "undefined" into 10^10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headway_trainer.errors import TrainerError, UnknownName

Array = NDArray[np.float64]
Better = Literal["lower", "higher", "zero"]


class Undefined(Exception):
    """This metric has no value here; the text says why."""


@dataclass(frozen=True)
class Case:
    """Actual and predicted values of the same moments, and the training values before them, if they are known."""

    actual: Array
    predicted: Array
    train: Array | None = None
    season: int = 1

    @property
    def error(self) -> Array:
        """Actual minus predicted."""
        return self.actual - self.predicted

    @property
    def percentage(self) -> Array:
        """Error over actual, as a fraction. Undefined where an actual value is 0."""
        if not self.actual.all():
            raise Undefined("an actual value is 0")
        return self.error / self.actual

    @property
    def naive(self) -> Array:
        """Errors of the (seasonal) naive forecast within the actual values: a[m:] - a[:-m]."""
        if len(self.actual) <= self.season:
            raise Undefined(f"it compares with the value {self.season} before, and there are {len(self.actual)}")
        return self.actual[self.season :] - self.actual[: -self.season]

    @property
    def scale(self) -> float:
        """Mean absolute (seasonal) naive error of the training part; without one, of the actual values themselves."""
        known = self.actual if self.train is None else self.train
        if len(known) <= self.season:
            raise Undefined(f"the scale needs more than {self.season} values, and there are {len(known)}")
        scale = float(np.mean(np.abs(known[self.season :] - known[: -self.season])))
        if scale == 0.0:
            raise Undefined("the values that give the scale never change")
        return scale


@dataclass(frozen=True)
class Metric:
    """A metric of the registry. ``better``: which values are preferred."""

    name: str
    title: str
    function: Callable[[Case], float]
    better: Better = "lower"


METRICS: dict[str, Metric] = {}


def metric(
    name: str, title: str, better: Better = "lower"
) -> Callable[[Callable[[Case], float]], Callable[[Case], float]]:
    """Register a function of a :class:`Case` under ``name``; a user's own comes in the same way."""

    def register(function: Callable[[Case], float]) -> Callable[[Case], float]:
        METRICS[name] = Metric(name, title, function, better)
        return function

    return register


def find_metric(name: object, place: str = "metric") -> Metric:
    """The metric of that name. Raises UnknownName, which lists them all."""
    if not isinstance(name, str) or name not in METRICS:
        raise UnknownName(place, "metric", name, METRICS)
    return METRICS[name]


@dataclass(frozen=True)
class Scores:
    """Values by name, None where undefined, and for each None a sentence that says why."""

    values: dict[str, float | None]
    warnings: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> float | None:
        return self.values[name]


def evaluate(
    names: Iterable[str],
    actual: ArrayLike,
    predicted: ArrayLike,
    train: ArrayLike | None = None,
    season: int = 1,
) -> Scores:
    """The metrics ``names`` of one forecast; ``train`` gives the scaled ones their scale.

    Raises TrainerError for lengths that differ, nothing to compare, or values that are not finite.
    """
    known = None if train is None else _values("train", train)
    case = Case(_values("actual", actual), _values("predicted", predicted), known, season)
    if len(case.actual) != len(case.predicted) or not len(case.actual):
        raise TrainerError(f"metrics: {len(case.actual)} actual and {len(case.predicted)} predicted values")
    if season < 1:
        raise TrainerError(f"metrics: a season of {season}; expected at least 1")
    values: dict[str, float | None] = {}
    warnings = []
    with np.errstate(all="ignore"):
        for name in names:
            try:
                values[name] = _finite(find_metric(name), case)
            except Undefined as reason:
                values[name] = None
                warnings.append(f"{name} is not defined: {reason}")
    return Scores(values, warnings)


def _values(what: str, given: ArrayLike) -> Array:
    values = np.asarray(given, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise TrainerError(f"metrics: {what} must be a flat list of finite numbers")
    return values


def _finite(wanted: Metric, case: Case) -> float:
    value = float(wanted.function(case))
    if not math.isfinite(value):
        raise Undefined("the numbers are too large for it")
    return value


def loss_of(name: str, value: float) -> float:
    """A number that a search can minimise: the value, its negative, or its distance from 0."""
    better = find_metric(name).better
    if better == "lower":
        return value
    return -value if better == "higher" else abs(value)


def geometric(values: Array) -> float:
    """Geometric mean of values ≥ 0, by logarithms so that a product of many does not overflow; 0 if one is 0."""
    return float(np.exp(np.mean(np.log(values)))) if values.all() else 0.0
