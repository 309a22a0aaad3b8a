"""Features that already know the answer: the target is a weighted sum of them.

Counts by kind that add up to the total are the usual case. Such a feature is not known when the forecast is made, and a
model that is given it looks perfect until it is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headway_trainer.series.record import REFUSED, Array, Series

EXACT = 1e-9
"""Unexplained share of the variance below which the sum is no coincidence."""


def check_leaks(series: Sequence[Series], names: Sequence[str]) -> list[str]:
    """A sentence for each set of features that gives the target away; none if all is well."""
    usable = [one for one in series if one.status != REFUSED and one.features is not None]
    if not usable:
        return []
    target = np.concatenate([one.values for one in usable])
    features = np.concatenate([one.features for one in usable if one.features is not None])
    if len(target) < 2 * features.shape[1] + 3 or not _explained(target, features):
        return []
    guilty = [index for index in range(features.shape[1]) if not _explained(target, np.delete(features, index, axis=1))]
    # Where two features say the same, neither alone is needed, so none would be named: then all are.
    told = [names[index] for index in guilty] or list(names)
    return [f"the target is a weighted sum of {' and '.join(told)}: they are not known before it"]


def _explained(target: Array, features: Array) -> bool:
    centred = target - target.mean()
    whole = float(centred @ centred)
    if whole == 0.0 or not features.shape[1]:
        return False
    matrix = features - features.mean(axis=0)
    weights = np.linalg.lstsq(matrix, centred, rcond=None)[0]
    left = centred - matrix @ weights
    return float(left @ left) / whole < EXACT
