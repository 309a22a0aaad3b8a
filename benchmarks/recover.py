"""How long recovery takes: ``python -m benchmarks.recover [--json FILE]``. Real processes; runtimes are played.

1. Controller killed with 100,000 tasks queued and 100 running: until the first new assignment reaches a runtime.
2. Broker killed with 200 runtimes connected, under load: until all are registered again, and until, all being so, as
   many tasks are assigned per second as before.
3. A runtime killed with ten attempts: until all ten have been given to another. Its time-out is two and a half
   heartbeats of 2 s.

Times are taken from the kill to the event on the machine's one clock, and include the start of a new process where one
is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import headway

QUEUED, RUNNING, SPARE = 100_000, 100, 20
RUNTIMES = 200
TASK_SECONDS = 0.5
PATIENCE = 120.0
TIME_OUT = 5.0
"""Seconds after which a silent runtime is given up with the default settings: 2.5 heartbeats of 2 s."""


class Line(NamedTuple):
    """What a played runtime has noted."""

    what: str
    at: float
    runtime: str
    count: int


class Hub:
    """Broker, controller and played runtimes as processes of their own, with the default settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(("127.0.0.1", 0))  # reserved: a broker that is started again finds it free
        self.url = f"tcp://127.0.0.1:{self._port.getsockname()[1]}"
        self._log = (folder / "processes.log").open("ab")
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Hub:
        self.broker = self.start_broker()
        self.controller = self.start_controller()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._log.close()
        self._port.close()

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
        command = [sys.executable, "-m", *words]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=environment
        )
        self._processes.append(process)
        return process

    def start_broker(self) -> subprocess.Popen[bytes]:
        return self._start("headway_broker", "--bind", self.url)

    def start_controller(self) -> subprocess.Popen[bytes]:
        return self._start("headway_controller", "--bus", self.url, "--state", str(self.folder / "state"))

    def play(self, count: int, slots: float, prefix: str, *more: str) -> subprocess.Popen[bytes]:
        where = str(self.folder / prefix)
        return self._start("benchmarks.played", self.url, str(count), str(slots), prefix, where, *more)

    def lines(self, prefix: str, what: str, since: float = 0.0) -> list[Line]:
        """What these runtimes have noted of that kind from that time on."""
        path = self.folder / prefix
        text = path.read_text() if path.exists() else ""
        split = [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]
        found = [Line(kind, float(at), runtime, int(count)) for kind, at, runtime, count in split]
        return [line for line in found if line.what == what and line.at >= since]


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"within {PATIENCE:g} s it did not come true that {what}")
        time.sleep(0.01)


def kill(process: subprocess.Popen[bytes]) -> float:
    """Kill -9; when."""
    now = time.monotonic()
    process.kill()
    process.wait()
    return now


def controller_killed(folder: Path) -> dict[str, float]:
    with Hub(folder) as hub, headway.Client(hub.url, timeout=30) as bus:
        hub.play(RUNNING // 2, 2.0, "busy")
        until(lambda: len(hub.lines("busy", "register")) >= RUNNING // 2, "the busy runtimes are there")
        bus.options(meta={"seconds": 3600.0}, name="long").map("benchmark:long", range(RUNNING))
        until(lambda: sum(line.count for line in hub.lines("busy", "assign")) == RUNNING, "all long tasks run")
        bus.options(meta={"seconds": 1.0}, name="short").map("benchmark:short", range(QUEUED), chunksize=1)
        hub.play(SPARE, 1.0, "spare")
        until(lambda: len(hub.lines("spare", "end")) > SPARE, "some of the queued have run")
        killed = kill(hub.controller)
        hub.start_controller()
        until(lambda: hub.lines("spare", "assign", killed), "a new assignment has come")
        first = hub.lines("spare", "assign", killed)[0].at - killed
        until(lambda: {x.runtime for x in hub.lines("spare", "assign", killed)} >= {f"spare-{n}" for n in range(SPARE)},
              "every spare runtime has work")  # fmt: skip
        every = max(min(x.at for x in hub.lines("spare", "assign", killed) if x.runtime == f"spare-{n}")
                    for n in range(SPARE)) - killed  # fmt: skip
        again = sum(line.count for line in hub.lines("busy", "assign", killed))
        adopted = bus.counters()["controller"].get("attempts.adopted", 0)
        return {
            "first new assignment, s": first,
            "every spare runtime has work, s": every,
            "running attempts adopted": float(adopted),
            "given out again though running": float(again),
        }


def broker_killed(folder: Path) -> dict[str, float]:
    with Hub(folder) as hub, headway.Client(hub.url, timeout=30) as bus:
        hub.play(RUNTIMES, 1.0, "played")
        until(lambda: len(hub.lines("played", "register")) >= RUNTIMES, "all are registered")
        work = bus.options(meta={"seconds": TASK_SECONDS}, name="short")
        tasks = work.map("benchmark:short", range(RUNTIMES * 120), chunksize=1)
        began = time.monotonic()
        until(lambda: len({line.runtime for line in hub.lines("played", "end")}) == RUNTIMES, "all have worked")
        until(lambda: time.monotonic() > began + 5.0, "the rate is steady")
        killed = kill(hub.broker)
        before = sum(line.count for line in hub.lines("played", "end", killed - 3.0) if line.at < killed) / 3.0
        hub.start_broker()
        until(lambda: len({x.runtime for x in hub.lines("played", "register", killed)}) == RUNTIMES, "all are back")
        registered = max(min(x.at for x in hub.lines("played", "register", killed) if x.runtime == f"played-{n}")
                         for n in range(RUNTIMES)) - killed  # fmt: skip
        until(lambda: rate_again(hub, killed, before), "as many tasks end as before")
        # A burst of what had been held back must not pass for it: all have to be back as well.
        again = max(registered, rate_again(hub, killed, before) - killed)
        counters = bus.counters()["controller"]
        done = sum(task.done() for task in tasks)
        assert done > 0
        return {
            "all 200 registered again, s": registered,
            "traffic as before, s": again,
            "tasks/s before": before,
            "attempts lost": float(counters.get("attempts.lost", 0)),
        }


def rate_again(hub: Hub, killed: float, before: float) -> float:
    """The begin of the first second, after the kill, in which 90 % as many tasks were assigned as before; 0: none yet."""
    assigned = [line for line in hub.lines("played", "assign", killed) for _ in range(line.count)]
    wanted = int(before * 0.9)
    for first, last in zip(assigned, assigned[wanted:], strict=False):
        if last.at - first.at <= 1.0:
            return first.at
    return 0.0


def runtime_killed(folder: Path) -> dict[str, float]:
    with Hub(folder) as hub, headway.Client(hub.url, timeout=30) as bus:
        victim = hub.play(1, 10.0, "victim")
        until(lambda: hub.lines("victim", "register"), "the runtime is there")
        bus.options(meta={"seconds": 3600.0}).map("benchmark:long", range(10))
        until(lambda: sum(line.count for line in hub.lines("victim", "assign")) == 10, "all ten run")
        hub.play(1, 10.0, "heir")
        until(lambda: hub.lines("heir", "register"), "the other is there")
        killed = kill(victim)
        until(lambda: sum(line.count for line in hub.lines("heir", "assign", killed)) == 10, "all run elsewhere")
        return {"all ten elsewhere, s": max(line.at for line in hub.lines("heir", "assign", killed)) - killed}


SCENES: dict[str, tuple[Callable[[Path], dict[str, float]], str, float]] = {
    "controller killed": (controller_killed, "first new assignment, s", 5.0),
    "broker killed": (broker_killed, "traffic as before, s", 3.0),
    "runtime killed": (runtime_killed, "all ten elsewhere, s", 2 * TIME_OUT),
}
"""Scene → what measures it, the figure with a limit, the limit."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=[name.split()[0] for name in SCENES])
    parser.add_argument("--json", type=Path, help="write the figures of every round there")
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    kept = True
    for name, (measure, key, limit) in SCENES.items():
        if given.only and not name.startswith(given.only):
            continue
        rounds = found[name] = []
        for _ in range(given.rounds):
            with tempfile.TemporaryDirectory(prefix="headway-recover-") as folder:
                rounds.append(measure(Path(folder)))
        print(f"\n{name}")
        for figure in rounds[0]:
            values = [each[figure] for each in rounds]
            bound = f"   (limit {limit:g})" if figure == key else ""
            print(
                f"  {figure:40} {statistics.median(values):10.2f}   of {', '.join(f'{v:.2f}' for v in values)}{bound}"
            )
        kept = kept and all(each[key] < limit for each in rounds)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
