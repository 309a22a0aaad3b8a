from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway_trainer import metrics

VALUES = st.one_of(st.just(0.0), st.floats(-1e6, 1e6).filter(lambda value: abs(value) > 1e-6))
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=20)

IN_UNITS = ("rmse", "me", "bias", "mae", "mad", "gmae", "mdae", "std_ae")
EXACT_AT_ZERO = ("mse", "rmse", "me", "mae", "gmae", "mdae", "smape", "smdape")
EQUAL = (("me", "bias"), ("mae", "mad"), ("inrse", "rrse"))
BOUNDED = {"smape": 2.0, "smdape": 2.0, "maape": math.pi / 2, "mbrae": 1.0, "mda": 1.0}


@given(PAIRS, st.lists(VALUES, max_size=20), st.integers(1, 4))
def test_every_metric_is_a_finite_number_or_none_with_a_reason(
    pairs: list[tuple[float, float]], train: list[float], season: int
) -> None:
    actual, predicted = zip(*pairs, strict=True)
    found = metrics.evaluate(metrics.NAMES, actual, predicted, train, season)
    assert all(value is None or math.isfinite(value) for value in found.values.values())
    assert len(found.warnings) == sum(value is None for value in found.values.values())
    for name, high in BOUNDED.items():
        value = found[name]
        assert value is None or 0.0 <= value <= high + 1e-12


@given(PAIRS)
def test_a_perfect_forecast_has_no_error(pairs: list[tuple[float, float]]) -> None:
    actual = [value for value, _ in pairs]
    assert set(metrics.evaluate(EXACT_AT_ZERO, actual, actual).values.values()) == {0.0}


@given(PAIRS, st.sampled_from([0.5, 2.0, 1024.0]))
def test_metrics_in_units_grow_with_the_unit_and_the_others_do_not(
    pairs: list[tuple[float, float]], unit: float
) -> None:
    actual, predicted = np.array(pairs).T
    before = metrics.evaluate(metrics.NAMES, actual, predicted, actual)
    after = metrics.evaluate(metrics.NAMES, actual * unit, predicted * unit, actual * unit)
    for name, value in before.values.items():
        factor = unit**2 if name == "mse" else unit if name in IN_UNITS else 1.0
        expected = None if value is None else pytest.approx(value * factor, rel=1e-6, abs=1e-9)
        assert after[name] == expected, name


@given(PAIRS)
def test_names_for_the_same_thing_agree(pairs: list[tuple[float, float]]) -> None:
    actual, predicted = zip(*pairs, strict=True)
    found = metrics.evaluate(metrics.NAMES, actual, predicted)
    assert all(found[one] == found[other] for one, other in EQUAL)
    rmse, mae = found["rmse"], found["mae"]
    assert rmse is not None and mae is not None and rmse >= mae * (1 - 1e-9)
