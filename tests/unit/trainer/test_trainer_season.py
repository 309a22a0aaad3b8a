"""The season that a series has if none is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headway_trainer.cli import _job
from headway_trainer.errors import TrainerError
from headway_trainer.running.job import Job
from headway_trainer.series.dates import Step, parse_frequency
from headway_trainer.series.record import Columns, Series

COLUMNS = Columns("y", "ds")
MONTHLY = Step(months=1)


@pytest.mark.parametrize(
    ("frequency", "season"),
    [
        ("M", 12),
        ("2M", 6),
        ("Q", 4),
        ("Y", 1),
        ("5M", 1),
        ("2Y", 1),
        ("h", 24),
        ("6h", 4),
        ("5h", 1),
        ("15min", 1),
        ("D", 1),
        ("7D", 1),
        ("W", 1),
    ],
)
def test_seasons_are_those_of_the_m4_competition(frequency: str, season: int) -> None:
    assert parse_frequency(frequency).season == season


def series(points: int, step: Step | None = MONTHLY) -> Series:
    start = np.datetime64("2000-01-01", "s")
    times = start + np.arange(points) * np.timedelta64(1, "D")  # only the step and the length count here
    return Series("[]", (), times, np.arange(float(points)), None, step)


def test_a_season_is_taken_where_each_look_back_learns_from_more_than_one() -> None:
    job = Job("none.csv", COLUMNS, horizon=4, folds=3)
    assert job.season_of(series(25)) == 12, "the first of three looks back, of 4 points each, knows 13"
    assert job.season_of(series(24)) == 1
    assert job.season_of(series(1)) == 1
    assert job.season_of(series(100, step=None)) == 1


def test_one_that_is_given_stays_and_the_older_validation_has_none() -> None:
    assert Job("none.csv", COLUMNS, season=7).season_of(series(100)) == 7
    assert Job("none.csv", COLUMNS, season=1).season_of(series(100)) == 1
    assert Job("none.csv", COLUMNS, validation="legacy").season_of(series(100)) == 1


def test_the_command_line_takes_a_number_or_auto(tmp_path: Any) -> None:
    given = {"time": "ds", "target": "y"}
    assert [_job(tmp_path, {**given, "season": one}).season for one in ("12", "auto")] == [12, "auto"]
    assert _job(tmp_path, given).season == "auto"
    for wrong in ("yearly", "0", "-1"):
        with pytest.raises(TrainerError, match=r"season: .* expected a whole number of at least 1, or 'auto'"):
            _job(tmp_path, {**given, "season": wrong})
