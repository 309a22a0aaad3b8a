"""Predicted against actual waiting times."""

from __future__ import annotations

import math

import pytest

from headway.demo.waits import judge


def test_only_what_was_predicted_is_judged() -> None:
    waits = judge([(1.0, 2.0), (4.0, 3.0), (2.0, 1.0), (-1.0, 50.0)], {"count": 3.0, "p50": 0.5, "p90": 0.9})
    assert (waits.predicted, waits.unknown) == (3, 1)
    assert waits.mean_wait == pytest.approx(2.0)
    assert waits.mean_absolute_error == pytest.approx(1.0)
    assert waits.bias == pytest.approx(1.0 / 3.0)
    assert (waits.scored, waits.p50, waits.p90) == (3, 0.5, 0.9)


def test_nothing_predicted_has_no_mean() -> None:
    waits = judge([(-1.0, 1.0)], {})
    assert (waits.predicted, waits.unknown, waits.scored) == (0, 1, 0)
    assert math.isnan(waits.mean_wait)
    assert math.isnan(waits.p90)
