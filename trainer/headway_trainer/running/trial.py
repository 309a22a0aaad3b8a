"""What runs on a runtime: one trial, one whole study, and the forecast at the end. It imports numpy and no more.

Only a whole study with the engine hyperopt loads hyperopt there, because its suggestions are made beside the trials.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from headway_bus import task_context
from headway_trainer import metrics
from headway_trainer.errors import SeriesRefused
from headway_trainer.models.registry import make_model
from headway_trainer.validation import LEGACY, Validation, must_be_finite, rounded, validate

Plain = dict[str, Any]
SERIES = "series.npz"
"""The file that is attached to the tasks of a long series; ``values`` and ``features`` are then None."""

SERIES_KEPT = 4


def run_trial(model: str, params: Plain, values: Any, features: Any, settings: Plain) -> Plain:
    """Validate one model with one set of parameters. ``loss`` is None where the metric has no value; then a reason."""
    found = _validated(model, params, values, features, settings)
    value = found.metrics[settings["metric"]]
    if value is None:
        reason = next((one for one in found.warnings if one.startswith(settings["metric"])), "the metric has no value")
        return {"loss": None, "reason": reason}
    return {"loss": metrics.loss_of(settings["metric"], value), "metrics": found.metrics}


@functools.lru_cache(maxsize=SERIES_KEPT)
def _read_series(path: str) -> tuple[Any, Any]:
    """By its path, which has the hash of the content: the trials of one series in one process read it once."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["values"], arrays["features"] if "features" in arrays.files else None


def _series(values: Any, features: Any) -> tuple[Any, Any]:
    if values is not None:
        return values, features
    kept, kept_features = _read_series(str(task_context.current().files[SERIES]))
    # Copies: a model that writes into what it is given must not change the next trial's series.
    return kept.copy(), None if kept_features is None else kept_features.copy()


def run_study(model: str, state: list[Plain], values: Any, features: Any, settings: Plain) -> list[Plain]:
    """All trials that are left of a study, one after the other; its state afterwards."""
    from headway_trainer.studies.study import Study

    study = Study.load(state)
    settings = settings | {"metrics": [settings["metric"]]}  # the others are told of the best one only
    while (trial := study.ask()) is not None:
        try:
            found = run_trial(model, trial.values, values, features, settings)
            study.tell(trial.number, found["loss"], reason=found.get("reason", ""))
        except Exception as error:  # whatever a model may raise is this trial's end and not that of the others
            study.tell(trial.number, reason=f"{type(error).__name__}: {error}")
    return study.state()


def run_forecast(model: str, params: Plain, values: Any, features: Any, settings: Plain) -> Plain:
    """Metrics and folds of the chosen model, and its forecast after all points have been learnt."""
    values, features = _series(values, features)
    y = np.asarray(values, dtype=np.float64)
    found: Plain = {"model": model, "params": params, "metrics": {}, "folds": [], "warnings": []}
    try:
        validation = _validated(model, params, y, features, settings)
        found |= {"metrics": validation.metrics, "warnings": validation.warnings}
        found["folds"] = [{"cut": fold.cut, "predicted": fold.predicted} for fold in validation.folds]
    except SeriesRefused as refused:
        found["warnings"] = [str(refused)]
    known = None if features is None else np.asarray(features, dtype=np.float64)
    fitted = make_model(model, params).fit(y, known)
    horizon = settings["horizon"]
    predicted = fitted.predict(horizon, None if known is None else np.repeat(known[-1:], horizon, axis=0))
    found["params"] = fitted.params
    if settings.get("export"):
        found["state"] = fitted.state
    told = rounded(predicted) if settings["validation"] == LEGACY else predicted
    must_be_finite(model, told)
    found["forecast"] = told.tolist()
    return found


def _validated(model: str, params: Plain, values: Any, features: Any, settings: Plain) -> Validation:
    values, features = _series(values, features)
    return validate(
        model,
        params,
        np.asarray(values, dtype=np.float64),
        horizon=settings["horizon"],
        names=settings["metrics"],
        folds=settings["folds"],
        season=settings["season"],
        features=None if features is None else np.asarray(features, dtype=np.float64),
        validation=settings["validation"],
    )
