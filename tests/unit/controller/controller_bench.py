"""A bench for the controller's core: messages go in and come out through the codec, and a store that keeps only books.

Every test takes each message that was sent; ``emptiness_check`` fails on one that nobody took. So a test says all that
the controller does, and every core test is a test of the wire, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from headway_bus import messages as m
from headway_bus.codec import encode, for_client, for_controller, for_runtime
from headway_bus.errors import HeadwayError, StoreError
from headway_bus.ids import AttemptKey, TaskId, digest_of
from headway_bus.records import AttemptEnd, Ended, ErrorInfo, Held, Kind, Options, Reason, RuntimeInfo, Started, Status
from headway_controller.core import Controller
from headway_controller.effects import Effect, Join, Note, ReadOutcomes, Send, Write
from headway_controller.placement import Scheduler
from headway_controller.state import Task, status_of
from headway_controller.store.protocol import (
    AppendLogs,
    DescribeTask,
    DropTasks,
    EndTask,
    NewTasks,
    Operation,
    SaveState,
    StoredEnd,
    StoredTask,
    UpdateTask,
)
from headway_controller.unions.joining import join
from headway_controller.unions.unions import state_key
from headway_controller.views import outcome_of_stored

BROKER = ""
CLIENT = "client-1"
RUNTIME = "runtime-1"
WALL = 1_700_000_000.0
"""Unix time at zero of the bench's clock."""

Answer = TypeVar("Answer")


def task_id(number: int) -> TaskId:
    return TaskId(number.to_bytes(16, "big"))


def options(target: str = "a:f", **fields: Any) -> Options:
    return Options(Kind.CALL, target, **fields)


def broken(reason: Reason = Reason.EXCEPTION, message: str = "no luck", type: str = "ValueError") -> ErrorInfo:
    return ErrorInfo(reason, message, type)


@dataclass(frozen=True)
class Sent:
    """A message that left, as its receiver decodes it."""

    target: str
    message: m.Message
    frames: tuple[bytes, ...]


class Books:
    """What a store has: tasks, ends, updates. It never fails by itself."""

    def __init__(self) -> None:
        self.rows: dict[TaskId, StoredTask] = {}
        self.logs: list[AppendLogs] = []
        self.saved: dict[str, bytes] = {}

    def find(self, tasks: Sequence[TaskId]) -> list[StoredTask]:
        return [self.rows[task] for task in tasks if task in self.rows]

    def apply(self, operations: Sequence[Operation]) -> list[TaskId]:
        """As the store does: within a write new tasks come before updates and ends, in whatever order they were given."""
        known = [task for operation in operations if isinstance(operation, NewTasks) for task in self._new(operation)]
        for operation in operations:
            match operation:
                case EndTask(task=task) if task in self.rows and self.rows[task].end is None:
                    self._change(task, end=_end_of(operation), failures=operation.failures, losses=operation.losses)
                    self._change(task, story=operation.story)
                case UpdateTask(task=task) if task in self.rows:
                    self._update(operation)
                case DescribeTask(task=task, described=described) if task in self.rows:
                    self._change(task, described=described)
                case DropTasks(tasks=tasks):
                    for task in tasks:
                        self.rows.pop(task, None)
                case AppendLogs():
                    self.logs.append(operation)
                case SaveState(key=key, value=saved):
                    self.saved.pop(key, None)
                    if saved is not None:
                        self.saved[key] = saved
                case _:
                    assert isinstance(operation, NewTasks | EndTask | UpdateTask), operation
        return known

    def _new(self, new: NewTasks) -> list[TaskId]:
        known = []
        for task, payload in new.tasks:
            if task in self.rows:
                known.append(task)
                continue
            value = bytes(payload) if isinstance(payload, memoryview) else payload
            number = len(self.rows) + 1
            row = StoredTask(number, task, new.options, new.submitted, new.client, value, 0, 0, 0, 0.0, b"", None)
            self.rows[task] = row
        return known

    def _update(self, update: UpdateTask) -> None:
        row = self.rows[update.task]
        if row.end is not None and not update.reopen:
            return
        self._change(
            update.task, end=None, attempt=update.attempt, failures=update.failures, losses=update.losses,
            not_before=update.not_before, story=update.story,
        )  # fmt: skip

    def _change(self, task: TaskId, **fields: Any) -> None:
        self.rows[task] = msgspec.structs.replace(self.rows[task], **fields)


def _end_of(end: EndTask) -> StoredEnd:
    result = bytes(end.result) if isinstance(end.result, memoryview) else end.result
    size = len(result) if isinstance(result, bytes) else result.size
    return StoredEnd(
        end.status, end.attempt, end.ended, end.started, end.seconds, end.runtime, end.predicted, end.expires,
        end.error, result, size,
    )  # fmt: skip


class Bench:
    """A controller on a bench."""

    def __init__(self, books: Books | None = None, **settings: Any) -> None:
        self.now = 1000.0
        self.books = books if books is not None else Books()
        self.controller = Controller(b"instance", Scheduler(), wall_offset=WALL, **settings)
        self.controller.reports.settle_batches = 1  # at once; that they wait for company has a test of its own
        self.sent: list[Sent] = []
        self.notes: list[Note] = []
        self.unstored: list[Write] = []
        self.holding = False
        """While true, writes wait in ``unstored`` until ``store`` or ``fail`` is called."""

        self._hears = for_controller()
        self._batch = 0
        self._request = 100
        self._roles: dict[str, str] = {}

    # -------------------------------------------------------------------------------------- steps

    def tell(self, source: str, message: m.Message, *frames: bytes) -> None:
        """A message from a peer, and the rest of that wake-up."""
        self.hear(source, message, *frames)
        self.turn()

    def hear(self, source: str, message: m.Message, *frames: bytes) -> None:
        """A message from a peer, with others of the same wake-up to follow."""
        decoded = self._hears.decode(encode(message))
        assert self.controller.on_message(source, decoded, list(frames), self.now), f"{message} is none of the core's"

    def turn(self) -> None:
        """The end of a wake-up: effects are carried out until there are none."""
        while effects := self.controller.finish(self.now):
            for effect in effects:
                self._carry_out(effect)
        self.controller.validate()

    def wait(self, seconds: float) -> None:
        """Time passes, and the timers see it."""
        self.now += seconds
        self.controller.on_time(self.now)
        self.turn()

    def wait_beating(self, seconds: float, *runtimes: str) -> None:
        """Time passes in steps of a heartbeat, and these runtimes show that they live."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + self.controller.heartbeat)
            for name in runtimes or [RUNTIME]:
                self.beat(name)
            self.controller.on_time(self.now)
            self.turn()

    def store(self) -> None:
        """All writes that were held back succeed."""
        writes, self.unstored = self.unstored, []
        for write in writes:
            self.controller.on_stored(write.ticket, None, self.books.apply(write.operations), self.now)
        self.turn()

    def fail(self, text: str = "the disk is full") -> None:
        """All writes that were held back fail."""
        writes, self.unstored = self.unstored, []
        for write in writes:
            self.controller.on_stored(write.ticket, StoreError(text), (), self.now)
        self.turn()

    def restarted(self, **settings: Any) -> Bench:
        """Another controller on the same books, a moment after this one was killed. It has not yet taken them in."""
        other = Bench(self.books, **settings)
        other.now = self.now
        other._batch, other._request = self._batch, self._request
        return other

    def recover(self, grace: float = 5.0) -> None:
        """Take in what the books have, as the service does when it starts."""
        rows = list(self.books.rows.values())
        ends = {row.task: row.end.status for row in rows if row.end is not None}
        self.controller.life.remember(ends)
        unfinished = [row for row in rows if row.end is None]
        saved = {row.task: self.books.saved.get(state_key(row.task)) for row in unfinished}
        unions = {union: progress for union, progress in saved.items() if progress is not None}
        self.controller.restore(unfinished, ends, self.now, self.now + grace, unions=unions)
        self.turn()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(target, message, frames):
                self._deliver(target, message, tuple(bytes(frame) for frame in frames))
            case Write() as write:
                if self.holding:
                    self.unstored.append(write)
                else:
                    self.controller.on_stored(write.ticket, None, self.books.apply(write.operations), self.now)
            case ReadOutcomes(client, tasks):
                rows = [self.books.rows[task] for task in tasks if task in self.books.rows]
                outcomes = [outcome for row in rows if (outcome := outcome_of_stored(row)) is not None]
                missing = [task for task in tasks if task not in {outcome.task for outcome in outcomes}]
                self.controller.on_outcomes(client, outcomes, missing, self.now)
            case Join() as wanted:
                self._join(wanted)
            case Note() as note:
                self.notes.append(note)

    def _join(self, wanted: Join) -> None:
        try:
            payload, count = join(self.books, wanted.call, wanted.sources, wanted.is_divisible, 1 << 20)  # type: ignore[arg-type]
        except HeadwayError as error:
            self.controller.on_joined(wanted, b"", 0, str(error), self.now)
        else:
            self.controller.on_joined(wanted, payload, count, "", self.now)

    def _deliver(self, target: str, message: m.Message, frames: tuple[bytes, ...]) -> None:
        decoder = for_runtime() if self._roles.get(target) == "runtime" else for_client()
        self.sent.append(Sent(target, decoder.decode(encode(message)), frames))

    # -------------------------------------------------------------------------------------- what was sent

    def take(self, target: str, kind: type[Answer]) -> Answer:
        """The oldest message to that peer, which must be of this kind."""
        for index, sent in enumerate(self.sent):
            if sent.target == target:
                assert isinstance(sent.message, kind), f"expected {kind.__name__} for {target}, got {sent.message}"
                del self.sent[index]
                self.frames = sent.frames
                return sent.message
        raise AssertionError(f"nothing was sent to {target}; expected {kind.__name__}; sent: {self.sent}")

    def take_all(self, target: str) -> list[m.Message]:
        """Everything sent to that peer."""
        found = [sent.message for sent in self.sent if sent.target == target]
        self.sent = [sent for sent in self.sent if sent.target != target]
        return found

    def emptiness_check(self) -> None:
        """Nothing was sent that nobody took, and nothing waits to be stored."""
        assert not self.sent, f"messages that nobody took: {self.sent}"
        assert not self.unstored, f"writes that nobody stored: {self.unstored}"

    def nothing_sent(self) -> None:
        """Nothing was sent that nobody took; writes may be waiting."""
        assert not self.sent, f"messages that nobody took: {self.sent}"

    # -------------------------------------------------------------------------------------- a client

    def submit(
        self, *numbers: int, client: str = CLIENT, watch: bool = True, again: bool = False, **fields: Any
    ) -> None:
        """Tasks of these numbers, accepted."""
        request = self.ask_submit(*numbers, client=client, watch=watch, again=again, **fields)
        accepted = self.take(client, m.Accepted)
        assert (accepted.request, accepted.count) == (request, len(numbers))

    def ask_submit(
        self, *numbers: int, client: str = CLIENT, watch: bool = True, again: bool = False, **fields: Any
    ) -> int:
        """The same, whatever the answer; the request's number."""
        request = self.request()
        tasks: list[tuple[TaskId, Any]] = [(task_id(number), b"arguments") for number in numbers]
        self.tell(client, m.Submit(request, [m.Group(options(**fields), tasks)], watch, again))
        return request

    def request(self) -> int:
        self._request += 1
        return self._request

    def take_ends(self, client: str = CLIENT, acknowledge: bool = True) -> dict[TaskId, Status]:
        """The next batch of ends for a client, by task."""
        return {each.task: each.status for each in self.take_outcomes(client, acknowledge)}

    def take_outcomes(self, client: str = CLIENT, acknowledge: bool = True) -> list[Any]:
        batch = self.take(client, m.TasksEnded)
        if acknowledge:
            self.tell(client, m.Received([batch.batch]))
        return batch.outcomes

    # -------------------------------------------------------------------------------------- a runtime

    def join(
        self, name: str = RUNTIME, slots: float = 1.0, held: Sequence[Held] = (), instance: bytes = b"", assigned: int = 0,
        **fields: Any,
    ) -> m.Registered:  # fmt: skip
        """A runtime registers; the answer."""
        self._roles[name] = "runtime"
        register = m.Register(RuntimeInfo(name, slots, **fields), instance or name.encode(), list(held), assigned)
        self.tell(name, register)
        return self.take(name, m.Registered)

    def take_assigned(self, name: str = RUNTIME) -> list[AttemptKey]:
        """The attempts of the next assignment."""
        assign = self.take(name, m.Assign)
        return [(task, attempt) for group in assign.groups for task, attempt, _ in group.attempts]

    def beat(self, name: str = RUNTIME, held: Sequence[AttemptKey] | None = None, assigned: int | None = None) -> None:
        """A heartbeat that agrees with what the controller thinks, unless told otherwise."""
        runtime = self.controller.state.runtimes[name]
        if held is None:
            held = list(runtime.held)
        digest = 0
        for key in held:
            digest ^= digest_of(*key)
        through = runtime.outbox.last_number if assigned is None else assigned
        self.tell(name, m.Heartbeat(self.now, through, len(held), digest))
        if runtime.state != "offline":
            seen = next(
                i
                for i, each in enumerate(self.sent)
                if each.target == name and isinstance(each.message, m.HeartbeatSeen)
            )
            del self.sent[seen]

    def start(self, number: int, attempt: int = 1, name: str = RUNTIME, age: float = 0.0) -> None:
        """The runtime says that an attempt began."""
        self.report(name, started=[Started(task_id(number), attempt, age)])

    def end(
        self, number: int, attempt: int = 1, end: AttemptEnd = AttemptEnd.SUCCEEDED, name: str = RUNTIME,
        error: ErrorInfo | None = None, **fields: Any,
    ) -> None:  # fmt: skip
        """The runtime says that an attempt is over."""
        self.report(name, ended=[Ended(task_id(number), attempt, end, error=error, **fields)])

    def fail_attempt(self, number: int, attempt: int = 1, error: ErrorInfo | None = None, name: str = RUNTIME) -> None:
        self.end(number, attempt, AttemptEnd.FAILED, name, error or broken())

    def report(self, name: str = RUNTIME, *frames: bytes, **content: Any) -> None:
        """A report, which is settled at once if the store is not held back."""
        self._batch += 1
        self.tell(name, m.Report(self._batch, **content), *frames)
        if not self.holding:
            settled = next(
                i for i, each in enumerate(self.sent) if each.target == name and isinstance(each.message, m.Settled)
            )
            assert self.sent.pop(settled).message == m.Settled([self._batch])

    # -------------------------------------------------------------------------------------- looking

    def task(self, number: int) -> Task:
        return self.controller.state.tasks[task_id(number)]

    def status(self, number: int) -> Status | None:
        task = self.controller.state.tasks.get(task_id(number))
        if task is not None:
            return status_of(task)
        row = self.books.rows.get(task_id(number))
        return row.end.status if row is not None and row.end is not None else None

    @property
    def counters(self) -> dict[str, int]:
        return self.controller.state.counters


KEY = (task_id(1), 1)
"""The first attempt of task 1."""


def assigned(**fields: Any) -> Bench:
    """Task 1 is leased to the runtime, and the runtime has said so."""
    bench = Bench()
    bench.join()
    bench.submit(1, **fields)
    assert bench.take_assigned() == [KEY]
    bench.beat()
    return bench


def through(bench: Bench, name: str = RUNTIME) -> int:
    """The number of the last assign batch for that runtime."""
    return bench.controller.state.runtimes[name].outbox.last_number
