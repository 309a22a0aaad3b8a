"""Predictors that learn nothing: a table that somebody measured, and the cost that the caller states.

Both come from document 002, which speaks milliseconds; seconds are used everywhere else, so the conversion is here, at
their own door.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headway_controller.estimates.estimate import Estimate
from headway_controller.estimates.meta import finite
from headway_controller.estimates.predictor import LearnedPredictor, Predictor

MILLISECOND = 1e-3
MODEL_KEYS = ("name", "hardware", "software_name", "software_version")


def expectation_and_error(quantiles: Mapping[float, float]) -> tuple[float, float] | None:
    """Quantiles to (expectation, error) in their own unit (S-16); None when 0.25, 0.5 or 0.75 is missing.

    The error is the interquartile range in standard deviations of a normal distribution, times a factor of at most 1.5
    that says how much heavier the upper tail is than normal.
    """
    if not all(level in quantiles for level in (0.25, 0.5, 0.75)):
        return None
    q25, q50, q75 = quantiles[0.25], quantiles[0.5], quantiles[0.75]
    expectation = 0.7 * q50 + 0.15 * q25 + 0.15 * q75
    spread = q75 - q25
    if spread <= 0.0:
        return expectation, 0.0
    factor = 1.5
    if 0.99 in quantiles and q75 > q50:
        factor = min(1.5, max((quantiles[0.99] - q50) / (1.65 * (q75 - q50)), 0.0))
    return expectation, spread / 1.349 * factor


class Row:
    """One record of a lookup table: what it is for, and its quantiles in milliseconds."""

    __slots__ = ("error", "expectation", "levels", "model", "model_type", "values")

    def __init__(self, record: Mapping[str, Any]) -> None:
        info = record.get("model_info") or {}
        self.model_type = str(record.get("model_type") or info.get("type") or "")
        self.model = {key: str(info[key]) for key in MODEL_KEYS if key in info}
        self.levels = [float(level) for level in record.get("quantiles", ())]
        self.values = [float(value) for value in record.get("quantile_predictions", ())]
        if len(self.levels) != len(self.values):
            raise ValueError("as many quantile_predictions as quantiles are expected")
        if any(not math.isfinite(value) or value < 0.0 for value in self.values):
            raise ValueError("quantile_predictions must be finite and not negative")
        stated = (finite(record.get("expect")), finite(record.get("error")))
        found = expectation_and_error(dict(zip(self.levels, self.values, strict=True)))
        if stated[0] is not None:
            self.expectation, self.error = stated[0], stated[1] or 0.0
        elif found is not None:
            self.expectation, self.error = found
        else:
            raise ValueError("neither expect nor the quantiles 0.25, 0.5 and 0.75 are given")

    def matches(self, target: str, meta: Mapping[str, Any]) -> bool:
        if self.model_type not in (target, target.partition(":")[2]):  # "model:ocr" is what placement calls "ocr"
            return False
        return all(
            str(meta.get(f"model_{key}" if key == "name" else key, value)) == value for key, value in self.model.items()
        )

    def quantile(self, p: float) -> float:
        """Milliseconds, by linear interpolation; the outermost values beyond the outermost levels."""
        levels, values = self.levels, self.values
        if not levels or p <= levels[0]:
            return values[0] if values else self.expectation
        for at in range(1, len(levels)):
            if p <= levels[at]:
                share = (p - levels[at - 1]) / (levels[at] - levels[at - 1]) if levels[at] > levels[at - 1] else 1.0
                return values[at - 1] + share * (values[at] - values[at - 1])
        return values[-1]


class LookupTablePredictor:
    """S-23: records ``{status: "success", model_type, model_info, quantiles, quantile_predictions, (expect, error)}``.

    Of several that match, the one that names most is taken (document 002 takes a random one: an answer that changes
    between two equal questions). What the table does not know, ``otherwise`` predicts.
    """

    def __init__(self, table: Iterable[Mapping[str, Any]], otherwise: Predictor | None = None) -> None:
        self.otherwise: Predictor = otherwise if otherwise is not None else LearnedPredictor()
        self.total = 0
        self.refused = 0
        rows: list[Row] = []
        for record in table:
            self.total += 1
            try:
                if record.get("status") == "success":
                    rows.append(Row(record))
            except (TypeError, ValueError, AttributeError):
                self.refused += 1
        self._rows: Sequence[Row] = sorted(rows, key=lambda row: -len(row.model))

    def stats(self) -> dict[str, Any]:
        """S-23's ``get_stats()``, and how many records could not be read."""
        return {
            "total_records": self.total,
            "successful_records": len(self._rows),
            "refused_records": self.refused,
            "model_types": sorted({row.model_type for row in self._rows}),
        }

    def predict(self, target: str, meta: Mapping[str, Any], runtime: str) -> Estimate:
        row = next((row for row in self._rows if row.matches(target, meta)), None)
        if row is None:
            return self.otherwise.predict(target, meta, runtime)
        return Estimate(
            row.expectation * MILLISECOND,
            row.error * MILLISECOND,
            quantile=(lambda p: row.quantile(p) * MILLISECOND) if row.levels else None,
        )

    def remaining(self, estimate: Estimate, age: float) -> Estimate:
        return remaining_of(estimate, age, self.otherwise)

    def observe(self, target: str, meta: Mapping[str, Any], runtime: str, seconds: float) -> None:
        self.otherwise.observe(target, meta, runtime, seconds)


class ServerTimeCostPredictor:
    """S-14: ``meta["server_time_cost"]`` in milliseconds is the expectation, and the error is √(0.05 · cost), as there.

    Tasks that do not state it are left to ``otherwise``.
    """

    KEY = "server_time_cost"

    def __init__(self, otherwise: Predictor | None = None) -> None:
        self.otherwise: Predictor = otherwise if otherwise is not None else LearnedPredictor()

    def predict(self, target: str, meta: Mapping[str, Any], runtime: str) -> Estimate:
        cost = finite(meta.get(self.KEY))
        if cost is None or cost < 0.0:
            return self.otherwise.predict(target, meta, runtime)
        return Estimate(cost * MILLISECOND, math.sqrt(0.05 * cost) * MILLISECOND)

    def remaining(self, estimate: Estimate, age: float) -> Estimate:
        return remaining_of(estimate, age, self.otherwise)

    def observe(self, target: str, meta: Mapping[str, Any], runtime: str, seconds: float) -> None:
        self.otherwise.observe(target, meta, runtime, seconds)


def remaining_of(estimate: Estimate, age: float, otherwise: Predictor) -> Estimate:
    """What is left of a stated time: the rest of it, and when that is over, as long again as it has run."""
    if estimate.source is not None:
        return otherwise.remaining(estimate, age)
    age = max(age, 0.0)
    if age < estimate.expectation:
        return Estimate(estimate.expectation - age, estimate.error, estimate.known, estimate.why)
    return Estimate(age, age, estimate.known, estimate.why)
