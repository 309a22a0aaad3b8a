"""The verbs of whoever runs a bus: machines, estimates, health, backup."""

from __future__ import annotations

import os
import pty
import re
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

from acceptance_shell import HEADWAY, PATIENCE, Shell


def test_runtimes(bus: Shell) -> None:
    (runtime,) = bus.ok("runtimes", "--json").json
    assert (runtime["state"], runtime["slots"]) == ("online", 2.0)
    table = bus.ok("runtimes").lines
    assert table[0].split()[:3] == ["RUNTIME", "STATE", "SLOTS"]
    assert table[1].split()[:3] == [runtime["runtime"], "online", "2"]


def test_drain_and_resume(bus: Shell) -> None:
    (runtime,) = bus.ok("runtimes", "--json").json
    assert "draining" in bus.ok("drain", runtime["runtime"]).out
    assert bus.ok("runtimes", "--json").json[0]["state"] == "draining"
    bus.ok("drain", runtime["runtime"], "--resume")
    assert bus.ok("submit", "work:add", "1", "--wait").out == "1\n"
    unknown = bus("drain", "no-such-runtime")
    assert unknown.status == 1
    assert "no-such-runtime" in unknown.err


def test_switch(bus: Shell) -> None:
    for what, name in (("strategy", "headway_completion"), ("predictor", "learned")):
        assert bus.ok("switch", what, name, "--json").json == {what: name}
        unknown = bus("switch", what, "no-such-one")
        assert unknown.status == 2, "what is wrong is the command line"
        assert f"no {what} 'no-such-one'" in unknown.err and name in unknown.err


def test_queues_scores_and_estimates(bus: Shell) -> None:
    for _ in range(5):
        bus.ok("submit", "work:add", "1", "--wait")
    queues = bus.ok("queues", "--target", "work:add", "--json").json
    assert {queue["target"] for queue in queues} == {"work:add"}
    assert all(queue["waiting"]["expectation"] >= 0 for queue in queues)
    assert "RUNTIME" in bus.ok("queues").out
    assert "TARGET" in bus.ok("queues", "--scores").out
    estimate = bus.ok("estimate", "work:add", "--json").json
    assert estimate["starts"]["known"]
    assert estimate["ends"]["expectation"] >= estimate["starts"]["expectation"]
    assert "starts in" in bus.ok("estimate", "work:add").out
    never = bus.ok("estimate", "work:never_seen_before").out
    assert "unknown" in never


def test_explain_says_why_a_task_waits(bus: Shell) -> None:
    task = bus.ok("submit", "work:add", "1", "--label", "gpu=yes").out.strip()
    try:
        told = bus.ok("explain", task[:8])
        assert "gpu" in told.out
        assert bus.ok("explain", task, "--json").json
    finally:
        bus.ok("cancel", task)


def test_the_doctor_finds_a_healthy_bus(bus: Shell) -> None:
    done = bus.ok("doctor", "--state", bus.home / "state")
    assert "online with 2 slots" in done.out
    assert re.search(r"held by process \d+", done.out)
    findings = bus.ok("doctor", "--state", bus.home / "state", "--json").json
    assert {finding["state"] for finding in findings} <= {"ok", "note"}
    assert {"python", "settings", "disk", "store", "bus", "runtimes", "versions", "clocks"} <= {
        finding["subject"] for finding in findings
    }
    counters = bus.ok("doctor", "--counters", "--json").json
    assert set(counters) >= {"broker", "controller"}
    assert "forwarded" in bus.ok("doctor", "--counters").out


def test_backup_is_a_whole_database_and_overwrites_nothing(bus: Shell, tmp_path: Path) -> None:
    task = bus.ok("submit", "work:add", "1", "--wait", "--json").json["id"]
    file = tmp_path / "backup.sqlite"
    assert str(file) in bus.ok("backup", file).out
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    again = bus("backup", file)
    assert again.status == 1
    assert str(file) in again.err
    assert bus.ok("show", task).out


def test_tables_fit_the_terminal(bus: Shell, held: Callable[..., str]) -> None:
    held("--name", "a very long name " * 10, "--job", "wide")
    for width in (50, 80, 200):
        parent, child = pty.openpty()
        environment = bus.environment | {"COLUMNS": str(width), "TERM": "xterm"}
        command = [str(HEADWAY), "ps", "--job", "wide"]
        process = subprocess.Popen(command, env=environment, stdin=child, stdout=child, stderr=child)
        os.close(child)
        text = read_terminal(parent)
        assert process.wait(timeout=PATIENCE) == 0
        lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines()
        assert len(lines) == 2, text
        assert all(len(line.rstrip()) <= width for line in lines)
        assert "running" in lines[1]


def read_terminal(parent: int) -> str:
    """Everything until the other side is closed, which Linux reports as an error."""
    parts = []
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(parent)
    return b"".join(parts).decode()
