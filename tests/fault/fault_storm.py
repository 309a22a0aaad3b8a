"""A storm: thousands of short tasks while every process of the plant is killed and suspended at random moments.

What came of it is counted from outside: each execution leaves a line in a file. The moments and the victims follow from
a seed; what the processes are doing just then does not, so a seed that has found something finds it often, not always.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

import psutil
from fault_plant import Plant, Process, lines_of

import headway
from headway_bus.session import LAST_RETRY

RUNTIMES = ("one", "two", "three")
OUTSTANDING = 200
"""Tasks that are kept on their way: enough that every kill meets some in every state, few enough to last for the storm."""

BATCH = 50
LONGEST_PAUSE = 1.2
"""Seconds at most between one fault and the next."""

LONGEST_STOP = 2.5
"""Seconds at most that a process stands still: some stops are shorter than a lease, some longer."""

LEASES = 2.0
"""Heartbeats after which a silent runtime is given up, at the earliest: what is late may have been sent a little before."""

SETTLE = 90.0
"""Seconds within which everything has ended when the storm is over; nothing is asserted about how long it takes."""


@dataclass
class Fault:
    """What was done to whom, from when to when (seconds of the machine's clock)."""

    what: str
    victim: str
    began: float
    ended: float

    def __str__(self) -> str:
        return f"{self.what} {self.victim}"


@dataclass(frozen=True)
class Execution:
    """A line that a task has left."""

    number: int
    attempt: int
    runtime: str
    at: float


@dataclass
class Outcome:
    """What a storm has shown. ``wrong``: what must not be; empty if all went well."""

    tasks: int = 0
    seconds: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """In a few lines, for people."""
        counts = Counter(str(fault) for fault in self.faults)
        faults = ", ".join(f"{count} x {what}" for what, count in sorted(counts.items()))
        again = len(self.executions) - self.tasks
        verdict = "\n".join(self.wrong) if self.wrong else "nothing lost, nothing ended twice"
        return (
            f"{self.tasks} tasks in {self.seconds:.0f} s under {len(self.faults)} faults ({faults})\n"
            f"{len(self.executions)} executions, {again} of them again after a fault of their runtime\n{verdict}"
        )


class Storm:
    """:param count: of tasks; with ``until``, as many as are done until that time of the machine's clock."""

    def __init__(self, plant: Plant, seed: int, count: int, until: float = 0.0) -> None:
        self.plant = plant
        self.random = random.Random(seed)
        self.count = count
        self.until = until
        self.file = plant.folder / "ran"
        self.outcome = Outcome()
        self._tasks: list[headway.ClientTask] = []
        self._open: list[headway.ClientTask] = []
        self._suspended: list[tuple[float, Fault]] = []
        self._unanswered: list[tuple[float, set[int]]] = []
        """When a controller was killed, and the tasks of which the client had not heard then that they are accepted."""

    def run(self) -> Outcome:
        """Begin, rage, settle, count."""
        began = time.monotonic()
        self.plant.start(*RUNTIMES)
        bus = self.plant.client()
        work = bus.options(job="storm", max_attempts=30, backoff=0.05, backoff_max=0.2, max_losses=0x7FFF)
        while self._wants_more() or self._open:
            self._open = [task for task in self._open if not task.done()]
            while len(self._open) < OUTSTANDING and self._wants_more():
                self._submit(work)
            self._raise_all()
            self._strike()
            time.sleep(self.random.uniform(0.05, LONGEST_PAUSE))  # the storm's own rhythm
            self._resume(time.monotonic())
            if time.monotonic() - began > self._patience():
                break
        self._resume(float("inf"))
        self._raise_all()
        self._settle(bus)
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def _wants_more(self) -> bool:
        return time.monotonic() < self.until if self.until else len(self._tasks) < self.count

    def _patience(self) -> float:
        return float("inf") if self.until else 240.0

    def _submit(self, work: headway.Client) -> None:
        numbers = range(len(self._tasks), len(self._tasks) + BATCH)
        seconds = [self.random.uniform(0.001, 0.05) for _ in numbers]
        # Submitted without waiting: whether the bus is there just now is what the storm is about.
        tasks = [
            work.submit_soon("fault_tasks:mark", str(self.file), number, each)
            for number, each in zip(numbers, seconds, strict=True)
        ]
        self._tasks += tasks
        self._open += tasks

    # ------------------------------------------------------------------------------------------ faults

    def _strike(self) -> None:
        """One fault, and the repair of what it leaves: a process that was killed is started anew at once."""
        victims = ["broker", "controller", *RUNTIMES, *RUNTIMES]
        victim = self.random.choice([each for each in victims if each not in self._standing()])
        what = self.random.choice(
            ["kill", "kill", "suspend", "kill child of"] if victim in RUNTIMES else ["kill", "suspend"]
        )
        fault = Fault(what, victim, time.monotonic(), time.monotonic())
        if what == "kill":
            self._kill(victim)
        elif what == "suspend":
            self._process(victim).suspend()
            fault.ended += self.random.uniform(0.05, LONGEST_STOP)
            self._suspended.append((fault.ended, fault))
        else:
            self._kill_child(victim)
        if what != "suspend":
            fault.ended = time.monotonic()
        self.outcome.faults.append(fault)

    def _standing(self) -> set[str]:
        return {fault.victim for _, fault in self._suspended}

    def _process(self, name: str) -> Process:
        plant = self.plant
        return {"broker": plant.broker, "controller": plant.controller, **plant.runtimes}[name]

    def _kill(self, name: str) -> None:
        if name == "controller":
            unanswered = {at for at, task in enumerate(self._tasks) if not task.done() and task.first_estimate is None}
            self._unanswered.append((time.monotonic(), unanswered))
        self._process(name).kill()
        self._start(name)

    def _start(self, name: str) -> None:
        if name == "broker":
            self.plant.start_broker()
        elif name == "controller":
            self.plant.start_controller()
        else:
            self.plant.start_runtime(name)

    def _kill_child(self, name: str) -> None:
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(self._process(name).pid).children(recursive=True)
            if below:
                self.random.choice(below).kill()

    def _resume(self, now: float) -> None:
        due = [each for each in self._suspended if each[0] <= now]
        self._suspended = [each for each in self._suspended if each[0] > now]
        for _, fault in due:
            self._process(fault.victim).resume()
            fault.ended = time.monotonic()

    def _raise_all(self) -> None:
        """Start whatever has ended by itself; that it did is wrong."""
        for name in ("broker", "controller", *RUNTIMES):
            process = self._process(name)
            if not process.is_running:
                self.outcome.wrong.append(f"{name} ended by itself with {process.wait()}")
                self._start(name)

    # ------------------------------------------------------------------------------------------ counting

    def _settle(self, bus: headway.Client) -> None:
        outcome, wrong = self.outcome, self.outcome.wrong
        deadline = time.monotonic() + SETTLE
        unfinished = []
        for number, task in enumerate(self._tasks):
            try:
                value = task.result(max(0.0, deadline - time.monotonic()))
                if value != number:
                    wrong.append(f"task {number} has the result {value!r}")
            except TimeoutError:
                unfinished.append(number)
            except headway.HeadwayError as error:
                wrong.append(f"task {number}: {type(error).__name__}: {error}")
        if unfinished:
            wrong.append(f"{len(unfinished)} tasks have not ended: {unfinished[:20]}")
        outcome.tasks = len(self._tasks)
        outcome.executions = [_execution(line) for line in lines_of(self.file)]
        self._check_executions()
        if not unfinished:
            self._check_books(bus)

    def _check_executions(self) -> None:
        by_task: dict[int, list[Execution]] = {}
        for execution in self.outcome.executions:
            by_task.setdefault(execution.number, []).append(execution)
        missing = [number for number in range(self.outcome.tasks) if number not in by_task]
        if missing:
            self.outcome.wrong.append(f"never executed: {missing[:20]}")
        for number, executions in by_task.items():
            attempts = [each.attempt for each in executions]
            if len(set(attempts)) != len(attempts):
                self.outcome.wrong.append(f"task {number}: an attempt was executed twice: {executions}")
            # By number, not by time: a runtime that stood still may begin what it was given long ago after its successor has.
            executions.sort(key=lambda each: each.attempt)
            for execution, following in pairwise(executions):
                if not self._is_excused(execution, following):
                    self.outcome.wrong.append(f"task {number} was executed again without a fault: {executions}")

    def _is_excused(self, execution: Execution, following: Execution) -> bool:
        """Whether something was done to the attempt's runtime before the next one began, and not all of it before it began;
        or the controller was killed before it had stored the task, which it gives out meanwhile (docs/loss.md): nobody was
        told that it is accepted, the client submits it again, and what was given out counts for nothing."""
        number = execution.number
        return any(at <= following.at and number in tasks for at, tasks in self._unanswered) or any(
            fault.victim == execution.runtime
            and fault.began <= following.at
            and fault.ended + self._aftermath(fault) >= execution.at
            for fault in self.outcome.faults
        )

    def _aftermath(self, fault: Fault) -> float:
        """A runtime that stood still for longer than a lease was given up. Until it is back on the bus and hears so, it
        goes on with what it has, which meanwhile runs elsewhere."""
        given_up = fault.what == "suspend" and fault.ended - fault.began > LEASES * self.plant.heartbeat
        return LAST_RETRY + self.plant.heartbeat if given_up else 0.05

    def _check_books(self, bus: headway.Client) -> None:
        """What the bus itself says of the tasks: each once, each succeeded."""
        tasks = bus.tasks(job="storm", limit=len(self._tasks) + 100)
        if len(tasks) != len(self._tasks) or len({task.task for task in tasks}) != len(self._tasks):
            self.outcome.wrong.append(f"{len(self._tasks)} tasks were submitted, the bus knows {len(tasks)}")
        statuses = Counter(str(task.status) for task in tasks)
        if set(statuses) != {"succeeded"}:
            self.outcome.wrong.append(f"the bus says {dict(statuses)}")
        bus.control("validate")


def _execution(line: str) -> Execution:
    number, attempt, runtime, at = line.split()
    return Execution(int(number), int(attempt), runtime, float(at))
