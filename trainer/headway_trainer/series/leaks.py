"""Features that already know the answer: the target is a weighted sum of them, of the same moment or of the one before.

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
    found = []
    for told, ahead in (("they are not known before it", 0), ("one step before, so they know what comes", 1)):
        pairs = [_pair(one, ahead) for one in usable]
        guilty = _guilty(np.concatenate([y for y, _ in pairs]), np.concatenate([x for _, x in pairs])) if pairs else []
        if guilty:
            found.append(f"the target is a weighted sum of {' and '.join(names[one] for one in guilty)}: {told}")
    return found


def _pair(one: Series, ahead: int) -> tuple[Array, Array]:
    """The target, and the features of the row that lies ``ahead`` steps before."""
    features = np.empty((0, 0)) if one.features is None else one.features
    return one.values[ahead:], features[: len(features) - ahead]


def _guilty(target: Array, features: Array) -> list[int]:
    """The features without which the target is not explained; none if it is not explained with all of them."""
    if len(target) < 2 * features.shape[1] + 3 or not _explained(target, features):
        return []
    needed = [index for index in range(features.shape[1]) if not _explained(target, np.delete(features, index, axis=1))]
    # Where two features say the same, neither alone is needed, so none would be named: then all are.
    return needed or list(range(features.shape[1]))


def _explained(target: Array, features: Array) -> bool:
    centred = target - target.mean()
    whole = float(centred @ centred)
    if whole == 0.0 or not features.shape[1]:
        return False
    matrix = features - features.mean(axis=0)
    weights = np.linalg.lstsq(matrix, centred, rcond=None)[0]
    left = centred - matrix @ weights
    return float(left @ left) / whole < EXACT
