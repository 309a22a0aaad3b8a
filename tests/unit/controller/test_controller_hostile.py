"""Messages that are well formed and make no sense, in any order and from anybody: the core never fails, its tables agree,
and an honest client's tasks end all the same."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from controller_bench import CLIENT, Bench, broken, options, task_id

from headway_bus import messages as m
from headway_bus.ids import TaskId, text_of
from headway_bus.records import (
    AttemptEnd,
    Blob,
    Code,
    Ended,
    Held,
    LogRecord,
    Requirements,
    Retry,
    RuntimeInfo,
    Started,
    Status,
)

HONEST = "honest-runtime"
VILLAINS = ("villain-1", "villain-2", "villain-client")


class Villain:
    """Makes messages up. The ids it speaks of are partly those of the honest client's tasks."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.as_runtime = [
            self.register,
            self.register,
            self.report,
            self.report,
            self.report,
            self.heartbeat,
            self.leave,
        ]
        self.as_client = [self.submit, self.submit, self.cancel, self.wait, self.received, self.drain]

    def message(self, source: str) -> m.Message:
        """One that the broker would let through from there."""
        return self.dice.choice(self.as_client if source.endswith("client") else self.as_runtime)()

    def number(self) -> int:
        return self.dice.choice([0, 1, 1, 2, 3, -1, 2**31, 2**53 + 1, 2**63, 2**64 - 1])

    def seconds(self) -> float:
        return self.dice.choice([0.0, 1.0, 0.001, -1.0, 1e9, 1e308, math.nan, math.inf, -math.inf])

    def task(self) -> TaskId:
        if self.dice.random() < 0.1:
            return TaskId(self.dice.choice([b"", b"x", b"x" * 100]))
        return task_id(self.dice.randrange(1, 12))

    def some(self, make: Callable[[], Any], most: int = 4) -> list[Any]:
        return [make() for _ in range(self.dice.randrange(most))]

    def register(self) -> m.Message:
        info = RuntimeInfo(
            self.dice.choice(["", HONEST, "villain-1", "x" * 1000]), self.seconds(), self.seconds(), self.number(), ["gpu"],
            {"tpu": self.seconds()}, {"zone": "a"}, self.some(lambda: self.dice.choice(["call", "call:*", "model:x", "[", ""])),
            speed=self.seconds(),
        )  # fmt: skip
        if self.dice.random() < 0.6:
            info = RuntimeInfo(info.name, 2.0)
        instance = self.dice.choice([b"", b"one", b"two"])
        return m.Register(info, instance, self.some(self.held, 6), self.number() % 2**63, self.dice.random() < 0.2)

    def held(self) -> Held:
        return Held(
            self.task(), self.number(), self.dice.choice(["held", "running", "ended", "dancing", ""]), self.seconds()
        )

    def report(self) -> m.Message:
        return m.Report(
            self.number(),
            self.some(lambda: Started(self.task(), self.number(), self.seconds())),
            self.some(self.ended),
            self.some(
                lambda: LogRecord(
                    self.task(), self.number(), self.number(), "progress", self.seconds(), "x", {"done": "x"}
                )
            ),
            {bytes(self.task()): self.number() for _ in range(2)},
        )

    def ended(self) -> Ended:
        result = self.dice.choice([b"", 0, 1, -1, 2**40, Blob(b"x" * 32, self.number())])
        error = self.dice.choice([None, broken()])
        end = self.dice.choice(list(AttemptEnd))
        return Ended(self.task(), self.number(), end, self.seconds(), result, error, self.seconds())

    def heartbeat(self) -> m.Message:
        return m.Heartbeat(
            self.seconds(), self.number(), self.number(), self.number() % 2**64, self.seconds(), self.seconds(), {"x": 1.0}
        )  # fmt: skip

    def submit(self) -> m.Message:
        made = options(
            self.dice.choice(["a:f", "", "nonsense"]), job=self.dice.choice(["", "j"]), after=self.some(self.task),
            after_count=self.dice.choice(["all", "any", ""]), after_end=self.dice.choice(["success", "always"]),
            delay=self.seconds(), timeout_start=self.seconds(), priority=self.number(), retention=self.seconds(),
            meta={"n": self.seconds()}, requirements=Requirements(slots=self.seconds(), gpu=self.seconds()),
            retry=Retry(self.number(), self.number(), self.seconds(), self.seconds()), key="k",
        )  # fmt: skip
        if self.dice.random() < 0.5:
            made = options(after=self.some(self.task), delay=self.dice.choice([0.0, 1.0]), meta={"n": self.seconds()})
        # Not the honest client's ids: whoever submits one first has it, which is what ids are for.
        tasks = [(task_id(self.dice.randrange(100, 110)), self.dice.choice([b"", 0, 7, -1])) for _ in range(3)]
        return m.Submit(self.number() % 2**63, [m.Group(made, tasks)], again=self.dice.random() < 0.5)

    def cancel(self) -> m.Message:
        return m.Cancel(1, [task_id(self.dice.randrange(100, 110))], self.dice.choice(["", "j"]))

    def wait(self) -> m.Message:
        return m.Await(1, self.some(self.task))

    def received(self) -> m.Message:
        return m.Received(self.some(lambda: self.number() % 2**63))

    def drain(self) -> m.Message:
        return m.DrainRuntime(1, self.dice.choice(["villain-1", "villain-2", "", "nobody"]), self.dice.random() < 0.5)

    def leave(self) -> m.Message:
        return m.RuntimeLeaving("x")


def serve(bench: Bench) -> None:
    """The honest runtime does what it was assigned, and shows that it lives."""
    for message in bench.take_all(HONEST):
        for group in message.groups if isinstance(message, m.Assign) else []:
            for task, attempt, _ in group.attempts:
                ended = Ended(task, attempt, AttemptEnd.SUCCEEDED, 0.5, b"honest")
                bench.report(HONEST, started=[Started(task, attempt, 0.5)], ended=[ended])
    bench.beat(HONEST)


@pytest.mark.parametrize("seed", range(40))
def test_nonsense_from_others_neither_breaks_the_core_nor_an_honest_clients_tasks(seed: int) -> None:
    villain, bench = Villain(seed), Bench(seed=seed)
    for name in VILLAINS[:2]:
        bench._roles[name] = "runtime"
    bench.join(HONEST, slots=1.0)
    bench.submit(*range(1, 12), requirements=Requirements(runtime=HONEST))
    told: dict[TaskId, bytes] = {}
    for _ in range(60):
        source = villain.dice.choice(VILLAINS)
        if villain.dice.random() < 0.1:
            bench.tell(
                "", m.PeerChanged(source, "runtime", b"x", villain.dice.choice(["up", "gone", "bye", "revoked"]))
            )
        elif villain.dice.random() < 0.1:
            bench.tell("", m.Undeliverable(source, "assign", Code.UNKNOWN_TARGET))
        else:
            bench.tell(source, villain.message(source), *[b"frame"] * villain.dice.randrange(2))
        bench.wait(villain.dice.choice([0.0, 0.1, 1.0]))
        serve(bench)
        for sent in bench.take_all(CLIENT):
            assert isinstance(sent, m.TasksEnded)
            assert not {each.task for each in sent.outcomes} & set(told), "an end is told once"
            told.update((each.task, each.result) for each in sent.outcomes)
            bench.tell(CLIENT, m.Received([sent.batch]))
        for name in VILLAINS:
            bench.take_all(name)
    assert told == {task_id(number): b"honest" for number in range(1, 12)}
    assert all(bench.status(number) == Status.SUCCEEDED for number in range(1, 12))
    assert not any(text_of(task_id(number)) in str(note.fields) for note in bench.notes for number in range(1, 12))
