"""A runtime as a process of its own, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from runtime_hub import Hub


class RuntimeProcess:
    """``python -m headway_runtime``, connected to a hub of the tests' own."""

    def __init__(self, hub: Hub, state: Path, *arguments: str) -> None:
        self.hub = hub
        self.state = state
        self.cwd = state / "cwd"
        self.cwd.mkdir(exist_ok=True)
        self.arguments = arguments
        self.start()

    def start(self) -> None:
        known = len(self.hub.registers)
        self.process = subprocess.Popen(self._command(), cwd=self.cwd, env=self._environment())
        self.hub.until(lambda: len(self.hub.registers) > known, "the runtime to register")

    def run_another(self) -> subprocess.CompletedProcess[str]:
        """A second one with the same arguments, until it ends."""
        return subprocess.run(
            self._command(), cwd=self.cwd, env=self._environment(), capture_output=True, text=True, timeout=20
        )

    def _command(self) -> list[str]:
        here = str(Path(__file__).parent)
        where = ["--bus", self.hub.url, "--name", "here", "--state", str(self.state), "--path", here]
        return [sys.executable, "-m", "headway_runtime", *where, "--log-level", "error", *self.arguments]

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
        return {**own, "PYTHONPATH": os.pathsep.join(sys.path)}

    @property
    def work(self) -> Path:
        return self.state / "runtimes" / "here"

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGTERM)  # the second time is: at once
        self.process.wait(20)

    def descendants(self) -> list[int]:
        """Every process below it."""
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    @property
    def nursery(self) -> int:
        """The process that keeps all others."""
        (child,) = psutil.Process(self.process.pid).children()
        return child.pid


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
