"""Tables on a terminal and into a pipe, and the bars in them."""

from __future__ import annotations

import io
import re

import pytest

from headway.cli.output import Column, Table, bar, fitted

TABLE = Table(
    (Column("id", fixed=True), Column("what"), Column("count", right=True), Column("", drawn=True)),
    [["abcdefgh", "a long name " * 20, "7", bar(0.5)], ["ijklmnop", "", "12", bar(1.0)]],
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_everything_in_plain_columns() -> None:
    stream = io.StringIO()
    TABLE.print(stream)
    lines = stream.getvalue().splitlines()
    assert lines[0].split() == ["ID", "WHAT", "COUNT"]
    assert ("a long name " * 20).strip() in lines[1]
    assert lines[2].split() == ["ijklmnop", "-", "12"]
    assert "█" not in stream.getvalue()


@pytest.mark.parametrize("width", [45, 60, 120])
def test_a_terminal_gets_what_fits_and_whole_ids(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    stream = Terminal()
    TABLE.print(stream)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    assert "abcdefgh" in lines[1]
    assert "…" in lines[1]


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, ""), (1.0, "████"), (0.5, "██"), (0.125, "▌"), (7.0, "████"), (-1.0, ""), (0.01, "")]
)
def test_bars(share: float, text: str) -> None:
    assert bar(share, 4) == text


def test_narrow_terminals_lose_width_then_the_last_columns_then_bars() -> None:
    columns = (Column("id", fixed=True), Column("a"), Column("", drawn=True), Column("b"))
    assert fitted([8, 10, 10, 30], columns, 66) == [8, 10, 10, 30]
    assert fitted([8, 10, 10, 30], columns, 56) == [8, 10, 10, 20]
    assert fitted([8, 10, 10, 30], columns, 46) == [8, 10, 10, 10]
    assert fitted([8, 10, 10, 30], columns, 40) == [8, 10, 10, 0]
    assert fitted([8, 10, 10, 30], columns, 30) == [8, 0, 10, 0]
    assert fitted([8, 10, 10, 30], columns, 3) == [8, 0, 0, 0]
