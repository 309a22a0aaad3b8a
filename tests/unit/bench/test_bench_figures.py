"""Figures as they are told."""

from __future__ import annotations

import pytest

from headway.bench import report
from headway.bench.figures import figure, number, percentile
from headway.cli import bench


def test_a_figure_is_the_median_with_its_spread() -> None:
    found = figure("key", "what", "ms", [3.0, 1.0, 2.0])
    assert (found.value, found.low, found.high, found.rounds) == (2.0, 1.0, 3.0, 3)
    assert found.data()["key"] == "key"


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.5, 50), (0.99, 99), (1.0, 99)])
def test_percentiles_are_values_that_were_measured(share: float, expected: int) -> None:
    assert percentile(list(range(100)), share) == expected


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.01234, "0.0123"), (12.345, "12.3"), (1234.5, "1,234"), (123456.0, "123,000")]
)
def test_numbers_have_the_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text


def test_the_command_offers_what_can_be_measured() -> None:
    assert bench.KINDS == report.KINDS
    assert set(report.USUAL) < set(report.KINDS)
