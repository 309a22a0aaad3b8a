"""Runtimes and links in simulated time around the real :class:`headway_controller.placement.Scheduler`.

The scheduler sees a runtime one delay late and is heard one delay later, as behind a real link. A runtime does what the
real one does: it starts what it was given in order, reports each start and end, and gives back what it is asked for if
that has not started. Nothing of the scheduling is repeated here.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.placement.workloads import Task

from headway_bus.ids import TaskId
from headway_bus.records import Kind, Options, RuntimeInfo
from headway_controller.placement import Scheduler


class Link(NamedTuple):
    """One simulated runtime: its speed, one-way delay in seconds, and slots."""

    speed: float
    delay: float
    slots: int = 1


class Result(NamedTuple):
    """``latencies`` by task, in seconds; ``decision`` is the scheduler's own CPU time a task, in seconds."""

    latencies: list[float]
    decision: float
    backlog: int
    taken_back: int
    scores: dict[str, dict[str, float]]
    makespan: float


class SimulatedRuntime:
    """Slots, a queue of what was given, and the news it sends."""

    def __init__(self, world: World, name: str, link: Link) -> None:
        self.world = world
        self.name = name
        self.link = link
        self.queue: deque[int] = deque()
        self.free = link.slots

    def receive(self, tasks: Sequence[int]) -> None:
        self.queue.extend(tasks)
        started = self.start_next()
        if started:
            self.world.later(self.link.delay, lambda: self.world.on_report(self.name, started, []))

    def start_next(self) -> list[int]:
        started = []
        while self.free and self.queue:
            task = self.queue.popleft()
            self.free -= 1
            seconds = self.world.tasks[task].work / self.link.speed
            self.world.later(seconds, lambda task=task, seconds=seconds: self.end(task, seconds))  # type: ignore[misc]
            started.append(task)
        return started

    def end(self, task: int, seconds: float) -> None:
        self.free += 1
        started = self.start_next()
        self.world.later(self.link.delay, lambda: self.world.on_report(self.name, started, [(task, seconds)]))

    def give_back(self, tasks: Sequence[int]) -> None:
        wanted = set(tasks)
        given = [task for task in self.queue if task in wanted]
        if given:
            self.queue = deque(task for task in self.queue if task not in wanted)
            self.world.later(self.link.delay, lambda: self.world.on_return(self.name, given))


class World:
    """One run: the tasks, the runtimes, the clock."""

    def __init__(self, tasks: Sequence[Task], links: Sequence[Link], scheduler: Scheduler, declared: bool) -> None:
        self.tasks = tasks
        self.now = 0.0
        self.scheduler = scheduler
        self.latencies = [-1.0] * len(tasks)
        self.decision = 0.0
        self.taken_back = 0
        self.finished = 0
        self.backlog = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._options: dict[tuple[str, int], Options] = {}
        self.ids = [TaskId(index.to_bytes(16, "big")) for index in range(len(tasks))]
        self.runtimes: dict[str, SimulatedRuntime] = {}
        for index, link in enumerate(links):
            name = f"r{index:03}"
            self.runtimes[name] = SimulatedRuntime(self, name, link)
            info = RuntimeInfo(name, slots=link.slots, speed=link.speed if declared else 1.0)
            scheduler.add_runtime(info, 0.0, 2 * link.delay)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (self.now + seconds, self._sequence, act))

    def options_of(self, task: Task, index: int) -> Options:
        if task.meta:
            key = (task.target, index)
            made = self._options[key] = Options(Kind.CALL, task.target, meta=task.meta)
            return made
        key = (task.target, -1)
        if key not in self._options:
            self._options[key] = Options(Kind.CALL, task.target)
        return self._options[key]

    def run(self, timers: bool = True) -> None:
        """Until every task has ended."""
        arriving = 0
        tasks, events = self.tasks, self._events
        while self.finished < len(tasks):
            next_arrival = tasks[arriving].arrival if arriving < len(tasks) else float("inf")
            next_event = events[0][0] if events else float("inf")
            wake = self.scheduler.next_wake() if timers else float("inf")
            self.now = max(self.now, min(next_arrival, next_event, wake))
            if wake < next_arrival and wake < next_event:
                self.decide()
            elif next_arrival <= next_event:
                self.arrive(arriving)
                arriving += 1
                if arriving == len(tasks):
                    self.backlog = self.scheduler.queued
            else:
                heapq.heappop(events)[2]()

    def arrive(self, index: int) -> None:
        task = self.tasks[index]
        options = self.options_of(task, index)
        began = time.process_time()
        self.scheduler.enqueue(self.ids[index], options, self.now)
        self.decision += time.process_time() - began
        self.decide()

    def decide(self) -> None:
        began = time.process_time()
        commits = self.scheduler.dispatch(self.now)
        recalls = self.scheduler.take_backs(self.now)
        self.decision += time.process_time() - began
        for commit in commits:
            runtime = self.runtimes[commit.runtime]
            indices = [int.from_bytes(task, "big") for task in commit.tasks]
            self.later(runtime.link.delay, lambda r=runtime, i=indices: r.receive(i))  # type: ignore[misc]
        for name, tasks in recalls:
            runtime = self.runtimes[name]
            indices = [int.from_bytes(task, "big") for task in tasks]
            self.later(runtime.link.delay, lambda r=runtime, i=indices: r.give_back(i))  # type: ignore[misc]

    def on_report(self, name: str, started: Sequence[int], ended: Sequence[tuple[int, float]]) -> None:
        began = time.process_time()
        if ended:
            self.scheduler.finished_many(name, [(self.ids[task], seconds) for task, seconds in ended], self.now)
        if started:
            self.scheduler.started_many(name, [(self.ids[task], 0.0) for task in started], self.now)
        self.decision += time.process_time() - began
        for task, _ in ended:
            self.latencies[task] = self.now - self.tasks[task].arrival
            self._options.pop((self.tasks[task].target, task), None)
        self.finished += len(ended)
        self.decide()

    def on_return(self, name: str, tasks: Sequence[int]) -> None:
        began = time.process_time()
        for task in tasks:
            self.scheduler.returned(name, self.ids[task], self.now)
            given = self.tasks[task]
            options = self._options.get((given.target, task)) or self.options_of(given, task)
            self.scheduler.enqueue(self.ids[task], options, given.arrival)
        self.taken_back += len(tasks)
        self.decision += time.process_time() - began
        self.decide()


def simulate(
    tasks: Sequence[Task],
    links: Sequence[Link],
    scheduler: Scheduler,
    declared: bool = False,
    timers: bool = True,
) -> Result:
    """Run the tasks on the runtimes. ``declared``: runtimes say how fast they are; else it has to be learned."""
    world = World(tasks, links, scheduler, declared)
    world.run(timers)
    scheduler.validate()
    return Result(
        world.latencies,
        world.decision / max(len(tasks), 1),
        world.backlog,
        world.taken_back,
        scheduler.scores(),
        world.now,
    )
