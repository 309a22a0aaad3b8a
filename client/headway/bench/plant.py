"""The bus that is measured: its processes, and what they use of processor and memory."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from headway_bus.errors import BusError

ONE_PROCESS = "one process"
SEPARATE = "separate"
GIVEN = "given"
LAYOUTS = (ONE_PROCESS, SEPARATE)

START_PATIENCE = 30.0
STOP_PATIENCE = 20.0


class Plant:
    """A bus of its own in a temporary folder. ``processes``: what runs, by the name of its part.

    Broker and controller are one process or two, as ``layout`` says. ``durability``: the store's mode.
    """

    def __init__(self, layout: str, *, slots: float = 2, durability: str = "normal", runtime: bool = True) -> None:
        self.layout = layout
        self.durability = durability
        self.folder = Path(tempfile.mkdtemp(prefix="headway-bench-"))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.url = f"tcp://127.0.0.1:{_free_port()}"
        self._slots = slots
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
        self._config = self.folder / "config.toml"
        self._config.write_text(f'[controller]\ndurability = "{durability}"\n[logs]\nlevel = "warning"\n')
        try:
            self.start_hub()
            if runtime:
                state = ["--state", str(self.folder), "--slots", f"{slots:g}"]
                self._start("runtime", ["runtime", "--bus", self.url, *state, "--config", str(self._config)])
        except BaseException:
            self.stop()
            raise

    def start_hub(self) -> None:
        """Broker and controller. Returns at once where they are two processes, else when they serve."""
        config = ["--config", str(self._config)]
        if self.layout == SEPARATE:
            self._start("broker", ["broker", "--bind", self.url, *config])
            self._start("controller", ["controller", "--bus", self.url, "--state", str(self.folder), *config])
            return
        ready, writing = os.pipe()
        try:
            up = ["up", "--no-runtime", "--bind", self.url, "--state", str(self.folder), "--ready-fd", str(writing)]
            self._start("hub", [*up, *config], (writing,))
        finally:
            os.close(writing)
        with os.fdopen(ready, "rb", buffering=0) as pipe:
            readable, _, _ = select.select([pipe], [], [], START_PATIENCE)
            if not readable or not json.loads(pipe.readline() or b"{}").get("url"):
                raise BusError(f"the bus to be measured did not start. It wrote:\n{self.written()}")

    def _start(self, name: str, arguments: Sequence[str], descriptors: tuple[int, ...] = ()) -> None:
        with (self.folder / f"{name}.log").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "headway", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                pass_fds=descriptors,
                start_new_session=True,
            )

    @property
    def controller(self) -> str:
        """The name of the process that the controller is in."""
        return "controller" if self.layout == SEPARATE else "hub"

    def kill_hub(self) -> None:
        """SIGKILL to broker and controller."""
        for name in ("broker", "controller", "hub"):
            process = self.processes.pop(name, None)
            if process is not None:
                process.kill()
                process.wait()

    def processor_seconds(self) -> dict[str, float]:
        """User and system time of each part since it started; a runtime's with its children's."""
        found = {}
        for name, process in self.processes.items():
            own = psutil.Process(process.pid)
            parts = [own, *own.children(recursive=True)] if name == "runtime" else [own]
            found[name] = sum(_seconds_of(part) for part in parts)
        return found

    def resident_bytes(self, name: str) -> int:
        """Memory that the part occupies."""
        return int(psutil.Process(self.processes[name].pid).memory_info().rss)

    def written(self) -> str:
        """The ends of what the parts have written to their logs."""
        return "\n".join(
            f"{path.stem}: {path.read_text(errors='replace')[-1000:]}" for path in self.folder.glob("*.log")
        )

    def stop(self) -> None:
        """End all of it in order, by force where that takes too long, and remove the folder."""
        for name in ("runtime", "hub", "controller", "broker"):
            process = self.processes.pop(name, None)
            if process is None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class GivenPlant(Plant):
    """A bus that runs already, somewhere: nothing is known of its processes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.layout = GIVEN
        self.durability = "as it is set"
        self.processes = {}

    def stop(self) -> None:
        """It is not ours to stop."""


@contextmanager
def plant(layout: str, url: str | None = None, *, slots: float = 2, runtime: bool = True) -> Iterator[Plant]:
    """A bus of its own for a block of code, or the one at ``url``."""
    found = GivenPlant(url) if url else Plant(layout, slots=slots, runtime=runtime)
    try:
        yield found
    finally:
        found.stop()


def _seconds_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def spent(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Seconds of processor time between two looks."""
    return {name: after[name] - before[name] for name in after if name in before}
