"""How well a model would have done: rolling origin, and the rule of the trainer that came before, for comparison.

This runs inside trials on runtimes, so it imports numpy and nothing larger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway_trainer import metrics
from headway_trainer.errors import SeriesRefused, TrainerError
from headway_trainer.models.registry import find_model, make_model

Array = NDArray[np.float64]

LEGACY_LEAST, LEGACY_MOST, LEGACY_SHARE = 5, 48, 0.8
ROLLING, LEGACY = "rolling", "legacy"


@dataclass(frozen=True)
class Fold:
    """One look back: the model saw the first ``cut`` points and foretold the next ones."""

    cut: int
    predicted: list[float]


@dataclass(frozen=True)
class Validation:
    """Metrics as means over the folds where they are defined, the folds, and what was not defined or not used."""

    metrics: dict[str, float | None]
    folds: list[Fold]
    warnings: list[str] = field(default_factory=list)


def rolling_folds(length: int, horizon: int, folds: int, shortest: int = 2) -> list[tuple[int, int]]:
    """(cut, end) of each fold, expanding, the last one ending with the series.

    A short series has fewer folds; one that is shorter still a shorter horizon, so that at least half of it is learnt
    from. Empty if not even one point can be foretold.
    """
    if horizon < 1 or folds < 1:
        raise TrainerError(f"validation: horizon {horizon} and {folds} folds; expected at least 1 of each")
    learnt = max(shortest, 2)
    reach = min(horizon, max(length // 2, 1), length - learnt)
    if reach < 1:
        return []
    count = min(folds, max((length - max(learnt, reach)) // reach, 1))
    cuts = [length - reach * (count - index) for index in range(count)]
    return [(cut, cut + reach) for cut in cuts]


def legacy_length(y: Array) -> int:
    """Points kept for validation by the older rule: from 5 on, until they hold their share of the mean."""
    if len(y) <= LEGACY_LEAST:
        return LEGACY_LEAST
    tried = range(LEGACY_LEAST, min(LEGACY_MOST, len(y)))
    return next((i for i in tried if y[-i:].sum() >= LEGACY_SHARE * y.mean() * i), tried[-1] if tried else LEGACY_LEAST)


def validate(
    model: str,
    params: Mapping[str, Any],
    y: Array,
    *,
    horizon: int,
    names: Sequence[str],
    folds: int = 3,
    season: int = 1,
    features: Array | None = None,
    validation: str = ROLLING,
) -> Validation:
    """The metrics ``names`` of a model on a series. Raises SeriesRefused if the series is too short to tell.

    Features of the foretold part are the last known row, repeated: nothing after the cut is shown to the model.
    """
    if validation == LEGACY:
        return _legacy(model, params, y, names)
    if validation != ROLLING:
        raise TrainerError(f"validation: {validation!r} is neither {ROLLING!r} nor {LEGACY!r}")
    kind = find_model(model)
    cuts = rolling_folds(len(y), horizon, folds, kind.shortest)
    if not cuts:
        raise SeriesRefused("too-short", f"{len(y)} points are too few to validate {model}")
    fitted, found, scores = kind(**params), [], []
    for cut, end in cuts:
        known = None if features is None else features[:cut]
        ahead = None if features is None else np.repeat(features[cut - 1 : cut], end - cut, axis=0)
        predicted = fitted.fit(y[:cut], known).predict(end - cut, ahead)
        must_be_finite(model, predicted)
        found.append(Fold(cut, predicted.tolist()))
        scores.append(metrics.evaluate(names, y[cut:end], predicted, y[:cut], season))
    return Validation(_means(names, scores), found, sorted({one for score in scores for one in score.warnings}))


def must_be_finite(model: str, predicted: Array) -> None:
    """Raises SeriesRefused for a forecast with an infinite value, or with none."""
    if not np.isfinite(predicted).all():
        raise SeriesRefused("not-finite", f"{model} foretold a value that is not finite")


def _means(names: Sequence[str], scores: Sequence[metrics.Scores]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for name in names:
        known = [value for score in scores if (value := score[name]) is not None]
        means[name] = float(np.mean(known)) if known else None
    return means


def _legacy(model: str, params: Mapping[str, Any], y: Array, names: Sequence[str]) -> Validation:
    """One fold, forecasts rounded and not negative, windows chosen by the most error: as the older program did."""
    held = legacy_length(y)
    if len(y) <= held:
        raise SeriesRefused("too-short", f"{len(y)} points are too few: {held} are kept for validation")
    given = dict(params)
    if any(parameter.name == "choose" for parameter in find_model(model).parameters):
        given.setdefault("choose", "most")
    predicted = rounded(make_model(model, given).fit(y[:-held]).predict(held))
    scores = metrics.evaluate(names, y[-held:], predicted)
    return Validation(scores.values, [Fold(len(y) - held, [float(value) for value in predicted])], scores.warnings)


def rounded(values: Array) -> Array:
    """Whole numbers that are not negative."""
    return np.array([float(round(value)) if value > 0 else 0.0 for value in values.tolist()])
