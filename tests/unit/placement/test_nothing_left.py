"""Whatever happens, and in whatever order: no task waits while a runtime that may run it has free what it needs."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from placement_cases import options

from headway_bus.ids import TaskId, new_task_ids
from headway_bus.records import Options, Requirements, RuntimeInfo
from headway_controller.placement import Scheduler
from headway_controller.placement.book import Book
from headway_controller.placement.credit import LEASED_AHEAD
from headway_controller.placement.eligibility import Demand
from headway_controller.placement.scheduler import START_FAILURES

NAMES = ("a", "b", "c", "d", "e0", "e1")


class World:
    """A scheduler, what it has been told, and one event after another drawn by lot."""

    def __init__(self, seed: int) -> None:
        self.source = random.Random(seed)
        self.scheduler = Scheduler()
        self.now = 0.0
        self.tasks: dict[TaskId, tuple[Options, str]] = {}
        self.held: dict[TaskId, str] = {}
        self.running: dict[TaskId, float] = {}
        self.events: list[Callable[[], None]] = [
            self.submit, self.submit, self.submit, self.start, self.start, self.end, self.end, self.give_back,
            self.fail_to_start, self.cancel, self.come, self.come, self.go, self.drain, self.drain, self.set_aside,
            self.measure, self.take_back, self.adopt, self.use_strategy, self.forget_estimates, self.wait,
        ]  # fmt: skip

    # ------------------------------------------------------------------------------------------ what may happen

    def submit(self) -> None:
        source = self.source
        runtime = source.choice(("", "", *NAMES))
        wanted = Requirements(
            slots=source.choice((0.5, 1.0, 1.0, 2.0)) * source.choice((1.0, 1.0, 1.0 + source.randrange(1, 30) / 100)),
            cpu=source.choice((0.0, 0.0, 1.0)),
            gpu=source.choice((0.0, 0.0, 0.0, 0.5)),
            custom=source.choice(({}, {}, {"licence": 1.0})),
            labels=source.choice(({}, {}, {"zone": "x"})),
            runtime=runtime,
        )
        kind = options(
            f"m:f{source.randrange(4)}",
            namespace=f"n{source.randrange(2)}",
            priority=source.randrange(2),
            requirements=wanted,
            offline=60.0 if runtime.startswith("e") and source.random() < 0.5 else 0.0,
        )
        owner, tasks = f"c{source.randrange(3)}", new_task_ids(source.choice((1, 1, 3, 40)))
        self.tasks.update(dict.fromkeys(tasks, (kind, owner)))
        self.scheduler.enqueue_many(kind, tasks, self.now, owner)

    def start(self) -> None:
        for task in [each for each in self.held if each not in self.running][: self.source.randrange(1, 6)]:
            self.running[task] = self.now
            self.scheduler.started_many(self.held[task], [(task, 0.0)], self.now)

    def end(self) -> None:
        for task in list(self.running)[: self.source.randrange(1, 6)]:
            self.scheduler.finished_many(self.held[task], [(task, self.source.choice((0.001, 1.0, 30.0)))], self.now)
            self.forget(task)

    def give_back(self) -> None:
        if (task := self.some([each for each in self.held if each not in self.running])) is not None:
            self.again(task, self.scheduler.returned(self.held[task], task, self.now))

    def fail_to_start(self) -> None:
        for task in [each for each in self.held if each not in self.running][:START_FAILURES]:
            self.scheduler.start_failed(self.held[task], task, self.now, "by lot")
            self.again(task, True)

    def cancel(self) -> None:
        if (task := self.some([each for each in self.tasks if each not in self.held])) is not None:
            self.scheduler.remove(task, *self.tasks.pop(task))

    def come(self) -> None:
        """A runtime comes, or says that it offers something else now."""
        source, name = self.source, self.source.choice(NAMES)
        info = RuntimeInfo(
            name,
            slots=source.choice((0.0, 1.0, 2.0, 4.0)),
            cpu=source.choice((0.0, 4.0)),
            gpus=source.choice(([], ["g", "g"])),
            custom=source.choice(({}, {"licence": 2.0})),
            labels=source.choice(({}, {"zone": "x"})),
            serves=source.choice(([], ["call"], [f"call:m:f{source.randrange(4)}"])),
            edge=name.startswith("e"),
        )
        self.scheduler.add_runtime(info, self.now, source.choice((0.0, 0.01, 0.5)))

    def go(self) -> None:
        if (name := self.some(list(self.scheduler.fleet.books))) is not None:
            for task in self.scheduler.remove_runtime(name):
                self.again(task, True)

    def drain(self) -> None:
        if (name := self.some(list(self.scheduler.fleet.books))) is not None:
            self.scheduler.drain(name, self.source.random() < 0.3)

    def set_aside(self) -> None:
        if (name := self.some(list(self.scheduler.fleet.books))) is not None:
            self.scheduler.set_aside(name, "by lot", self.now + self.source.choice((0.0, 1.0, 5.0)))

    def measure(self) -> None:
        if (name := self.some(list(self.scheduler.fleet.books))) is not None:
            self.scheduler.update_runtime(name, self.now, self.source.choice((0.0, 0.02, 1.0)))

    def take_back(self) -> None:
        for name, tasks in self.scheduler.take_backs(self.now):
            for task in tasks:
                if self.source.random() < 0.7 and self.held.get(task) == name:
                    self.again(task, self.scheduler.returned(name, task, self.now))

    def adopt(self) -> None:
        """A runtime holds what the controller took for lost."""
        task = self.some([each for each in self.tasks if each not in self.held])
        name = self.some(list(self.scheduler.fleet.books))
        if task is not None and name is not None:
            kind, owner = self.tasks[task]
            self.scheduler.remove(task, kind, owner)
            self.scheduler.adopt(name, task, kind, self.now, self.source.choice((None, 1.0)))
            self.held[task] = name
            if task in self.scheduler.fleet.books[name].running:
                self.running[task] = self.now

    def use_strategy(self) -> None:
        self.scheduler.use_strategy(
            self.source.choice(("headway_completion", "headway_completion", "fifo", "round_robin"))
        )

    def forget_estimates(self) -> None:
        self.scheduler.use_predictor("learned")

    def wait(self) -> None:
        """Time passes, until the scheduler wants to be asked again or only a little."""
        wake = self.scheduler.next_wake()
        self.now = max(self.now, min(wake, self.now + 10.0)) if self.source.random() < 0.7 else self.now + 0.05

    # ------------------------------------------------------------------------------------------ what follows from it

    def some(self, among: list[TaskId] | list[str]) -> TaskId | str | None:
        return self.source.choice(among) if among else None

    def forget(self, task: TaskId) -> None:
        self.held.pop(task, None)
        self.running.pop(task, None)
        self.tasks.pop(task, None)

    def again(self, task: TaskId, was_there: bool) -> None:
        assert was_there
        kind, owner = self.tasks[task]
        self.held.pop(task)
        self.running.pop(task, None)
        self.scheduler.enqueue(task, kind, self.now, owner)

    def step(self) -> None:
        self.source.choice(self.events)()
        self.dispatch()

    def dispatch(self) -> None:
        for commit in self.scheduler.dispatch(self.now):
            for task in commit.tasks:
                assert task not in self.held
                self.held[task] = commit.runtime
        self.scheduler.validate()

    def has_free(self, book: Book, demand: Demand) -> bool:
        if not book.open(self.now) or demand.refusals(book.info):
            return False
        leases = demand.leased_ahead and book.info.edge and len(book.committed) < LEASED_AHEAD
        return leases or book.stock.fits(demand.need)

    def left(self) -> list[tuple[str, Demand]]:
        """Runtimes, and what waits though they have room for it."""
        scheduler = self.scheduler
        books, plans = scheduler.fleet.books.values(), scheduler.binder.plans
        lanes = list(scheduler.backlog.busy_lanes())
        found = [(book.name, lane.demand) for lane in lanes for book in books if self.has_free(book, lane.demand)]
        planned = [(book, lane.demand) for book in books for lane in plans.lanes_of(book)]
        return found + [(book.name, demand) for book, demand in planned if self.has_free(book, demand)]


@pytest.mark.parametrize("seed", range(40))
def test_no_task_waits_while_a_runtime_has_room_for_it(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway_controller.placement.fleet.MAX_WATCHED", 4)
    world = World(seed)
    for number in range(250):
        world.step()
        assert world.left() == [], f"after event {number}"
