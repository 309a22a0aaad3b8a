"""The histogram of ratios: moments, quantiles, remaining life, fading, storage."""

from __future__ import annotations

import math
import random

import pytest

from headway_controller.estimates.residuals import RENORMALISE_AT, Residuals


def filled(logs: list[float]) -> Residuals:
    residuals = Residuals()
    residuals.observe_logs(logs)
    residuals.refresh()
    return residuals


def test_mean_and_quantiles_of_a_log_normal_spread() -> None:
    source = random.Random(1)
    residuals = filled([source.gauss(0.0, 0.5) for _ in range(5000)])
    assert residuals.mean == pytest.approx(math.exp(0.125), rel=0.05)
    assert residuals.quantile(0.5) == pytest.approx(1.0, rel=0.06)
    assert residuals.quantile(0.9) == pytest.approx(math.exp(0.5 * 1.2816), rel=0.08)
    assert residuals.variance == pytest.approx((math.exp(0.25) - 1) * math.exp(0.25), rel=0.2)


def test_quantiles_rise_with_the_level_and_are_beyond_the_age() -> None:
    source = random.Random(2)
    residuals = filled([source.gauss(0.0, 1.0) for _ in range(1000)])
    for age in (0.0, 0.5, 2.0, 1e9):
        values = [residuals.quantile(p / 20, age) for p in range(21)]
        assert values == sorted(values)
        assert values[0] >= age


def test_remaining_life_of_equal_times_falls_and_of_exponential_ones_stays() -> None:
    equal = filled([0.0] * 1000)
    assert equal.remaining(0.5)[0] == pytest.approx(0.55, rel=0.1)
    source = random.Random(3)
    memoryless = filled([math.log(source.expovariate(1.0)) for _ in range(4000)])
    for age in (0.1, 0.5, 1.0, 2.0):
        assert memoryless.remaining(age)[0] == pytest.approx(1.0, rel=0.25)


def test_beyond_the_data_it_is_as_long_again_as_it_has_run() -> None:
    residuals = filled([0.0] * 1000)
    assert residuals.remaining(50.0) == (50.0, 2500.0)


@pytest.mark.parametrize("log", [-1e9, 1e9, -800.0, 800.0])
def test_ratios_beyond_all_bounds_collect_at_the_ends(log: float) -> None:
    residuals = filled([log] * 10 + [0.0] * 10)
    assert math.isfinite(residuals.mean)
    assert math.isfinite(residuals.variance)


def test_the_weights_are_scaled_back_before_they_overflow() -> None:
    residuals = Residuals()
    for _ in range(200):
        residuals.observe_logs([0.1] * 1000)
        residuals.refresh()
        assert residuals._unit <= RENORMALISE_AT * 4
    assert residuals.observed() == pytest.approx(1443, rel=0.05)
    assert residuals.mean == pytest.approx(math.exp(0.1), rel=0.06)


def test_what_is_stored_comes_back() -> None:
    source = random.Random(4)
    residuals = filled([source.gauss(0.0, 0.7) for _ in range(500)])
    again = Residuals.from_state(residuals.to_state())
    assert again.mean == pytest.approx(residuals.mean, rel=0.02)
    assert again.quantile(0.9) == pytest.approx(residuals.quantile(0.9), rel=0.02)
    with pytest.raises((TypeError, KeyError, ValueError)):
        Residuals.from_state({"buckets": "none"})
