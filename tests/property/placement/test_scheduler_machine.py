"""The scheduler under any order of events, against a plain model of where each task is.

What must hold after every step: a task is in exactly one place, nothing but slots is ever overdrawn and slots only by work
whose run time is known, take-back neither loses nor doubles, estimates are finite and not negative.
"""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headway_bus.ids import TaskId
from headway_bus.records import Kind, Options, Requirements, RuntimeInfo
from headway_controller.placement import Scheduler
from headway_controller.placement.strategies import BUILT_IN

OPTIONS = [
    Options(Kind.CALL, "m:plain"),
    Options(Kind.CALL, "m:plain", priority=3),
    Options(Kind.CALL, "m:sized", meta={"size": 10}),
    Options(Kind.CALL, "m:sized", meta={"size": 9000}),
    Options(Kind.CALL, "m:wide", requirements=Requirements(slots=2)),
    Options(Kind.CALL, "m:gpu", requirements=Requirements(gpu=0.5)),
    Options(Kind.CALL, "m:gpus", requirements=Requirements(slots=0.5, gpu=1)),
    Options(Kind.CALL, "m:memory", requirements=Requirements(memory=60, cpu=1.5)),
    Options(Kind.CALL, "m:licence", requirements=Requirements(custom={"licence": 1})),
    Options(Kind.CALL, "m:named", requirements=Requirements(runtime="r1")),
    Options(Kind.CALL, "m:labelled", queue="line", requirements=Requirements(labels={"zone": "x"})),
    Options(Kind.CALL, "ocr.page:read", queue="line"),
    Options(Kind.MODEL, "llm"),
]
INFOS = [
    RuntimeInfo("", slots=1),
    RuntimeInfo("", slots=3, speed=4.0, labels={"zone": "x"}),
    RuntimeInfo("", slots=2, gpus=["a", "b"], memory=100, cpu=4, custom={"licence": 1}),
    RuntimeInfo("", slots=4, serves=["call:ocr.*", "model:llm", "call"]),
]
NAMES = [f"r{number}" for number in range(4)]


class Placing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(fifo_queues=["line"])
        self.now = 0.0
        self.made = 0
        self.options: dict[TaskId, Options] = {}
        self.arrived: dict[TaskId, float] = {}
        self.queued: set[TaskId] = set()
        self.committed: dict[TaskId, str] = {}
        self.running: dict[TaskId, str] = {}
        self.asked: dict[TaskId, str] = {}
        self.closed: set[str] = set()

    # ------------------------------------------------------------------------------------------ events

    @rule(name=st.sampled_from(NAMES), info=st.sampled_from(INFOS), round_trip=st.sampled_from([0.0, 0.001, 0.5]))
    def join(self, name: str, info: RuntimeInfo, round_trip: float) -> None:
        if name in self.scheduler.fleet.books:
            self.scheduler.update_runtime(name, self.now, round_trip)
            return
        made = RuntimeInfo(
            name,
            slots=info.slots,
            cpu=info.cpu,
            memory=info.memory,
            gpus=info.gpus,
            custom=info.custom,
            labels=info.labels,
            serves=info.serves,
            speed=info.speed,
        )
        self.scheduler.add_runtime(made, self.now, round_trip)
        self.closed.discard(name)

    @rule(kind=st.sampled_from(OPTIONS), count=st.integers(1, 20))
    def submit(self, kind: Options, count: int) -> None:
        tasks = [TaskId((self.made + number).to_bytes(16, "big")) for number in range(count)]
        self.made += count
        for task in tasks:
            self.options[task], self.arrived[task] = kind, self.now
        self.queued.update(tasks)
        self.scheduler.enqueue_many(kind, tasks, self.now)

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.1, 5.0, 400.0]))
    def decide(self, seconds: float) -> None:
        self.now += seconds
        for commit in self.scheduler.dispatch(self.now):
            assert commit.runtime not in self.closed
            for task in commit.tasks:
                assert self.options[task] is commit.options
                self.queued.remove(task)
                self.committed[task] = commit.runtime
        for name, tasks in self.scheduler.take_backs(self.now):
            for task in tasks:
                assert self.committed[task] == name
                assert task not in self.asked, "asked back twice"
                self.asked[task] = name

    def pick(self, data: st.DataObject, among: dict[TaskId, str]) -> tuple[TaskId, str]:
        task = data.draw(st.sampled_from(sorted(among)))
        return task, among[task]

    @precondition(lambda self: self.committed)
    @rule(data=st.data(), age=st.sampled_from([0.0, 0.5, -3.0, 1e7]))
    def start(self, data: st.DataObject, age: float) -> None:
        task, name = self.pick(data, self.committed)
        del self.committed[task]
        self.asked.pop(task, None)
        self.running[task] = name
        self.scheduler.started(name, task, self.options[task], self.now, age)

    @precondition(lambda self: self.running or self.committed)
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 1e-5, 0.02, 3.0, 3e7, -1.0, math.nan, math.inf]))
    def end(self, data: st.DataObject, seconds: float) -> None:
        task, name = self.pick(data, self.running | self.committed)
        self.running.pop(task, None)
        self.committed.pop(task, None)
        self.asked.pop(task, None)
        assert self.scheduler.finished_many(name, [(task, seconds)], self.now) == 1
        assert self.scheduler.finished_many(name, [(task, seconds)], self.now) == 0, "a repeated report"

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        task, name = self.pick(data, self.asked)
        del self.asked[task], self.committed[task]
        assert self.scheduler.returned(name, task, self.now)
        assert not self.scheduler.returned(name, task, self.now), "a repeated answer"
        self.queued.add(task)
        self.scheduler.enqueue(task, self.options[task], self.arrived[task])

    @precondition(lambda self: self.committed)
    @rule(data=st.data())
    def fail_to_start(self, data: st.DataObject) -> None:
        task, name = self.pick(data, self.committed)
        del self.committed[task]
        self.asked.pop(task, None)
        self.scheduler.start_failed(name, task, self.now, "no such program")
        self.queued.add(task)
        self.scheduler.enqueue(task, self.options[task], self.arrived[task])

    @precondition(lambda self: self.queued)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(sorted(self.queued)))
        self.queued.remove(task)
        self.scheduler.remove(task, self.options[task])

    @rule(name=st.sampled_from(NAMES))
    def lose(self, name: str) -> None:
        held = {task for where in (self.committed, self.running) for task, at in where.items() if at == name}
        assert set(self.scheduler.remove_runtime(name)) == held
        self.closed.discard(name)
        for task in held:
            self.committed.pop(task, None)
            self.running.pop(task, None)
            self.asked.pop(task, None)
            self.queued.add(task)
            self.scheduler.enqueue(task, self.options[task], self.arrived[task])

    @rule(name=st.sampled_from(NAMES), draining=st.booleans())
    def drain(self, name: str, draining: bool) -> None:
        if name in self.scheduler.fleet.books:
            self.scheduler.drain(name, draining)
            (self.closed.add if draining else self.closed.discard)(name)

    @rule(name=st.sampled_from(sorted(BUILT_IN)))
    def switch(self, name: str) -> None:
        self.scheduler.use_strategy(name)

    @rule(kind=st.sampled_from(OPTIONS))
    def ask(self, kind: Options) -> None:
        _, start, end = self.scheduler.waiting(kind, self.now, "")
        for estimate in (start, end):
            for value in (estimate.expectation, estimate.error, estimate.p50, estimate.p90):
                assert math.isfinite(value)
                assert value >= 0.0
        assert self.scheduler.explain(kind, self.now)["lacks"]

    # ------------------------------------------------------------------------------------------ what must hold

    @invariant()
    def the_books_agree_with_the_model(self) -> None:
        self.scheduler.validate()
        assert self.scheduler.queued == len(self.queued)
        books = self.scheduler.fleet.books.items()
        assert {task: name for name, book in books for task in book.committed} == self.committed
        assert {task: name for name, book in books for task in book.running} == self.running

    @invariant()
    def nothing_scarce_is_overdrawn(self) -> None:
        for book in self.scheduler.fleet.books.values():
            stock = book.stock
            assert stock.cpu >= -1e-9
            assert stock.memory >= 0
            assert all(-1e-9 <= share <= 1 + 1e-9 for share in stock.gpus)
            assert all(amount >= -1e-9 for amount in stock.custom.values())

    @invariant()
    def queues_are_finite_and_count_everything_once(self) -> None:
        states = self.scheduler.queues("", self.now)
        assert sum(state.committed for state in states) == len(self.committed)
        assert sum(state.running for state in states) == len(self.running)
        assert sum(state.planned for state in states) <= len(self.queued)
        for state in states:
            assert math.isfinite(state.waiting.expectation)
            assert state.waiting.expectation >= 0.0
            assert math.isfinite(state.waiting.error)

    def teardown(self) -> None:
        """Nothing starves: with runtimes that may run everything, all that waits comes to an end."""
        for name in list(self.scheduler.fleet.books):
            self.lose(name)
        self.scheduler.use_strategy("headway_completion")
        everything = {"slots": 4, "cpu": 8, "memory": 1000, "gpus": ["a", "b"], "custom": {"licence": 1.0}}
        serves = ["call", "call:ocr.*", "model:llm"]
        for name in ("r1", "r9"):
            info = RuntimeInfo(name, labels={"zone": "x"}, serves=serves, **everything)  # type: ignore[arg-type]
            self.scheduler.add_runtime(info, self.now)
        left = len(self.queued)
        for _ in range(left + 1):
            self.decide(1.0)
            for task, name in list(self.committed.items()):
                del self.committed[task]
                self.scheduler.finished_many(name, [(task, 0.5)], self.now)
            self.asked.clear()
        assert not self.queued, f"{len(self.queued)} of {left} tasks were never sent"


Placing.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPlacing = Placing.TestCase
