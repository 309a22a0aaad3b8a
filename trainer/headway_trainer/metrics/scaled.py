"""Metrics scaled by the naive error of the training part, so that series of different units can be averaged.

Source: Hyndman and Koehler (2006). The scale is q = mean|y[t] - y[t-m]| over the training values.
"""

from __future__ import annotations

import numpy as np

from headway_trainer.metrics.case import Case, metric


@metric("mase", "mean absolute scaled error")
def mase(case: Case) -> float:
    """mean|e| / q [Hyndman and Koehler 2006]"""
    return float(np.mean(np.abs(case.error)) / case.scale)


@metric("rmsse", "root mean squared scaled error")
def rmsse(case: Case) -> float:
    """√mean((e / q)²) [Hyndman and Koehler 2006]. The M5 competition divides by the mean squared naive error instead."""
    return float(np.sqrt(np.mean((case.error / case.scale) ** 2)))
