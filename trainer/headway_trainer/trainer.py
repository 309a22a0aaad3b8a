"""``trainer(model_name, config).train(...)`` and ``.predict(k)`` of the document's example, without a bus.

With ``validation="legacy"`` (the default here) it gives the numbers that the document prints: the model is not fitted
again after the validation, so its forecasts are those of the points held back, although their dates follow the last
one. With ``"rolling"`` it is fitted on all points, and the dates are right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headway_trainer import metrics as catalogue
from headway_trainer.errors import TrainerError
from headway_trainer.models.base import Model
from headway_trainer.models.registry import make_model
from headway_trainer.series.dates import US_DATES, parse_all
from headway_trainer.series.record import REFUSED, Policies, Series
from headway_trainer.series.repair import repair
from headway_trainer.validation import LEGACY, legacy_length, rounded, validate


class Trainer:
    """One model on one series."""

    def __init__(
        self,
        model_name: str,
        config: Mapping[str, Any] | None = None,
        metrics: Sequence[str] = ("mse", "rmse"),
        validation: str = LEGACY,
        horizon: int = 5,
    ) -> None:
        self._name, self._config = model_name, dict(config or {})
        self._metrics = tuple(catalogue.find_metric(name).name for name in metrics)
        self._validation, self._horizon = validation, horizon
        self._series: Series | None = None
        self._model: Model = make_model(model_name, self._config)

    def train(
        self, dataset: Sequence[Sequence[Any]], target_idx: int, ts_idx: int, feature_idx: Sequence[int] = ()
    ) -> tuple[dict[str, float | None], dict[str, Any], Model]:
        """Metrics, parameters, and the fitted model. Raises TrainerError for rows that are no series."""
        series = _series(dataset, target_idx, ts_idx, feature_idx)
        y, features = series.values, series.features
        own = {"horizon": self._horizon, "names": self._metrics, "validation": self._validation}
        found = validate(self._name, self._config, y, features=features, **own)  # type: ignore[arg-type]
        seen = len(y) - legacy_length(y) if self._validation == LEGACY else len(y)
        self._model.fit(y[:seen], None if features is None else features[:seen])
        self._series = series
        return found.metrics, dict(self._model.params), self._model

    def predict(self, steps: int) -> Mapping[str, float]:
        """The next ``steps`` values by their moments. Raises TrainerError before :meth:`train`."""
        if self._series is None:
            raise TrainerError("trainer: train it before it can predict")
        features = self._series.features
        values = self._model.predict(steps, None if features is None else np.repeat(features[-1:], steps, axis=0))
        shown = [int(one) for one in rounded(values)] if self._validation == LEGACY else [float(one) for one in values]
        return dict(zip(self._series.future(steps), shown, strict=True))


trainer = Trainer
"""The document's spelling."""


def _series(rows: Sequence[Sequence[Any]], target: int, time: int, features: Sequence[int]) -> Series:
    texts = [str(row[time]) for row in rows]
    moments, wrong = parse_all(texts, "")
    if wrong:
        moments, wrong = parse_all(texts, US_DATES)
    if wrong:
        raise TrainerError(f"row {wrong[0]}: {texts[wrong[0]]!r} is neither an ISO date nor one of the form {US_DATES}")
    try:
        numbers = np.array([[float(row[column] or "nan") for column in (target, *features)] for row in rows])
    except ValueError as error:
        raise TrainerError(f"dataset: {error}") from None
    found = repair((), moments, numbers, Policies())
    if found.status == REFUSED:
        raise TrainerError(f"dataset: {found.reasons[-1]}")
    return found
