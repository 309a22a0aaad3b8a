"""What the tasks of the fault tests do. Each leaves a line in a file, so that executions are counted from outside."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil

import headway

RUNTIME = "FAULT_RUNTIME"
"""The environment variable in which a plant tells a runtime, and so its tasks, the runtime's name."""


def append(path: str, line: str) -> None:
    """One write to a file opened for appending: whole or not at all, whoever else writes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)


def mark(path: str, number: int, seconds: float, ballast: str = "") -> int:
    """Leave number, attempt, runtime and time; work a while."""
    append(path, f"{number} {headway.context().attempt} {os.environ[RUNTIME]} {time.monotonic()}")
    time.sleep(seconds)
    return number


def hold(path: str, release: str, name: str = "") -> str:
    """Leave a line at the begin, go on until ``release`` is there, leave another at the end."""
    append(path, f"began {name} on {os.environ[RUNTIME]}")
    while not Path(release).exists():
        time.sleep(0.01)
    append(path, f"ended {name} on {os.environ[RUNTIME]}")
    return f"held {name}"


def poison(path: str) -> None:
    """Kill the runtime that runs this: the parent of the process that starts all others."""
    append(path, "began")
    runtime = psutil.Process(os.getppid()).ppid()
    os.kill(runtime, signal.SIGKILL)
    time.sleep(60)


def hold_by_runtime(path: str, releases: dict[str, str]) -> str:
    """As :func:`hold`, with another release for each runtime."""
    runtime = os.environ[RUNTIME]
    append(path, f"began on {runtime}")
    while not Path(releases[runtime]).exists():
        time.sleep(0.01)
    append(path, f"ended on {runtime}")
    return f"held on {runtime}"


def hold_once(path: str) -> str:
    """The first time: leave the process's number and wait to be killed. The second time: return."""
    if Path(path).exists():
        return "second"
    append(path, str(os.getpid()))
    time.sleep(60)
    return "never"


def bowl(x: float, n: int, path: str, seconds: float = 0.05) -> float:
    """An objective that leaves a line for each time it is run."""
    append(path, f"{x} {n}")
    time.sleep(seconds)
    return (x - 1.0) ** 2 + (n - 7) ** 2 / 10
