"""What a decision costs: CPU time a task through the whole scheduler, by runtimes, tasks in the queue, and their length.

Runtimes are simulated no further than needed: each reports what has ended every two milliseconds, in one message, as the
real one does. Counted are enqueueing, deciding, starts, ends, learning; not the simulated world.
"""

from __future__ import annotations

import heapq
import random
import time
import tracemalloc
from typing import NamedTuple

from headway_bus.ids import TaskId, new_task_ids
from headway_bus.records import Kind, Options, RuntimeInfo
from headway_controller.placement import Commit, Scheduler

REPORTS_EVERY = 0.002
ROUND_TRIP = 0.001


class Cost(NamedTuple):
    """Microseconds of CPU time a task; ``per_decision``: tasks that one decision saw."""

    runtimes: int
    queued: int
    seconds: float
    enqueue: float
    decide: float
    per_decision: float
    bytes_per_task: float


class Machines:
    """Runtimes of ``slots`` slots each, as far as the scheduler can tell."""

    def __init__(self, count: int, slots: int, mean: float) -> None:
        self._source = random.Random(1)
        self._mean = mean
        self._free = {f"r{index}": [0.0] * slots for index in range(count)}
        self._reports: dict[tuple[int, str], tuple[list[tuple[TaskId, float]], list[tuple[TaskId, float]]]] = {}
        self._order: list[tuple[int, str]] = []

    def send(self, commits: list[Commit], now: float) -> None:
        for commit in commits:
            free = self._free[commit.runtime]
            for task in commit.tasks:
                slot = min(range(len(free)), key=free.__getitem__)
                start = max(free[slot], now + ROUND_TRIP / 2)
                seconds = self._mean * self._source.uniform(0.5, 1.5)
                free[slot] = start + seconds
                self._note(commit.runtime, start, (task, 0.0), 0)
                self._note(commit.runtime, free[slot], (task, seconds), 1)

    def _note(self, runtime: str, when: float, entry: tuple[TaskId, float], kind: int) -> None:
        key = (int((when + ROUND_TRIP / 2) / REPORTS_EVERY) + 1, runtime)
        if key not in self._reports:
            self._reports[key] = ([], [])
            heapq.heappush(self._order, key)
        self._reports[key][kind].append(entry)

    def next_report(self) -> tuple[float, str, list[tuple[TaskId, float]], list[tuple[TaskId, float]]]:
        key = heapq.heappop(self._order)
        started, ended = self._reports.pop(key)
        return key[0] * REPORTS_EVERY, key[1], started, ended


def measure(runtimes: int, queued: int, seconds: float, finish: int, slots: int = 4) -> Cost:
    """Enqueue ``queued`` tasks of ``seconds`` each as one map, and see ``finish`` of them through."""
    scheduler = Scheduler()
    for index in range(runtimes):
        scheduler.add_runtime(RuntimeInfo(f"r{index}", slots=slots), 0.0, ROUND_TRIP)
    options = Options(Kind.CALL, "module:function")
    tasks = new_task_ids(queued)
    began = time.process_time()
    scheduler.enqueue_many(options, tasks, 0.0)
    enqueue = time.process_time() - began
    machines = Machines(runtimes, slots, seconds)
    machines.send(scheduler.dispatch(0.0), 0.0)
    done = decisions = 0
    spent = 0.0
    while done < finish:
        now, runtime, started, ended = machines.next_report()
        began = time.process_time()
        if started:
            scheduler.started_many(runtime, started, now)
        if ended:
            scheduler.finished_many(runtime, ended, now)
        commits = scheduler.dispatch(now)
        scheduler.take_backs(now)
        spent += time.process_time() - began
        machines.send(commits, now)
        done += len(ended)
        decisions += 1
    return Cost(
        runtimes, queued, seconds, enqueue / queued * 1e6, spent / done * 1e6, done / decisions, bytes_per_task(10_000)
    )


def bytes_per_task(count: int) -> float:
    """Memory of the scheduler's own for each queued task of a map; the ids themselves are the core's."""
    scheduler = Scheduler()
    options = Options(Kind.CALL, "module:function")
    tasks = new_task_ids(count)
    tracemalloc.start()
    scheduler.enqueue_many(options, tasks, 0.0)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / count


def measure_singly(runtimes: int, count: int, seconds: float, targets: int = 8) -> float:
    """Microseconds a task when each comes alone with a size of its own in ``meta``, and each end is reported alone."""
    scheduler = Scheduler()
    for index in range(runtimes):
        scheduler.add_runtime(RuntimeInfo(f"r{index}", slots=1), 0.0, ROUND_TRIP)
    source = random.Random(2)
    tasks = new_task_ids(count)
    ends: list[tuple[float, int, str, TaskId, float]] = []
    now = spent = 0.0
    rate = 0.8 * runtimes / seconds
    arrivals = [0.0]
    for _ in range(count):
        arrivals.append(arrivals[-1] + source.expovariate(rate))
    made = [
        Options(Kind.CALL, f"m:f{source.randrange(targets)}", meta={"size": source.lognormvariate(5.0, 1.0)})
        for _ in range(count)
    ]
    arriving = done = 0
    while done < count:
        if arriving < count and (not ends or arrivals[arriving] <= ends[0][0]):
            now = arrivals[arriving]
            began = time.process_time()
            scheduler.enqueue(tasks[arriving], made[arriving], now)
            arriving += 1
        else:
            now, _, runtime, task, length = heapq.heappop(ends)
            began = time.process_time()
            scheduler.finished_many(runtime, [(task, length)], now)
            done += 1
        commits = scheduler.dispatch(now)
        scheduler.take_backs(now)
        spent += time.process_time() - began
        for commit in commits:
            for task in commit.tasks:
                length = source.uniform(0.5, 1.5) * seconds
                heapq.heappush(ends, (now + length + ROUND_TRIP, len(ends), commit.runtime, task, length))
    return spent / count * 1e6
