from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pip install 'headway[plot]'")

from headway_trainer.running.job import Job
from headway_trainer.running.pictures import chosen, course, page, write_pictures
from headway_trainer.running.report import results, row
from headway_trainer.running.trial import run_forecast
from headway_trainer.series import Series
from headway_trainer.series.dates import Step

JOB = Job.from_plain({"path": "sales.csv", "time": "date", "target": "y", "models": ["Naive"], "horizon": 3})


def made(count: int) -> tuple[list[Series], dict[str, Any]]:
    random = np.random.default_rng(3)
    series, rows = [], []
    for number in range(count):
        y = 10 + random.normal(size=40)
        times = np.datetime64("2024-01-01", "s") + np.arange(40) * np.timedelta64(1, "D")
        one = Series(f"('s{number}',)", (f"s{number}<b>",), times, y, None, Step(seconds=86_400))
        found = run_forecast("Naive", {}, y, None, JOB.settings)
        found["trials"] = [{"number": at, "status": "done", "loss": 5.0 - at, "reason": ""} for at in range(4)]
        series.append(one)
        rows.append(row(one, [found], JOB))
    return series, results(JOB, rows, ["a warning & more"])


def test_pictures_and_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    series, found = made(3)
    written = write_pictures(series, found, tmp_path, 2)
    assert [path.name for path in written][-1] == "report.html" and len(written) == 3
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[:-1])
    text = written[-1].read_text()
    assert text.count("data:image/png;base64,") == 2 and "http" not in text
    assert "s0&lt;b&gt;" in text and "<b>" not in text and "a warning &amp; more" in text


def test_some_of_many_are_drawn_evenly_from_the_best_to_the_worst() -> None:
    _, found = made(9)
    rows = found["series"]
    rows[4]["forecast"] = []
    for rank, index in enumerate((3, 1, 8, 0, 2, 5, 7, 6)):
        rows[index]["metrics"]["mase"] = float(rank)
    assert chosen(rows, 3, "mase") == sorted([3, 2, 6])
    assert chosen(rows, 20, "mase") == [0, 1, 2, 3, 5, 6, 7, 8]
    assert chosen(rows, 0, "mase") == []


def test_what_is_drawn_are_the_folds_where_they_lay(tmp_path: Path) -> None:
    series, found = made(1)
    first, folds, forecast = course(series[0], found["series"][0])
    assert first == 0 and [indexes.tolist() for indexes, _ in folds] == [[31, 32, 33], [34, 35, 36], [37, 38, 39]]
    assert folds[0][1].tolist() == [series[0].values[30]] * 3 and forecast.tolist() == [series[0].values[-1]] * 3


def test_the_page_has_every_series_and_its_reasons() -> None:
    _, found = made(2)
    found["series"][1]["reasons"] = ["2 moments are missing: zero"]
    assert re.search(r"<tr class=\"ok\"><td>s1&lt;b&gt;</td>.*2 moments are missing", page(found, []))
