"""The helper on a machine: how long it waits for a word, and how often it looks at what the jobs have written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headway.batch.remote import helper
from headway.batch.remote.frames import frame

BUSY = """\
import select, sys
from headway.batch.remote import helper

class Busy(helper.Helper):
    def on_work(self, header, body):
        "Longer than the patience, while words come that nobody reads."
        self.send("begun")
        select.select([0], [], [])
        helper.SILENCE = 0.0

busy = Busy([], sys.argv[1])
busy.serve()
busy.send("left", lost=busy.is_lost)
busy.end()
"""


def words_from(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The next frame's header."""
    assert process.stdout is not None
    length = int.from_bytes(process.stdout.read(4), "big")
    header: dict[str, Any] = json.loads(process.stdout.read(length))
    return header


def test_a_helper_that_was_busy_reads_what_came_before_it_takes_the_other_side_for_dead(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUSY, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert words_from(process)["op"] == "hello"
        for word, answer in ((frame("work"), "begun"), (frame("finish", job="j"), "finished")):
            process.stdin.write(word)
            process.stdin.flush()
            assert words_from(process)["op"] == answer
        # Now nothing waits to be read, and the patience is over: it leaves by itself.
        assert words_from(process) == {"op": "left", "size": 0, "lost": True}
        assert process.wait(timeout=30) == 0
    assert not list(tmp_path.iterdir())


def test_what_jobs_write_is_looked_at_once_in_a_while_however_often_it_wakes_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[float] = []
    clock = [100.0]

    class Talked(helper.Helper):
        def __init__(self) -> None:
            self.leaving, self.heard, self.active = False, 100.0, {"j": {}}
            self.wants, self.runtime = -1, None

        def read(self) -> None:
            clock[0] += helper.LOOK / 8
            self.leaving = clock[0] > 100.0 + 2 * helper.LOOK

        def send_growth(self, job: str, all_of_it: bool = False) -> None:
            looks.append(clock[0])

    monkeypatch.setattr(helper.select, "select", lambda *_: ([0], [], []))
    monkeypatch.setattr(helper.time, "monotonic", lambda: clock[0])
    Talked().serve()
    monkeypatch.undo()
    assert len(looks) == 3
