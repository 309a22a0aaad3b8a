"""A bus of real processes with several runtimes that carry labels, as edges do: ``headway up`` without a runtime, and theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from plain_peers import wait_until

import headway

PATIENCE = 40.0
"""Seconds after which what was waited for will not come; nothing is asserted about how long it takes."""

HERE = Path(__file__).parent
EDGE = "UNION_EDGE"
"""The environment variable in which an edge finds its own name: its own data, for these tests."""


class UnionPlant:
    """A hub, and runtimes to be started and killed by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"ipc://{folder}/bus"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADWAY_", "XDG_"))}
        self.environment = kept | {
            "HOME": str(folder),
            "HEADWAY_BUS": self.url,
            "HEADWAY_BROKER_BIND": self.url,
            "HEADWAY_BUS_HEARTBEAT": "0.3",
            "HEADWAY_LOGS_FORMAT": "json",
        }
        self.edges: dict[str, subprocess.Popen[bytes]] = {}
        self.hub = self._start_hub()

    def _start_hub(self) -> subprocess.Popen[bytes]:
        words = ["up", "--no-runtime", "--state", str(self.folder / "state"), "--ready-fd", "1"]
        hub = self._run("hub", *words, stdout=subprocess.PIPE)
        assert hub.stdout is not None
        assert json.loads(hub.stdout.readline())["url"] == self.url
        return hub

    def restart_hub(self) -> None:
        """kill -9 of broker and controller, and others on the same state."""
        self.hub.kill()
        self.hub.wait()
        assert self.hub.stdout is not None
        self.hub.stdout.close()
        self.hub = self._start_hub()

    def start(self, *names: str, **labels: str) -> None:
        """Start runtimes of these names with these labels, and wait until they serve."""
        for name in names:
            words = ["runtime", "--name", name, "--slots", "1", "--state", str(self.folder / "work")]
            words += ["--path", str(HERE)]
            for label, value in labels.items():
                words += ["--label", f"{label}={value}"]
            self.edges[name] = self._run(name, *words, **{EDGE: name})
        self.until_state("online", *names)

    def until_state(self, state: str, *names: str) -> None:
        with headway.Client(self.url, timeout=PATIENCE) as bus:

            def is_so() -> bool:
                states = {each.info.name: each.state for each in bus.runtimes()}
                return all(states.get(name) == state for name in names)

            wait_until(is_so, PATIENCE)

    def kill(self, name: str) -> None:
        """kill -9, as a power cut does."""
        self.edges[name].kill()
        self.edges.pop(name).wait()

    def cli(self, *words: str, code: int = 0) -> str:
        """A person's command; what it printed."""
        command = [sys.executable, "-m", "headway", *words]
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stdout + done.stderr

    def _run(self, log: str, *words: str, stdout: Any = None, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{log}.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "headway", *words],
                stdin=subprocess.DEVNULL,
                stdout=stdout or output,
                stderr=output,
                env=self.environment | environment,
                start_new_session=True,
            )

    def close(self) -> None:
        """End everything: the hub last, because a runtime that leaves waits until all that it says is settled."""
        for process in self.edges.values():
            process.terminate()
        for process in self.edges.values():
            self._end(process)
        self.hub.terminate()
        self._end(self.hub)
        if self.hub.stdout is not None:
            self.hub.stdout.close()

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(15.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
