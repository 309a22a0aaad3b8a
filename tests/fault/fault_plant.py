"""A plant of real processes on one machine: a broker, a controller, runtimes, each to be killed, suspended, started anew.

Nothing here sleeps to synchronise: ``until`` looks again and again whether something has come true, and says what did
not. Every process carries a mark in its environment, so that a test can prove that none was left behind.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
from fault_tasks import RUNTIME

import headway

PATIENCE = 30.0
"""Seconds after which something that was waited for will not come; nothing is asserted about how long it takes."""

LOOK = 0.02
MARK = "HEADWAY_TEST_MARK"
TASKS = Path(__file__).parent
Found = TypeVar("Found")


def until(what: str, condition: Callable[[], Found], patience: float = PATIENCE) -> Found:
    """Wait until the condition is true and return what it returned. Fails with ``what`` after ``patience`` seconds."""
    pause = threading.Event()
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            break
        pause.wait(LOOK)
    raise AssertionError(f"within {patience:g} s it did not come true that {what}")


def lines_of(path: Path) -> list[str]:
    """The lines that processes have appended to the file so far."""
    return path.read_text().splitlines() if path.exists() else []


class Process:
    """One process of the plant."""

    def __init__(self, command: list[str], log: Path, environment: Mapping[str, str], **settings: Any) -> None:
        self.command = command
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                # Signals of the terminal, and of a test runner that stops, go elsewhere: the plant ends its processes.
                start_new_session=True,
                **settings,
            )
        self.pid = self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def suspend(self) -> None:
        """SIGSTOP: as a lid that is closed. Returns when the system has stopped it."""
        self.signal(signal.SIGSTOP)
        until(f"{self.pid} stands still", lambda: psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """SIGTERM; see ``wait``."""
        self._process.terminate()

    def wait(self, patience: float = PATIENCE) -> int:
        """The exit status."""
        return self._process.wait(patience)

    def written(self) -> str:
        return self.log.read_text(errors="replace")


class Plant:
    """Broker, controller and runtimes on a port of their own.

    :param heartbeat: seconds; a runtime is given up after two and a half of them.
    """

    def __init__(self, folder: Path, heartbeat: float = 0.3, durability: str = "normal") -> None:
        self.folder = folder
        self.state = folder / "state"
        self.heartbeat = heartbeat
        self.mark = uuid.uuid4().hex
        self._port = self._reserve()
        self.url = f"tcp://127.0.0.1:{self._port.getsockname()[1]}"
        self.durability = durability
        self.environment = self._make_environment(heartbeat)
        self.processes: list[Process] = []
        self._clients: list[headway.Client] = []
        self.broker: Process
        self.controller: Process
        self.runtimes: dict[str, Process] = {}

    @staticmethod
    def _reserve() -> socket.socket:
        """A port that is ours for as long as the socket is bound: the system gives it to nobody who asks for any port,
        while a broker that asks for this very one, as ZeroMQ does with SO_REUSEADDR, gets it each time anew."""
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        return holder

    def _make_environment(self, heartbeat: float) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADWAY_", "XDG_"))}
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return kept | {
            "HOME": str(self.folder),
            "TMPDIR": str(temporary),
            "HEADWAY_BUS": self.url,
            "HEADWAY_BUS_HEARTBEAT": f"{heartbeat:g}",
            "HEADWAY_LOGS_FORMAT": "json",
            MARK: self.mark,
        }

    # ------------------------------------------------------------------------------------------ starting

    def start(self, *runtimes: str, slots: int = 2) -> None:
        """Start everything, and wait until the runtimes serve."""
        self.start_broker()
        self.start_controller()
        for name in runtimes:
            self.start_runtime(name, slots)
        self.until_online(*runtimes)

    def start_broker(self) -> Process:
        self.broker = self.run("broker", "headway_broker", "--bind", self.url)
        return self.broker

    def start_controller(self, *words: str, **environment: str) -> Process:
        words = ("--state", str(self.state), "--durability", self.durability, *words)
        self.controller = self.run("controller", "headway_controller", *words, **environment)
        return self.controller

    def start_runtime(self, name: str, slots: int = 2, **environment: str) -> Process:
        words = ["--name", name, "--slots", str(slots), "--state", str(self.folder / "work"), "--path", str(TASKS)]
        process = self.run(f"runtime-{name}", "headway_runtime", *words, **{RUNTIME: name}, **environment)
        self.runtimes[name] = process
        return process

    def run(self, log: str, module: str, *words: str, **environment: str) -> Process:
        """Start ``python -m module words``; what it writes is added to the log of that name."""
        command = [sys.executable, "-m", module, *words]
        process = Process(command, self.folder / f"{log}.log", self.environment | environment)
        self.processes.append(process)
        return process

    def run_file(self, log: str, program: Path, *words: str) -> Process:
        """Start a Python program of the test's own."""
        process = Process([sys.executable, str(program), *words], self.folder / f"{log}.log", self.environment)
        self.processes.append(process)
        return process

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A person's command, run to its end."""
        command = [sys.executable, "-m", "headway", *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)

    # ------------------------------------------------------------------------------------------ looking

    def client(self) -> headway.Client:
        """A client that is closed with the plant."""
        client = headway.Client(self.url, timeout=PATIENCE)
        self._clients.append(client)
        return client

    @contextmanager
    def asking(self) -> Iterator[headway.Client]:
        """A client for a look or two."""
        with headway.Client(self.url, timeout=PATIENCE) as client:
            yield client

    def until_online(self, *names: str) -> None:
        """Wait until the controller answers and has all of these runtimes."""
        with self.asking() as bus:

            def are_online() -> bool:
                for process in (self.broker, self.controller):
                    assert process.is_running, f"{process.command[2]} has ended: {process.written()[-2000:]}"
                try:
                    states = {each.info.name: each.state for each in bus.runtimes(timeout=5.0)}
                except (headway.NoBus, TimeoutError):
                    return False  # a busy machine, or a link that is cut: looked at again
                return all(states.get(name) == "online" for name in names)

            until(f"{names} are online", are_online)

    def counters(self, who: str = "controller") -> dict[str, int]:
        with self.asking() as bus:
            return dict(bus.counters()[who])

    # ------------------------------------------------------------------------------------------ ending

    def living(self) -> list[psutil.Process]:
        """Processes that carry the plant's mark, whoever started them."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def close(self) -> None:
        """End everything, and see that nothing is left: a runtime that was killed takes its children with it."""
        for client in self._clients:
            client.close(0.0)
        for process in self.processes:
            if process.is_running:
                process.kill()
        try:
            until("no process of the plant is left", lambda: not self.living())
        finally:
            for process in self.living():
                process.kill()
            self._port.close()

    def story(self) -> str:
        """The end of what each process wrote, for a failed test."""
        parts = []
        for log in sorted(self.folder.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            parts.append(f"--- {log.name}, {len(lines)} lines\n" + "\n".join(lines[-40:]))
        return "\n".join(parts)
