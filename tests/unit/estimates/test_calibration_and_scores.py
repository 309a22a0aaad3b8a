"""Scales converge to the share that is wanted whatever the raw error was; scores say how well that went."""

from __future__ import annotations

import random

import pytest

from headway_controller.estimates import Calibration, Scores


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_nine_in_ten_start_by_p90_and_half_by_p50(factor: float) -> None:
    source = random.Random(1)
    calibration, scores = Calibration(), Scores()
    for count in range(6000):
        seen = source.expovariate(1.0)
        raw, error = factor, 0.3 * factor
        expectation, p50, p90 = calibration.quantiles("q", raw, error)
        assert 0.0 <= p50 <= p90
        if count > 1000:
            scores.observe("t", seen, expectation, p50, p90)
        calibration.observe("q", seen, raw, p50, p90)
    row = scores.as_dict()[""]
    assert row["p90"] == pytest.approx(0.9, abs=0.03)
    assert row["p50"] == pytest.approx(0.5, abs=0.05)
    assert abs(row["bias"]) < 0.1


def test_queues_are_calibrated_by_themselves_and_come_back_from_storage() -> None:
    calibration = Calibration()
    for _ in range(300):
        calibration.observe("late", 10.0, 1.0, 1.0, 2.0)
    assert calibration.quantiles("late", 1.0, 1.0)[2] > calibration.quantiles("other", 1.0, 1.0)[2]
    again = Calibration.from_state(calibration.to_state())
    assert again.quantiles("late", 1.0, 1.0) == calibration.quantiles("late", 1.0, 1.0)


def test_extreme_waits_leave_the_scales_finite() -> None:
    calibration = Calibration()
    for seen in [0.0] * 2000 + [1e9] * 2000:
        calibration.observe("q", seen, 1.0, 0.5, 1.0)
        for value in calibration.quantiles("q", 1.0, 1.0):
            assert 0.0 <= value < 1e5


def test_scores_are_kept_per_target_within_bounds_and_come_back() -> None:
    scores = Scores()
    for number in range(3000):
        scores.observe(f"t{number}", 1.0, 2.0, 1.5, 3.0, immediate=number % 2 == 0)
    table = scores.as_dict()
    assert len(table) <= 1002
    assert table[""]["error"] == table[""]["bias"] == pytest.approx(1.0)
    assert table["*"]["count"] == 1000
    assert Scores.from_state(scores.to_state()).as_dict() == table
