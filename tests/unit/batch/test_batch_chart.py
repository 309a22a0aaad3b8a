"""Charts: lanes in which no two jobs overlap, and files that are what their names say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from headway.batch.chart import Bar, draw, in_lanes
from headway.batch.errors import BatchError
from headway.batch.records import State

BARS = [
    Bar("a", "succeed", "h", 0.0, 2.0),
    Bar("b", "failed", "h", 0.0, 1.0),
    Bar("c $x$", "succeed", "h", 1.0, 1.5),
    Bar("d", "killed", "other", 0.5, 1.0),
    Bar("e", "succeed", "h", 2.0, 1.0),
]


def test_jobs_of_one_slot_follow_each_other_in_one_lane() -> None:
    assert [(bar.name, bar.lane) for bar in in_lanes(BARS)] == [("a", 0), ("b", 1), ("d", 0), ("c $x$", 1), ("e", 0)]


@pytest.mark.parametrize(
    ("name", "begins"), [("c.png", b"\x89PNG"), ("c.html", b"<!doctype html>"), ("c.svg", b"<?xml")]
)
def test_charts_are_written(name: str, begins: bytes, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(in_lanes(BARS), Counter([State.SUCCEED, State.FAILED]), "a <batch> $", tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert content.startswith(begins)
    assert b"<batch>" not in content


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="ends in"):
        draw(BARS, Counter(), "t", tmp_path / "c.doc")
    with pytest.raises(BatchError, match="no job of this batch has ended"):
        draw([], Counter(), "t", tmp_path / "c.png")
