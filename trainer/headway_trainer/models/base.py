"""What a model is: parameters, a fit that leaves arrays behind, and a forecast from these arrays alone.

Because nothing but ``params`` and ``state`` enters a forecast, a model can be written as JSON and npz and read again by
another machine, which forecasts the same to the last bit; no code travels with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headway_trainer.errors import SeriesRefused, TrainerError
from headway_trainer.models.parameters import Parameter, complete

Array = NDArray[np.float64]
State = dict[str, Array]

LATEST_N = "latest_n"


def latest_n(default: int, intro: str, high: int = 30) -> Parameter:
    """The parameter that most simple models have, under both of its spellings."""
    return Parameter(LATEST_N, "int", default, intro, low=1, search=(1, high), aliases=("lastest_n",))


SEASON = Parameter("season", "int", 1, "steps in a season; 1: none", low=1)


class Model(ABC):
    """A forecasting method. Subclasses give ``name``, ``intro``, ``parameters``, ``learn`` and ``forecast``."""

    name: ClassVar[str]
    intro: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    shortest: ClassVar[int] = 1
    uses_features: ClassVar[bool] = False

    def __init__(self, **params: Any) -> None:
        self.params: dict[str, Any] = complete(self.parameters, params, self.name)
        self.state: State | None = None

    @classmethod  # noqa: B027 - most models need nothing, so there is nothing to check
    def check(cls, place: str) -> None:
        """Raise TrainerError if the model cannot work here, because a library is missing."""

    @abstractmethod
    def learn(self, y: Array, features: Array | None) -> State:
        """What the forecast needs to know of ``y`` (finite, in order of time); ``features`` has a row for each value."""

    @abstractmethod
    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        """``horizon`` values after the last one; ``features`` has a row for each of them, if there are any."""

    def fit(self, y: ArrayLike, features: ArrayLike | None = None) -> Self:
        """Learn from a series. Raises SeriesRefused if it is too short for this model."""
        values = np.asarray(y, dtype=np.float64)
        if values.ndim != 1 or not np.isfinite(values).all():
            raise TrainerError(f"{self.name}: a series is a flat list of finite numbers")
        if len(values) < self.shortest:
            raise SeriesRefused("too-short", f"{self.name} needs {self.shortest} points, and there are {len(values)}")
        self.state = self.learn(values, None if features is None else np.asarray(features, dtype=np.float64))
        return self

    def predict(self, horizon: int, features: ArrayLike | None = None) -> Array:
        """``horizon`` values after the series. Raises TrainerError before :meth:`fit` and for a horizon below 1."""
        if self.state is None:
            raise TrainerError(f"{self.name}: fit it before it can predict")
        if horizon < 1:
            raise TrainerError(f"{self.name}: a horizon of {horizon}; expected at least 1")
        known = None if features is None else np.asarray(features, dtype=np.float64)
        return np.asarray(self.forecast(self.state, horizon, known), dtype=np.float64)
