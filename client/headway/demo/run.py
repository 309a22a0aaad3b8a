"""The demo's work on a bus: every series by every method, one task each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headway.demo import scores
from headway.demo.data import Case
from headway.demo.methods import METHODS
from headway.demo.waits import Waits, judge
from headway_bus.records import Estimate

if TYPE_CHECKING:
    from headway import Client, ClientTask

TARGET = "headway.demo.methods:evaluate"
JOB = "demo"

FIRST = 8
"""Series that go first: a prediction needs something to go by, and "unknown" is the honest answer until then."""

LAST_PRIORITY = -1_000_000
"""Behind everything: when a task of this priority would start, all the others have."""

NOT_YET = Estimate(0.0, 0.0, known=False, why="most of the tasks have not been submitted")

REFRESH = 0.25
"""Seconds between two looks at the progress."""

Report = Callable[[int, int, Estimate | None], None]
"""Called with tasks done, tasks in all, and how long the rest is predicted to take."""


@dataclass(frozen=True)
class Result:
    """What the demo found. ``seconds``: from the first submission to the last result."""

    series: int
    tasks: int
    slots: int
    seconds: float
    rows: list[scores.Row]
    waits: Waits

    @property
    def agrees(self) -> bool:
        return all(row.agrees for row in self.rows)


def run(bus: Client, cases: Sequence[Case], slots: int, report: Report) -> Result:
    """Submit all, wait for all, and compare. Raises TaskError if a task did not succeed."""
    total = len(cases) * len(METHODS)
    began = time.monotonic()
    tasks = _submit(bus, cases[:FIRST])
    _wait(tasks, 0, total, report, lambda: NOT_YET)
    later = _submit(bus, cases[FIRST:])
    _wait(later, len(tasks), total, report, lambda: _time_left(bus))
    seconds = time.monotonic() - began
    tasks += later
    by_method: dict[str, list[list[float]]] = {}
    for method, task in tasks:
        by_method.setdefault(method, []).append(task.result())
    return Result(len(cases), total, slots, seconds, scores.table(by_method), _waits(bus, [task for _, task in tasks]))


Submitted = list[tuple[str, "ClientTask"]]


def _submit(bus: Client, cases: Sequence[Case]) -> Submitted:
    """A map for each method, which goes into ``meta``, so that each has an estimate of its own.

    The priorities keep the order of submission: the wait of a task that a later one overtakes cannot be foretold.
    """
    submitted: Submitted = []
    trains, tests = [case.train for case in cases], [case.test for case in cases]
    for rank, method in enumerate(METHODS):
        options = bus.options(job=JOB, name=method, priority=-rank, meta={"method": method})
        submitted += [(method, task) for task in options.map(TARGET, [method] * len(cases), trains, tests)]
    return submitted


def _wait(submitted: Submitted, before: int, total: int, report: Report, time_left: Callable[[], Estimate]) -> None:
    open_tasks: set[Future[Any]] = {task for _, task in submitted}
    while open_tasks:
        ended, open_tasks = wait_for(open_tasks, timeout=REFRESH, return_when=FIRST_COMPLETED)
        for task in ended:
            task.result()
        # Most tasks end within the same few milliseconds; one look at the clock for all that have.
        report(before + len(submitted) - len(open_tasks), total, time_left() if open_tasks else None)


def _time_left(bus: Client) -> Estimate:
    return bus.options(priority=LAST_PRIORITY, meta={"method": "Theta"}).estimate(TARGET).starts


def _waits(bus: Client, tasks: Sequence[ClientTask]) -> Waits:
    pairs = [(outcome.predicted, outcome.waited) for task in tasks if (outcome := task.outcome) is not None]
    return judge(pairs, bus.scores().get("", {}))
