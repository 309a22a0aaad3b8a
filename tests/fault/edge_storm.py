"""Edges in a storm: links cut, throttled and stalled at random, agents killed with -9, the controller restarted.

The tasks have results of 1–200 KB, and each execution leaves a line. In the end nothing may be lost, nothing accepted twice,
no result be another's, and every spool be empty.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from edge_plant import EdgePlant
from fault_plant import lines_of, until

KIB = 1024
KINDS = ["cut", "mend", "slow", "stall", "go on", "kill", "controller"]
WEIGHTS = [5, 6, 2, 2, 3, 3, 0.4]


@dataclass
class EdgeOutcome:
    """What a storm came to."""

    tasks: int
    faults: Counter[str]
    executions: int
    bytes_up: int
    result_bytes: int
    wrong: list[str] = field(default_factory=list)

    def describe(self) -> str:
        faults = ", ".join(f"{count} {what}" for what, count in sorted(self.faults.items()))
        verdict = "; ".join(self.wrong) or "nothing lost, nothing twice, spools empty"
        moved = f"{self.bytes_up / 2**20:.1f} MiB up for {self.result_bytes / 2**20:.1f} MiB of results"
        return f"{self.tasks} tasks, {self.executions} executions, {faults}; {moved}; {verdict}"


class EdgeStorm:
    """:param patience: seconds for everything to arrive when the storm is over."""

    def __init__(self, plant: EdgePlant, seed: int, edges: int, tasks: int, patience: float) -> None:
        self.plant = plant
        self.random = random.Random(seed)
        self.names = [f"edge-{number}" for number in range(edges)]
        self.tasks = tasks
        self.patience = patience
        self.faults: Counter[str] = Counter()
        self.planned = self.random.sample(KINDS, len(KINDS))
        self.ran: Path = plant.folder / "ran"

    def run(self, seconds: float) -> EdgeOutcome:
        """Give out all tasks, rage for so long, let everything mend, and look."""
        plant = self.plant
        plant.start_edges(*self.names, slots=2)
        bus = plant.client()
        sizes = [self.random.randrange(KIB, 200 * KIB) for _ in range(self.tasks)]
        given = []
        for number, size in enumerate(sizes):
            # Every other one names its edge, and so may lie there while the link is cut.
            place = {"runtime": self.random.choice(self.names)} if number % 2 else {}
            options = bus.options(offline=self.patience * 4, max_losses=100, **place)
            given.append(options.submit("edge_tasks:sized", str(self.ran), number, size))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._strike()
            time.sleep(self.random.uniform(0.05, 0.4))
        self._mend()
        wrong = self._judge(given, sizes)
        up = sum(link.bytes_up for link in plant.links.values())
        return EdgeOutcome(self.tasks, self.faults, len(lines_of(self.ran)), up, sum(sizes), wrong)

    # ------------------------------------------------------------------------------------------ faults

    def _strike(self) -> None:
        name = self.random.choice(self.names)
        link = self.plant.links[name]
        # Each at least once, however short the storm.
        what = self.planned.pop() if self.planned else self.random.choices(KINDS, WEIGHTS)[0]
        self.faults[what] += 1
        match what:
            case "cut":
                link.cut()
            case "mend":
                link.mend()
            case "slow":
                link.rate = self.random.choice([0.0, 100 * KIB, 1000 * KIB])
                link.delay = self.random.choice([0.0, 0.02])
            case "stall":
                link.stall()
            case "go on":
                link.go_on()
            case "kill":
                self.plant.agents[name].kill()
                self.plant.start_edge(name, 2)
            case "controller":
                self.plant.controller.kill()
                self.plant.start_controller()

    def _mend(self) -> None:
        for name in self.names:
            link = self.plant.links[name]
            link.rate = link.delay = 0.0
            link.go_on()
            link.mend()
            if not self.plant.agents[name].is_running:  # a name that was taken for too long: its supervisor starts it
                self.faults["started again"] += 1
                self.plant.start_edge(name, 2)

    # ------------------------------------------------------------------------------------------ the end

    def _judge(self, given: list, sizes: list[int]) -> list[str]:  # type: ignore[type-arg]
        wrong = []
        deadline = time.monotonic() + self.patience
        for number, task in enumerate(given):
            try:
                value = task.result(max(1.0, deadline - time.monotonic()))
            except Exception as error:
                wrong.append(f"task {number}: {type(error).__name__}: {str(error)[:200]}")
                continue
            if value[0] != number or len(value[1]) != sizes[number]:
                wrong.append(f"task {number} has the result of {value[0]}, {len(value[1])} bytes")
        for name in self.names:
            try:
                until(
                    f"the spool of {name} is empty",
                    lambda name=name: self.plant.left_in_spool(name) == (0, 0),  # type: ignore[misc]
                    max(5.0, deadline - time.monotonic()),
                )
            except AssertionError as error:
                wrong.append(f"{error}: {self.plant.left_in_spool(name)}")
        lines = [line.split() for line in lines_of(self.ran)]
        begun = Counter((number, attempt) for number, attempt, _ in lines)
        wrong += [
            f"attempt {attempt} of task {number} ran {times} times"
            for (number, attempt), times in begun.items()
            if times > 1
        ]
        executed = {number for number, _, _ in lines}
        wrong += [f"task {number} never ran" for number in range(self.tasks) if str(number) not in executed]
        return wrong
