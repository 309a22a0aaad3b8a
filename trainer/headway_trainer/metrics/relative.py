"""Metrics relative to the naive forecast of the same values, e*[t] = a[t] - a[t-m], from the (m+1)-th value on.

Sources: Hyndman and Koehler (2006) for mrae, mdrae, gmrae; C. Chen, J. Twycross and J. M. Garibaldi, "A new accuracy
measure based on bounded relative error for time series forecasting", PLoS ONE 12 (2017) for mbrae and umbrae; M. H. Pesaran and
A. Timmermann, "A simple nonparametric test of predictive performance", JBES 10 (1992) for the share of right directions.
"""

from __future__ import annotations

import numpy as np

from headway_trainer.metrics.case import Array, Case, Undefined, geometric, metric


def _ratio(case: Case) -> Array:
    naive = case.naive
    if not naive.all():
        raise Undefined("the naive forecast is exact somewhere")
    ratio: Array = case.error[case.season :] / naive
    return ratio


@metric("mre", "mean relative error", "zero")
def mre(case: Case) -> float:
    """mean(e / e*) [Hyndman and Koehler 2006]"""
    return float(np.mean(_ratio(case)))


@metric("mrae", "mean relative absolute error")
def mrae(case: Case) -> float:
    """mean|e / e*| [Hyndman and Koehler 2006]"""
    return float(np.mean(np.abs(_ratio(case))))


@metric("mdrae", "median relative absolute error")
def mdrae(case: Case) -> float:
    """median|e / e*| [Hyndman and Koehler 2006]"""
    return float(np.median(np.abs(_ratio(case))))


@metric("gmrae", "geometric mean relative absolute error")
def gmrae(case: Case) -> float:
    """(∏|e / e*|)^(1/n); 0 as soon as one error is 0 [Hyndman and Koehler 2006]"""
    return geometric(np.abs(_ratio(case)))


@metric("mbrae", "mean bounded relative absolute error")
def mbrae(case: Case) -> float:
    """mean(|e| / (|e| + |e*|)), from 0 to 1 [Chen et al. 2017]"""
    error, naive = np.abs(case.error[case.season :]), np.abs(case.naive)
    if not (error + naive).all():
        raise Undefined("the forecast and the naive one are both exact somewhere")
    return float(np.mean(error / (error + naive)))


@metric("umbrae", "unscaled mean bounded relative absolute error")
def umbrae(case: Case) -> float:
    """mbrae / (1 - mbrae); 1 is as good as the naive forecast [Chen et al. 2017]"""
    bounded = mbrae(case)
    if bounded == 1.0:
        raise Undefined("the naive forecast is exact everywhere")
    return bounded / (1.0 - bounded)


@metric("mda", "mean directional accuracy", "higher")
def mda(case: Case) -> float:
    """mean(sign(a[t] - a[t-1]) = sign(p[t] - p[t-1])), from 0 to 1 [Pesaran and Timmermann 1992]"""
    if len(case.actual) < 2:
        raise Undefined("a direction needs two values")
    return float(np.mean(np.sign(np.diff(case.actual)) == np.sign(np.diff(case.predicted))))
