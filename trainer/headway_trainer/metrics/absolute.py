"""Metrics in the units of the series, and those of its variance.

Sources: R. J. Hyndman and A. B. Koehler, "Another look at measures of forecast accuracy", IJF 22 (2006); for the errors
relative to those of the mean I. H. Witten and E. Frank, "Data Mining" (2005), section 5.8. nrmse has no single source.
a: actual, p: predicted, e = a - p, n: number of values.
"""

from __future__ import annotations

import numpy as np

from headway_trainer.metrics.case import Array, Case, Undefined, geometric, metric


@metric("mse", "mean squared error")
def mse(case: Case) -> float:
    """mean(e²) [Hyndman and Koehler 2006]"""
    return float(np.mean(case.error**2))


@metric("rmse", "root mean squared error")
def rmse(case: Case) -> float:
    """√mean(e²) [Hyndman and Koehler 2006]"""
    return float(np.sqrt(mse(case)))


@metric("nrmse", "root mean squared error over the range of the actual values")
def nrmse(case: Case) -> float:
    """√mean(e²) / (max a - min a) [no single source; the norm is the range]"""
    spread = float(np.ptp(case.actual))
    if spread == 0.0:
        raise Undefined("all actual values are the same")
    return rmse(case) / spread


@metric("me", "mean error", "zero")
def me(case: Case) -> float:
    """mean(e) [Hyndman and Koehler 2006]"""
    return float(np.mean(case.error))


@metric("bias", "bias", "zero")
def bias(case: Case) -> float:
    """mean(e), the same as me [Hyndman and Koehler 2006]"""
    return me(case)


@metric("mae", "mean absolute error")
def mae(case: Case) -> float:
    """mean|e| [Hyndman and Koehler 2006]"""
    return float(np.mean(np.abs(case.error)))


@metric("mad", "mean absolute deviation")
def mad(case: Case) -> float:
    """mean|e|, the same as mae [Hyndman and Koehler 2006]"""
    return mae(case)


@metric("gmae", "geometric mean absolute error")
def gmae(case: Case) -> float:
    """(∏|e|)^(1/n); 0 as soon as one error is 0 [Hyndman and Koehler 2006]"""
    return geometric(np.abs(case.error))


@metric("mdae", "median absolute error")
def mdae(case: Case) -> float:
    """median|e| [Hyndman and Koehler 2006]"""
    return float(np.median(np.abs(case.error)))


@metric("std_ae", "spread of the errors around the mean absolute error")
def std_ae(case: Case) -> float:
    """√(∑(e - mean|e|)² / (n - 1)), with e signed, as in the catalogue that this list comes from"""
    if len(case.actual) < 2:
        raise Undefined("it needs two values")
    return float(np.sqrt(np.sum((case.error - mae(case)) ** 2) / (len(case.actual) - 1)))


def _deviation(case: Case) -> Array:
    deviation: Array = case.actual - case.actual.mean()
    if np.ptp(case.actual) == 0.0:
        raise Undefined("all actual values are the same")
    return deviation


@metric("inrse", "integral normalised root squared error")
def inrse(case: Case) -> float:
    """√(∑e² / ∑(a - mean a)²) [Witten and Frank 2005]"""
    return float(np.sqrt(np.sum(case.error**2) / np.sum(_deviation(case) ** 2)))


@metric("rrse", "root relative squared error")
def rrse(case: Case) -> float:
    """√(∑e² / ∑(a - mean a)²), the same as inrse [Witten and Frank 2005]"""
    return inrse(case)


@metric("rae", "relative absolute error")
def rae(case: Case) -> float:
    """∑|e| / ∑|a - mean a| [Witten and Frank 2005]"""
    return float(np.sum(np.abs(case.error)) / np.sum(np.abs(_deviation(case))))


@metric("r2", "coefficient of determination", "higher")
def r2(case: Case) -> float:
    """1 - ∑e² / ∑(a - mean a)²; negative where the actual values' mean would have been better [any textbook]"""
    return 1.0 - inrse(case) ** 2
