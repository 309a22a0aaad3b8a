"""The 32 accuracy metrics of forecasts, and :func:`evaluate`, which computes those that are asked for."""

from __future__ import annotations

from headway_trainer.metrics import absolute, percentage, relative, scaled
from headway_trainer.metrics.case import METRICS, Case, Metric, Scores, Undefined, evaluate, find_metric, loss_of

NAMES = tuple(METRICS)

__all__ = [
    "METRICS",
    "NAMES",
    "Case",
    "Metric",
    "Scores",
    "Undefined",
    "absolute",
    "evaluate",
    "find_metric",
    "loss_of",
    "percentage",
    "relative",
    "scaled",
]
