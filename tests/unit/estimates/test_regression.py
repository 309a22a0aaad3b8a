"""Ridge regression with forgetting: exact on exact data, steady on constant data, and it grows."""

from __future__ import annotations

import random

import pytest

from headway_controller.estimates.regression import Regression


def test_a_plane_is_found() -> None:
    source = random.Random(1)
    regression = Regression(3)
    for _ in range(300):
        x = [1.0, source.uniform(0, 5), source.uniform(0, 5)]
        regression.observe(x, 2.0 + 0.5 * x[1] - 0.3 * x[2])
    regression.solve()
    assert regression.beta == pytest.approx([2.0, 0.5, -0.3], abs=0.02)


def test_a_feature_that_never_changes_harms_nothing() -> None:
    regression = Regression(2)
    for _ in range(1000):
        regression.observe([1.0, 7.0], 3.0)
    regression.solve()
    assert regression.predict([1.0, 7.0]) == pytest.approx(3.0, abs=0.01)


def test_a_batch_is_as_its_members_one_by_one() -> None:
    one, many = Regression(2), Regression(2)
    for _ in range(20):
        one.observe([1.0, 2.0], 5.0)
    many.observe([1.0, 2.0], 5.0, 20)
    assert many.weight == pytest.approx(one.weight)
    assert [value for row in many.matrix for value in row[:2]] == pytest.approx(
        [value for row in one.matrix for value in row[:2]]
    )


def test_it_grows_without_forgetting() -> None:
    regression = Regression(1)
    for _ in range(100):
        regression.observe([1.0], 4.0)
    regression.grow(3)
    regression.solve()
    assert regression.predict([1.0, 0.0, 0.0]) == pytest.approx(4.0, abs=0.01)


def test_what_is_stored_comes_back_and_what_is_no_state_is_refused() -> None:
    regression = Regression(3)
    source = random.Random(2)
    for _ in range(50):
        x = [1.0, source.random(), source.random()]
        regression.observe(x, sum(x))
    regression.solve()
    again = Regression.from_state(regression.to_state())
    assert again.beta == pytest.approx(regression.beta)
    for bad in ({"matrix": [[1.0]], "c": [], "weight": 1.0}, {"matrix": [[1.0, 2.0]], "c": [1.0], "weight": 1.0}):
        with pytest.raises(ValueError, match="regression"):
            Regression.from_state(bad)
