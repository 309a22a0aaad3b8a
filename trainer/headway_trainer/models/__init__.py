"""Forecasting models in numpy. A runtime that runs trials imports this and neither pandas nor hyperopt.

::

    base         what a model is
    parameters   their descriptions and checks
    registry     models by name
    simple       the last value, averages, maxima, lines
    adaptive     maxima and averages whose window is chosen by a backtest
    smoothing    exponential smoothing, Holt, damped trend, Theta
    seasonal     the test for a season and its removal, as in the M4 competition
    arrival, new_arrival   series of spikes
    optional     what models of other libraries share; these are imported when such a model is fitted
    statespace   ARIMA and ETS by statsmodels
    regression   scikit-learn and LightGBM on the last values and on features
    files        JSON and npz
"""

from __future__ import annotations

from headway_trainer.models.base import Model
from headway_trainer.models.files import load_model, save_model
from headway_trainer.models.parameters import Parameter
from headway_trainer.models.registry import catalogue, describe, find_model, make_model, model

__all__ = [
    "Model",
    "Parameter",
    "catalogue",
    "describe",
    "find_model",
    "load_model",
    "make_model",
    "model",
    "save_model",
]
