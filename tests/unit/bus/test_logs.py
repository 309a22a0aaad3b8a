"""Log lines: JSON where nobody looks, readable where somebody does, nothing below the level."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from headway_bus import logs


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    logs.configure("info", stream=stream)
    logs.get_logger("broker").bind(url="ipc://x").info("peer came", name="r1", data=b"\x01")
    (line,) = _lines(stream)
    at = line.pop("timestamp")
    assert at.endswith("Z")
    assert line == {
        "event": "peer came",
        "level": "info",
        "logger": "headway.broker",
        "url": "ipc://x",
        "name": "r1",
        "data": "b'\\x01'",
    }


def test_readable_lines_on_a_terminal() -> None:
    stream = Terminal()
    logs.configure("info", stream=stream)
    logs.get_logger("broker").info("peer came", name="r1")
    text = stream.getvalue()
    assert "peer came" in text
    assert "\x1b[" in text
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


def test_readable_without_colour_when_asked_for_in_a_file() -> None:
    stream = io.StringIO()
    logs.configure("info", json=False, stream=stream)
    logs.get_logger("broker").info("peer came", name="r1")
    assert "\x1b[" not in stream.getvalue()
    assert "name=r1" in stream.getvalue()


def test_nothing_below_the_level() -> None:
    stream = io.StringIO()
    logs.configure("warning", stream=stream)
    log = logs.get_logger("broker")
    for say in (log.debug, log.info, log.warning, log.error, log.critical):
        say("said")
    assert [line["level"] for line in _lines(stream)] == ["warning", "error", "critical"]
    assert not log.is_enabled_for(logging.INFO)


@pytest.mark.parametrize("as_json", [True, False])
def test_exception_carries_its_traceback(as_json: bool) -> None:
    stream = io.StringIO()
    logs.configure("info", json=as_json, stream=stream)
    try:
        raise ValueError("a reason")
    except ValueError:
        logs.get_logger("broker").exception("went wrong")
    assert "Traceback (most recent call last)" in stream.getvalue()
    assert "ValueError: a reason" in stream.getvalue()


def test_other_libraries_and_warnings_are_caught() -> None:
    stream = io.StringIO()
    logs.configure("info", stream=stream)
    logging.getLogger("some.library").info("hello %s", "there", extra={"size": 3})
    logging.getLogger("asyncio").info("inner workings")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("take care", stacklevel=1)
    first, second = _lines(stream)
    assert (first["event"], first["logger"], first["size"]) == ("hello there", "some.library", 3)
    assert "take care" in second["event"]


def test_second_configure_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("info", stream=first)
    log = logs.get_logger("broker")
    log.info("one")
    logs.configure("error", stream=second)
    log.info("two")
    log.error("three")
    assert [line["event"] for line in _lines(first)] == ["one"]
    assert [line["event"] for line in _lines(second)] == ["three"]


def test_level_of_the_environment_counts_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setenv("HEADWAY_LOGS_LEVEL", "error")
    logs.configure(stream=stream)
    logs.get_logger("broker").warning("no")
    assert stream.getvalue() == ""


def test_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="'loud' is not a level of logging: expected one of debug, info"):
        logs.configure("loud")


def test_without_configure_nothing_is_written_below_warning(capsys: pytest.CaptureFixture[str]) -> None:
    logs.get_logger("headway.client").info("a library says nothing by itself")
    assert capsys.readouterr() == ("", "")


def test_a_line_is_written_also_where_nothing_more_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    import headway_bus

    monkeypatch.delattr(headway_bus, "log_lines", raising=False)
    monkeypatch.setitem(sys.modules, "headway_bus.log_lines", None)
    stream = io.StringIO()
    logs.configure("info", json=True, stream=stream)
    log = logs.get_logger("broker").bind(peer="one")
    log.warning("no descriptor is left", limit=1024)
    try:
        raise ValueError("wrong")
    except ValueError:
        log.exception("a message could not be handled")
    text = stream.getvalue()
    assert "no descriptor is left" in text
    assert "'limit': 1024" in text
    assert "'peer': 'one'" in text
    assert "ValueError: wrong" in text
