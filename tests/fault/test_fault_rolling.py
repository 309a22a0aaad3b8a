"""Every process is stopped in good order and started anew, under load, one after the other: a row of docs/loss.md."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from fault_plant import Plant, lines_of, until

import headway


class Load:
    """Submits from a thread of its own until it is told to stop."""

    def __init__(self, bus: headway.Client, marks: Path) -> None:
        self.tasks: list[headway.ClientTask] = []
        self._bus = bus
        self._marks = marks
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            begin = len(self.tasks)
            self.tasks += [
                self._bus.submit_soon("fault_tasks:mark", str(self._marks), number, 0.01)
                for number in range(begin, begin + 10)
            ]
            self._stop.wait(0.05)  # the load's rate

    def stop(self) -> list[headway.ClientTask]:
        self._stop.set()
        self._thread.join()
        return self.tasks


def test_rolling_restart_of_every_process(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """No task fails, none is lost, none is executed twice: a stop in good order is not a fault."""
    plant = make_plant(heartbeat=1.0)
    plant.start("one", "two")
    marks = tmp_path / "marks"
    load = Load(plant.client(), marks)
    try:
        until("work is done", lambda: len(lines_of(marks)) > 50)
        for part in ("broker", "controller", "one", "two", "controller", "broker"):
            _restart(plant, part)
            before = len(lines_of(marks))
            until(f"work goes on after the restart of {part}", lambda before=before: len(lines_of(marks)) > before + 50)
    finally:
        tasks = load.stop()
    assert [task.result(30) for task in tasks] == list(range(len(tasks)))
    assert sorted(int(line.split()[0]) for line in lines_of(marks)) == list(range(len(tasks)))


def _restart(plant: Plant, part: str) -> None:
    process = {"broker": plant.broker, "controller": plant.controller, **plant.runtimes}[part]
    process.terminate()
    assert process.wait() == 0, f"{part} ended in good order"
    if part == "broker":
        plant.start_broker()
    elif part == "controller":
        plant.start_controller()
    else:
        plant.start_runtime(part)
    plant.until_online("one", "two")
