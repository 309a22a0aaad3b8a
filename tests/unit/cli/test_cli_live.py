"""The live table: which jobs get a line, what stands in it, and how much room it takes."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from headway.batch.book import Book, Choice, Entry
from headway.batch.config import Job
from headway.batch.records import JobRecord, State
from headway.cli.live import caption_of, live_table, rows_of, table_of
from headway_bus.records import Estimate


def entry(name: str, state: State = State.INIT, **fields: Any) -> Entry:
    record = None
    if state in (State.SUCCEED, State.FAILED):
        record = JobRecord(name=name, status=state, content="c", elapsed=fields.pop("ran", 1.0))
    return Entry(Job(name=name, command="true"), "c", Choice.RUN, state, record=record, **fields)


def book(*entries: Entry) -> Book:
    return Book.of("b", entries, 1000.0)


def drawn(made: Book, rows: int = 20, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table_of(made, rows, 1012.0))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


def test_each_job_with_its_state_runtime_time_and_last_line() -> None:
    lines = drawn(
        book(
            entry("runs", State.RUNNING, runtime="host1", started=1002.0, last_line="epoch 3"),
            entry("waits"),
            entry("ended", State.FAILED, runtime="host2", ended=1011.0, ran=4.5),
        )
    )
    assert lines[0].split() == ["job", "state", "runtime", "elapsed", "last", "line"]
    assert [line.split() for line in lines[1:4]] == [
        ["runs", "running", "host1", "10", "s", "epoch", "3"],
        ["waits", "init"],
        ["ended", "failed", "host2", "4.5", "s"],
    ]
    assert lines[4] == "batch b: 1 of 3 over, 1 running, 12 s"


def test_those_that_run_come_first_then_some_that_wait_then_those_that_ended_last() -> None:
    entries = [entry(f"ended-{at}", State.SUCCEED, ended=1000.0 + at) for at in range(500)]
    entries += [entry(f"waits-{at}") for at in range(500)]
    entries += [entry("runs", State.RUNNING, started=1.0)]
    rows = [each.name for each in rows_of(book(*entries), 8)]
    assert rows == ["runs", "waits-0", "waits-1", *(f"ended-{at}" for at in (499, 498, 497, 496, 495))]
    assert len(drawn(book(*entries), 8)) == 1 + 8 + 1
    assert len(rows_of(book(*entries), -3)) == 1


def test_long_names_markup_and_control_characters_do_no_harm() -> None:
    lines = drawn(book(entry("x" * 300, State.RUNNING, last_line="[red]no markup[/red] " + "y" * 300)), width=60)
    assert all(len(line) <= 60 for line in lines)
    assert len(lines) == 3
    assert "[red]" in drawn(book(entry("j", last_line="[red]plain")))[1]


def test_the_time_left_is_told_while_something_is_left() -> None:
    made = book(entry("runs", State.RUNNING, started=1.0))
    made.left = Estimate(expectation=20.0, error=3.0)
    assert "predicted time left: 20 s" in caption_of(made, 1012.0)
    over = book(entry("ended", State.SUCCEED, ended=1.0))
    over.left = made.left
    assert "predicted" not in caption_of(over, 1012.0)


def test_nothing_is_drawn_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with live_table(False) as refresh:
        assert refresh is None
    assert capsys.readouterr().out == ""
