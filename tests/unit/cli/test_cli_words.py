"""Lengths, moments, sizes and records in the form that people and programs read."""

from __future__ import annotations

import json
import math
import time
from decimal import Decimal

import numpy as np
import pytest

from headway.cli import words
from headway_bus.ids import new_task_id, text_of
from headway_bus.records import ErrorInfo, Estimate, Kind, Options, Reason


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.00042, "0.42 ms"),
        (0.34, "340 ms"),
        (0.9999, "1 s"),
        (1.25, "1.25 s"),
        (12, "12 s"),
        (59.4, "59.4 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (3599.9, "1 h"),
        (7500, "2 h 5 min"),
        (86400 * 3 + 3600 * 4, "3 d 4 h"),
        (86400 * 365, "365 d"),
        (-2, "-2 s"),
        (math.inf, "unknown"),
        (math.nan, "unknown"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_moments_of_another_day_have_a_date() -> None:
    now = time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))
    assert words.moment(now, now) == "12:00:00"
    assert words.moment(now - 86400, now) == "2026-03-03 12:00:00"
    assert words.moment(0, now) == "-"
    assert words.iso(1_700_000_000.25) == "2023-11-14T22:13:20.250+00:00"
    assert words.iso(0) is None


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (100 * 2**20, "100 MiB"), (2**50, "1.02e+03 TiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert words.size(count) == text


def test_estimates_say_when_they_are_unknown() -> None:
    assert words.estimate(Estimate(12.0, 3.0)) == "12 s ± 3 s"
    assert words.estimate(Estimate(12.0, 3.0, known=False, why="nothing seen")) == "unknown"
    assert words.estimate(None) == "unknown"
    now = time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))
    assert words.predicted_moment(Estimate(60.0, 3.0), now) == "~12:01:00 ± 3 s"


def test_plain_data_is_valid_json_whatever_the_value() -> None:
    task = new_task_id()
    value = {
        "task": task,
        "other": b"\x00\xff",
        "error": ErrorInfo(Reason.EXIT, "no", exit_code=3),
        "options": Options(Kind.CALL, "m:f", after=[task]),
        "not a number": math.nan,
        "array": np.arange(3.0),
        "number": np.float64(1.5),
        "tuple": (1, None, True),
        "decimal": Decimal("1.50"),
        3: "key",
    }
    read = json.loads(json.dumps(words.plain(value), allow_nan=False))
    assert read["task"] == text_of(task)
    assert read["other"] == "00ff"
    assert (read["error"]["reason"], read["error"]["exit_code"]) == ("exit", 3)
    assert read["options"]["after"] == [text_of(task)]
    assert read["not a number"] is None
    assert (read["array"], read["number"]) == ([0.0, 1.0, 2.0], 1.5)
    assert (read["tuple"], read["decimal"], read["3"]) == ([1, None, True], "1.50", "key")
