"""ARIMA and ETS by statsmodels: the library finds the coefficients, which are then enough to forecast the same again."""

from __future__ import annotations

from typing import Any

import numpy as np

from headway_trainer.errors import SeriesRefused
from headway_trainer.models.base import SEASON, Array, State
from headway_trainer.models.optional import Borrowed
from headway_trainer.models.parameters import Parameter
from headway_trainer.models.registry import model
from headway_trainer.models.seasonal import SEASONS

NO, YES = "no", "yes"


def order(name: str, default: int, high: int, intro: str, searched: bool = True) -> Parameter:
    """One of the numbers in brackets behind the word ARIMA."""
    return Parameter(name, "int", default, intro, low=0, high=high, search=(0, min(high, 2)) if searched else None)


LOG = Parameter(
    "log", "choice", NO, "whether the logarithm is fitted; then all values must be above 0", choices=(NO, YES)
)


@model
class ARIMA(Borrowed):
    """Seasonal ARIMA(p, d, q)(P, D, Q) by maximum likelihood, plus a multiple of the spread of its residuals.

    The second bracket counts only where there is a season and three of it fit into the series. Without differencing it has
    a mean. Box and Jenkins, "Time Series Analysis" (1970).
    """

    name = "ARIMA"
    intro = "autoregression and moving average of differences"
    needs, extra, home = "statsmodels", "statsmodels", "statsmodels.tsa.statespace.sarimax"
    shortest = 8
    parameters = (
        order("p", 1, 5, "values before that count"),
        order("d", 1, 2, "times that differences are taken"),
        order("q", 1, 5, "errors before that count"),
        order("P", 0, 2, "values of seasons before that count", searched=False),
        order("D", 1, 1, "times that differences to the season before are taken", searched=False),
        order("Q", 1, 2, "errors of seasons before that count", searched=False),
        LOG,
        Parameter("add_std_factor", "float", 0.0, "standard deviations of the residuals to add"),
        SEASON,
    )

    def learn(self, y: Array, features: Array | None) -> State:
        own = self._transformed(y)
        with self.fitting():
            found = self._built(own).fit(disp=False, maxiter=100)
            spread = float(np.std(found.resid[self._lost(own) :])) if len(own) > self._lost(own) else 0.0
            return {"y": own, "coefficients": np.asarray(found.params), "spread": np.array([spread])}

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        with self.fitting():
            known = self._built(state["y"]).filter(state["coefficients"])
            values = np.asarray(known.forecast(horizon)) + self.params["add_std_factor"] * state["spread"][0]
        forecast: Array = np.exp(values) if self.params["log"] == YES else values
        return forecast

    def _transformed(self, y: Array) -> Array:
        if self.params["log"] == NO:
            return y
        if not (y > 0.0).all():
            raise SeriesRefused("not-fitted", f"{self.name}: log = 'yes' needs values above 0")
        return np.log(y)

    def _built(self, y: Array) -> Any:
        given, seasonal = self.params, self._seasonal(y)
        if len(y) <= self._lost(y) + 2:
            raise SeriesRefused("too-short", f"{self.name}: {len(y)} points are too few for {given['d']} differences")
        trend = "n" if given["d"] + seasonal[1] else "c"
        return self.library.SARIMAX(y, order=(given["p"], given["d"], given["q"]), seasonal_order=seasonal, trend=trend)

    def _seasonal(self, y: Array) -> tuple[int, int, int, int]:
        given, season = self.params, self.params["season"]
        if season < 2 or len(y) < SEASONS * season:
            return 0, 0, 0, 0
        return given["P"], given["D"], given["Q"], season

    def _lost(self, y: Array) -> int:
        """Points that differencing uses up."""
        seasonal = self._seasonal(y)
        return int(self.params["d"]) + seasonal[1] * seasonal[3]


@model
class ETS(Borrowed):
    """Exponential smoothing in its state space form, by maximum likelihood.

    R. J. Hyndman, A. B. Koehler, J. K. Ord, R. D. Snyder, "Forecasting with Exponential Smoothing" (2008).
    """

    name = "ETS"
    intro = "exponential smoothing by maximum likelihood"
    needs, extra, home = "statsmodels", "statsmodels", "statsmodels.tsa.exponential_smoothing.ets"
    shortest = 8
    parameters = (
        Parameter("error", "choice", "add", "how errors enter", choices=("add", "mul")),
        Parameter("trend", "choice", "damped", "how the trend enters", choices=("none", "add", "mul", "damped")),
        Parameter(
            "seasonal",
            "choice",
            "auto",
            "how the season enters; auto: if three fit into the series, as a factor where all values are above 0",
            choices=("auto", "none", "add", "mul"),
        ),
        SEASON,
    )

    def learn(self, y: Array, features: Array | None) -> State:
        with self.fitting():
            return {"y": y, "coefficients": np.asarray(self._built(y).fit(disp=False, maxiter=200).params)}

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        with self.fitting():
            return np.asarray(self._built(state["y"]).smooth(state["coefficients"]).forecast(horizon))

    def _built(self, y: Array) -> Any:
        given, season = self.params, self.params["season"]
        seasonal = self._seasonal(y)
        trend = {"none": None, "damped": "add"}.get(given["trend"], given["trend"])
        if seasonal and len(y) < 2 * season + 2:
            raise SeriesRefused("too-short", f"{self.name}: {len(y)} points are too few for a season of {season}")
        if "mul" in (given["error"], trend, seasonal) and not (y > 0.0).all():
            raise SeriesRefused("not-fitted", f"{self.name}: a multiplicative part needs values above 0")
        kind = self.library.ETSModel
        own = {
            "error": given["error"],
            "trend": trend,
            "damped_trend": given["trend"] == "damped",
            "seasonal": seasonal,
        }
        return kind(y, **own, seasonal_periods=season if seasonal else None)

    def _seasonal(self, y: Array) -> str | None:
        given, season = self.params["seasonal"], self.params["season"]
        if season < 2 or given == "none":
            return None
        if given != "auto":
            return str(given)
        if len(y) < SEASONS * season:
            return None
        return "mul" if (y > 0.0).all() else "add"
