"""Regression on the last values, and on features as they were one step before: scikit-learn and LightGBM.

The forecast goes step by step, each step's value among the last values of the next. A feature of a step is not known
before the step: the row of the step before is used, in learning and in forecasting alike, so nothing is learnt that is
not there when it counts.

LightGBM's trees are exported as its own text. scikit-learn has no export but pickle, which runs code; what is exported is
the series itself, and the regressor is fitted again when it is loaded: the same arithmetic with the same seed.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from headway_trainer.models.base import Array, State
from headway_trainer.models.optional import Borrowed
from headway_trainer.models.parameters import Parameter
from headway_trainer.models.registry import model

SEED = 0
LAGS = Parameter("lags", "int", 6, "how many of the last values are looked at", low=1, search=(2, 14))
OF = Parameter(
    "of", "choice", "change", "what is learnt: the value, or its change to the one before", choices=("change", "value")
)
DEPTH = Parameter("max_depth", "int", 4, "levels of a tree", low=1, high=64, search=(2, 8))
TREES = Parameter("n_estimators", "int", 100, "trees", low=1, search=(20, 200))
RATE = Parameter(
    "learning_rate", "float", 0.1, "share of each tree that is taken", low=1e-6, high=1.0, search=(0.01, 0.5)
)


def rows(values: Array, lags: int, features: Array | None) -> tuple[Array, Array]:
    """What is known before each value from the ``lags``-th on, and the values. Shapes (n, lags + features) and (n,)."""
    known = np.lib.stride_tricks.sliding_window_view(values, lags)[:-1]
    if features is not None:
        known = np.concatenate([known, features[-len(known) - 1 : -1]], axis=1)
    return np.ascontiguousarray(known), values[lags:]


class Regression(Borrowed):
    """A regressor of rows. Subclasses give ``fitted`` and what is kept of it."""

    uses_features = True
    shortest = 4

    def learn(self, y: Array, features: Array | None) -> State:
        state = {"y": y} if features is None else {"y": y, "features": features}
        with self.fitting():
            return state | self.kept(self._regressor(state))

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        with self.fitting():
            regressor = self.restored(state)
            lags, values = self._lags(state), list(self._learnt(state["y"]))
            latest = [] if "features" not in state else list(state["features"][-1])
            found = []
            for _ in range(horizon):
                value = float(self.predicted(regressor, np.array([values[-lags:] + latest])))
                values.append(value)
                found.append(value)
        forecast = np.array(found)
        return state["y"][-1] + np.cumsum(forecast) if self.params["of"] == "change" else forecast

    def kept(self, regressor: Any) -> State:
        """What the state has besides the series."""
        self._last = regressor
        return {}

    def restored(self, state: State) -> Any:
        """The regressor that belongs to a state."""
        return self._last if state is self.state and self._last is not None else self._regressor(state)

    _last: Any = None

    def predicted(self, regressor: Any, row: Array) -> float:
        return float(regressor.predict(row)[0])

    def fitted(self, known: Array, values: Array) -> Any:
        """A regressor that has learnt the rows."""
        raise NotImplementedError

    def _regressor(self, state: State) -> Any:
        values = self._learnt(state["y"])
        features = state.get("features")
        return self.fitted(*rows(values, self._lags(state), None if features is None else features[-len(values) :]))

    def _learnt(self, y: Array) -> Array:
        return np.diff(y) if self.params["of"] == "change" else y

    def _lags(self, state: State) -> int:
        """A short series is looked at through a shorter window, so that some rows are left to learn from."""
        lags: int = self.params["lags"]
        return max(1, min(lags, len(state["y"]) // 2 - 1))


class ScikitLearn(Regression):
    """A regressor of scikit-learn; parameters of the model whose names are ``own`` are the regressor's."""

    needs, extra = "sklearn", "sklearn"
    kind: ClassVar[str]
    own: ClassVar[tuple[str, ...]]
    fixed: ClassVar[dict[str, Any]] = {}

    def fitted(self, known: Array, values: Array) -> Any:
        kind = getattr(self.library, self.kind)
        given = {name: self.params[name] for name in self.own}
        if "n_neighbors" in given:
            given["n_neighbors"] = min(given["n_neighbors"], len(values))
        return kind(**given, **self.fixed).fit(known, values)


@model
class Ridge(ScikitLearn):
    """A weighted sum of the last values, with small weights preferred."""

    name = "Ridge"
    intro = "a weighted sum of the last values (scikit-learn)"
    home, kind, own = "sklearn.linear_model", "Ridge", ("alpha",)
    parameters = (
        LAGS,
        OF,
        Parameter("alpha", "float", 1.0, "how much small weights are preferred", low=0.0, search=(0.0, 10.0)),
    )


@model
class KNeighbors(ScikitLearn):
    """The mean of what followed the most similar stretches of the past."""

    name = "KNeighbors"
    intro = "what followed similar stretches (scikit-learn)"
    home, kind, own = "sklearn.neighbors", "KNeighborsRegressor", ("n_neighbors",)
    parameters = (LAGS, OF, Parameter("n_neighbors", "int", 5, "how many similar stretches", low=1, search=(1, 20)))


@model
class RandomForest(ScikitLearn):
    """The mean of many trees, each grown on a sample of the rows."""

    name = "RandomForest"
    intro = "a forest of trees (scikit-learn)"
    home, kind, own = "sklearn.ensemble", "RandomForestRegressor", ("n_estimators", "max_depth")
    fixed: ClassVar[dict[str, Any]] = {"random_state": SEED, "n_jobs": 1}
    parameters = (LAGS, OF, TREES, DEPTH)


@model
class GradientBoosting(ScikitLearn):
    """Trees, each of which learns what those before it missed."""

    name = "GradientBoosting"
    intro = "boosted trees (scikit-learn)"
    home, kind, own = "sklearn.ensemble", "GradientBoostingRegressor", ("n_estimators", "max_depth", "learning_rate")
    fixed: ClassVar[dict[str, Any]] = {"random_state": SEED}
    parameters = (LAGS, OF, TREES, DEPTH, RATE)


@model
class LightGBM(Regression):
    """Trees, each of which learns what those before it missed, grown leaf by leaf."""

    name = "LightGBM"
    intro = "boosted trees (LightGBM)"
    needs, extra, home = "lightgbm", "lightgbm", "lightgbm"
    parameters = (
        LAGS,
        OF,
        TREES,
        RATE,
        Parameter("num_leaves", "int", 15, "leaves of a tree", low=2, search=(4, 63)),
        Parameter("min_child_samples", "int", 5, "rows that a leaf needs", low=1, search=(2, 30)),
    )

    def fitted(self, known: Array, values: Array) -> Any:
        lightgbm = self.library
        own = {name: self.params[name] for name in ("learning_rate", "num_leaves", "min_child_samples")}
        fixed = {"verbosity": -1, "num_threads": 1, "deterministic": True, "seed": SEED, "objective": "regression"}
        return lightgbm.train({**own, **fixed}, lightgbm.Dataset(known, values), self.params["n_estimators"])

    def kept(self, regressor: Any) -> State:
        super().kept(regressor)
        return {"text": np.frombuffer(regressor.model_to_string().encode(), dtype=np.uint8).astype(np.float64)}

    def restored(self, state: State) -> Any:
        if state is self.state and self._last is not None:
            return self._last
        return self.library.Booster(model_str=state["text"].astype(np.uint8).tobytes().decode())
