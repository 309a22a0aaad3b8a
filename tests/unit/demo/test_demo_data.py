"""Reading the series: what a damaged file says."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from headway.demo import data
from headway_bus.errors import HeadwayError


def write(path: Path, text: str) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.write(text)
    return path


def test_train_and_test_are_told_apart(tmp_path: Path) -> None:
    text = "freq,series,ds,y,split\nWeekly,W1,a,1,train\nWeekly,W2,a,5,train\nWeekly,W1,b,2,train\nWeekly,W1,c,3,test\n"
    cases = data.load(write(tmp_path / "x.gz", text))
    assert [(case.name, case.train.tolist(), case.test.tolist()) for case in cases] == [
        ("W1", [1.0, 2.0], [3.0]),
        ("W2", [5.0], []),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a,b\n", "the columns are"),
        ("freq,series,ds,y,split\nWeekly,W1,a,one,train\n", "line 2"),
        ("freq,series,ds,y,split\nWeekly,W1\n", "line 2"),
    ],
)
def test_a_damaged_file_says_where(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(HeadwayError, match=complaint):
        data.load(write(tmp_path / "x.gz", text))
