"""Metrics relative to the size of the values. All are fractions: 0.05 is five percent.

Sources: Hyndman and Koehler (2006); smape as in Makridakis et al., "The M4 Competition", IJF 36 (2020), there times 100;
maape: S. Kim and H. Kim, "A new metric of absolute percentage error for intermittent demand forecasts", IJF 32 (2016).
"""

from __future__ import annotations

import numpy as np

from headway_trainer.metrics.case import Array, Case, Undefined, metric


@metric("mpe", "mean percentage error", "zero")
def mpe(case: Case) -> float:
    """mean(e / a) [Hyndman and Koehler 2006]"""
    return float(np.mean(case.percentage))


@metric("mape", "mean absolute percentage error")
def mape(case: Case) -> float:
    """mean|e / a| [Hyndman and Koehler 2006]"""
    return float(np.mean(np.abs(case.percentage)))


@metric("mdape", "median absolute percentage error")
def mdape(case: Case) -> float:
    """median|e / a| [Hyndman and Koehler 2006]"""
    return float(np.median(np.abs(case.percentage)))


def _symmetric(case: Case) -> Array:
    """2|e| / (|a| + |p|), 0 where both are 0: nothing was missed there."""
    size = np.abs(case.actual) + np.abs(case.predicted)
    parts: Array = 2.0 * np.abs(case.error) / np.where(size > 0.0, size, 1.0)
    return parts


@metric("smape", "symmetric mean absolute percentage error")
def smape(case: Case) -> float:
    """mean(2|e| / (|a| + |p|)), from 0 to 2 [Makridakis et al. 2020]"""
    return float(np.mean(_symmetric(case)))


@metric("smdape", "symmetric median absolute percentage error")
def smdape(case: Case) -> float:
    """median(2|e| / (|a| + |p|)), from 0 to 2 [Hyndman and Koehler 2006]"""
    return float(np.median(_symmetric(case)))


@metric("maape", "mean arctangent absolute percentage error")
def maape(case: Case) -> float:
    """mean(arctan|e / a|), π/2 where a alone is 0; undefined where e and a are both 0 [Kim and Kim 2016]"""
    if not (np.abs(case.actual) + np.abs(case.error)).all():
        raise Undefined("an actual value and its error are both 0")
    return float(np.mean(np.arctan2(np.abs(case.error), np.abs(case.actual))))


@metric("std_ape", "spread of the percentage errors around the mean absolute percentage error")
def std_ape(case: Case) -> float:
    """√(∑(e/a - mean|e/a|)² / (n - 1)), with e signed, as std_ae"""
    if len(case.actual) < 2:
        raise Undefined("it needs two values")
    return float(np.sqrt(np.sum((case.percentage - mape(case)) ** 2) / (len(case.actual) - 1)))


@metric("rmspe", "root mean squared percentage error")
def rmspe(case: Case) -> float:
    """√mean((e / a)²) [Hyndman and Koehler 2006]"""
    return float(np.sqrt(np.mean(case.percentage**2)))


@metric("rmdspe", "root median squared percentage error")
def rmdspe(case: Case) -> float:
    """√median((e / a)²) [Hyndman and Koehler 2006]"""
    return float(np.sqrt(np.median(case.percentage**2)))
