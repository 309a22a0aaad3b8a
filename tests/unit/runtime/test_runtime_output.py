"""Bytes to lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway_runtime.output import Allowance, Lines


def test_lines_and_what_has_no_newline() -> None:
    lines = Lines()
    assert lines.feed(b"a\nb\r\nc") == ["a", "b"]
    assert lines.is_open
    assert lines.end() == ["c"]
    assert lines.end() == []
    assert lines.feed(b"\n\n") == ["", ""]


def test_a_character_torn_apart_is_put_together() -> None:
    lines = Lines()
    data = "ä€😀\n".encode()
    found = [line for byte in data for line in lines.feed(bytes([byte]))]
    assert found == ["ä€😀"]


def test_what_is_no_text_becomes_the_replacement_character() -> None:
    lines = Lines()
    assert lines.feed(b"\xff\n") == ["\ufffd"]
    assert lines.feed(b"\xe2\x82") == []
    assert lines.is_open
    assert lines.end() == ["\ufffd"]


def test_a_progress_bar_is_one_line() -> None:
    lines = Lines()
    assert lines.feed(b"10%\r20%\r") == []
    assert lines.feed(b"30%\n") == ["10%\r20%\r30%"]


def test_a_line_without_end_comes_in_pieces() -> None:
    lines = Lines(10)
    assert lines.feed(b"x" * 25) == ["x" * 10, "x" * 10]
    assert lines.feed(b"y\n") == ["x" * 5 + "y"]
    assert lines.feed(b"z" * 25 + b"\n") == ["z" * 10, "z" * 10, "z" * 5]


@given(st.text(max_size=200), st.integers(1, 20), st.lists(st.integers(1, 30), min_size=1, max_size=10))
def test_nothing_is_lost_or_added(text: str, length: int, cuts: list[int]) -> None:
    text = text.replace("\r", "")
    data = text.encode("utf-8", "replace")
    lines = Lines(length)
    found: list[str] = []
    at = turn = 0
    while at < len(data):
        step = cuts[turn % len(cuts)]
        found += lines.feed(data[at : at + step])
        at, turn = at + step, turn + 1
    found += lines.end()
    assert "".join(found) == data.decode().replace("\n", "")
    assert all(len(line) <= length for line in found)


def test_an_allowance_is_used_up_and_counts_the_rest() -> None:
    allowance = Allowance(10)
    assert [allowance.takes(line) for line in ("abcd", "abcd", "a", "")] == [True, True, False, False]
    assert allowance.dropped == 2
