"""A runtime that was forked before it was known what it is to be: it gets its command line and its environment, or it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from headway.ahead import RuntimeAhead

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked where there is a fork")


def _writing_to(file: Path) -> Callable[[Callable[[], list[str] | None]], None]:
    def serve(told: Callable[[], list[str] | None]) -> None:
        arguments = told()
        file.write_text(json.dumps([arguments, dict(os.environ)]))

    return serve


def test_it_gets_its_command_line_and_exactly_its_environment(tmp_path: Path) -> None:
    ahead = RuntimeAhead(_writing_to(tmp_path / "told"), [])
    large = "x" * 200_000  # more than a pipe holds
    ahead.begin(["--slots", "2"], {"A": "one two", "LARGE": large})
    assert ahead.wait(10) == 0
    assert json.loads((tmp_path / "told").read_text()) == [["--slots", "2"], {"A": "one two", "LARGE": large}]


def test_it_ends_when_it_is_not_wanted(tmp_path: Path) -> None:
    ahead = RuntimeAhead(_writing_to(tmp_path / "told"), [])
    ahead.discard()
    ahead.discard()
    assert ahead.wait(10) == 0
    assert json.loads((tmp_path / "told").read_text())[0] is None


def test_telling_one_that_has_ended_harms_nothing() -> None:
    ahead = RuntimeAhead(lambda told: None, [])
    assert ahead.wait(10) == 0
    ahead.begin(["--slots", "2"], {"LARGE": "x" * 200_000})
