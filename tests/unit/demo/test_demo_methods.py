"""The demo's numerics: against a plain loop, by hand, and against what was published."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headway.demo import data, methods, scores


def slow_fit(series: list[float], alpha: float) -> tuple[float, float]:
    """Smoothing as it stands in the books, one value after the other; the initial level from the normal equation."""

    def errors_from(level: float) -> tuple[list[float], float]:
        errors = []
        for value in series:
            errors.append(value - level)
            level += alpha * errors[-1]
        return errors, level

    zero, one = errors_from(0.0)[0], errors_from(1.0)[0]
    weights = [a - b for a, b in zip(zero, one, strict=True)]
    initial = sum(e * w for e, w in zip(zero, weights, strict=True)) / sum(w * w for w in weights)
    errors, level = errors_from(initial)
    return sum(e * e for e in errors), level


@pytest.mark.parametrize("alpha", [1e-4, 0.1, 0.5, 0.9999])
@pytest.mark.parametrize("length", [1, 2, 3, 64, 257])
def test_the_scan_equals_the_loop(alpha: float, length: int) -> None:
    series = np.cumsum(np.random.default_rng(length).normal(size=length)) + 100.0
    squares, levels = methods.smoothing_fit(series, np.array([alpha, 0.3]))
    expected_squares, expected_level = slow_fit(series.tolist(), alpha)
    assert squares[0] == pytest.approx(expected_squares, rel=1e-8, abs=1e-9)
    assert levels[0] == pytest.approx(expected_level, rel=1e-9)


def test_the_search_finds_no_worse_than_a_fine_grid() -> None:
    series = np.random.default_rng(7).normal(size=300).cumsum() * 0.3 + np.random.default_rng(8).normal(size=300)
    alphas = np.linspace(methods.ALPHA_LOW, methods.ALPHA_HIGH, 5000)
    squares, levels = methods.smoothing_fit(series, alphas)
    assert methods.smoothed_level(series) == pytest.approx(levels[np.argmin(squares)], abs=1e-3)


def test_small_cases_by_hand() -> None:
    assert methods.forecast("Naive", [1, 2, 5], 2).tolist() == [5.0, 5.0]
    assert methods.forecast("SES", [3.0, 3.0, 3.0], 2) == pytest.approx([3.0, 3.0])
    # A straight line: half of it goes on, the other half is flat at the last level of 2y - line, which is the line.
    assert methods.forecast("Theta", [1.0, 2.0, 3.0, 4.0], 1)[0] == pytest.approx(0.5 * 5.0 + 0.5 * 4.0, abs=1e-3)
    assert (methods.forecast("Theta", [5.0, 3.0, 1.0, 0.0], 20) >= 0.0).all()


def test_measures_by_hand() -> None:
    actual, predicted = np.array([2.0, 0.0]), np.array([6.0, 0.0])
    assert methods.smape(actual, predicted) == pytest.approx((200 * 4 / 8 + 0) / 2)
    assert methods.mase(np.array([1.0, 3.0, 2.0]), actual, predicted) == pytest.approx(2.0 / 1.5)
    assert methods.mase(np.array([1.0, 1.0]), actual, predicted) == math.inf


@pytest.mark.parametrize(
    ("method", "series"), [("ARIMA", [1.0]), ("SES", []), ("SES", [1.0, math.nan]), ("SES", [[1.0]])]
)
def test_what_cannot_be_forecast_is_refused(method: str, series: list[float]) -> None:
    with pytest.raises(ValueError, match=r"unknown method|a series is"):
        methods.forecast(method, series, 3)


def test_the_published_figures_are_met() -> None:
    cases = data.load()
    assert len(cases) == 359
    assert {len(case.test) for case in cases} == {13}
    outcome = {name: [methods.evaluate(name, case.train, case.test) for case in cases] for name in methods.METHODS}
    for row in scores.table(outcome):
        assert abs(row.smape - row.published_smape) <= 0.003, row
        assert abs(row.mase - row.published_mase) <= 0.003, row
        assert row.agrees


def test_a_wrong_or_missing_mean_does_not_agree() -> None:
    right = [[9.161, 2.777]]
    rows = scores.table({"Naive": right, "SES": [[9.012, 2.689]]})
    assert [row.agrees for row in rows] == [True, False, False]
