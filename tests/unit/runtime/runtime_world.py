"""A runtime's surroundings for tests of its core: children, commands and a controller that only keep books."""

from __future__ import annotations

from collections.abc import Sequence

from headway_bus import messages as m
from headway_bus.ids import AttemptKey, TaskId, digest_of
from headway_bus.payloads import encode_call
from headway_bus.records import AttemptEnd, Blob, Ended, ErrorInfo, Kind, Options, Reason, Requirements, RuntimeInfo
from headway_runtime import effects as to_do
from headway_runtime.core import Core
from headway_runtime.refusals import Refusals
from headway_runtime.state import Bounds

NO_ARGUMENTS = encode_call([], {})


def options(kind: Kind = Kind.CALL, target: str = "a:f", slots: float = 1.0, **others: object) -> Options:
    return Options(kind, target, requirements=Requirements(slots=slots), **others)  # type: ignore[arg-type]


def task_id(number: int) -> TaskId:
    return TaskId(number.to_bytes(16, "big"))


class World:
    """Carries out the core's effects, and checks what must hold after each step."""

    def __init__(self, slots: float = 2.0, bounds: Bounds | None = None) -> None:
        info = RuntimeInfo("here", slots)
        self.core = Core(info, b"instance", Refusals(info, frozenset({"known"})), bounds or Bounds())
        self.now = 1000.0
        self.slots = slots
        # Children and commands.
        self.children: dict[int, list[AttemptKey]] = {}
        self.recalled: set[int] = set()
        self.interrupted: list[tuple[int, AttemptKey]] = []
        self.killed: list[int] = []
        self.commands: dict[AttemptKey, list[int]] = {}
        self.fetching: list[AttemptKey] = []
        self.uploading: list[AttemptKey] = []
        self.begun: dict[AttemptKey, int] = {}
        # The controller.
        self.view: set[AttemptKey] = set()
        self.ends: dict[AttemptKey, Ended] = {}
        self.started: list[AttemptKey] = []
        self.results: dict[AttemptKey, bytes] = {}
        self.unsettled: list[int] = []
        self.told: list[m.Message] = []
        self.seen: set[int] = set()
        self.throttled = False
        self.left: str | None = None
        self.batch = 0

    # -------------------------------------------------------------------------------------- carrying out

    def do(self, effects: Sequence[to_do.Effect]) -> None:
        for effect in effects:
            self._carry_out(effect)

    def settle_down(self) -> None:
        """What the shell does at the end of every wake-up."""
        self.do(self.core.flush(self.now))
        self.core.validate()

    def _carry_out(self, effect: to_do.Effect) -> None:
        match effect:
            case to_do.Tell(message, frames):
                self._hear(message, [bytes(frame) for frame in frames])
            case to_do.StartChild(child):
                assert child not in self.children
                self.children[child] = []
            case to_do.Feed(child, attempts):
                self.children[child] += [attempt.key for attempt in attempts]
            case to_do.Recall(child):
                if child in self.children:
                    self.recalled.add(child)
            case to_do.Interrupt(child, key):
                self.interrupted.append((child, key))
            case to_do.EndChild(child, _):
                self.killed.append(child)
            case to_do.RetireChild(child):
                assert not self.children.pop(child)
            case to_do.StartCommand(attempt):
                self.commands[attempt.key] = []
            case to_do.EndCommand(key, signal):
                if key in self.commands:
                    self.commands[key].append(signal)
            case to_do.Fetch(key, _):
                self.fetching.append(key)
            case to_do.Upload(key):
                self.uploading.append(key)
            case to_do.Throttle(stop):
                assert stop != self.throttled
                self.throttled = stop
            case to_do.Leave(why):
                assert self.left is None
                self.left = why

    def _hear(self, message: m.Message, frames: list[bytes]) -> None:
        assert self.core.is_registered, f"{message} cannot be sent"
        self.told.append(message)
        match message:
            case m.Register():
                self.view = {(each.task, each.attempt) for each in message.held}
                assert len(self.view) == len(message.held)
                self.do(self.core.on_message(m.Registered(b"controller"), [], self.now))
            case m.Report():
                self._hear_report(message, frames)
            case m.Heartbeat():
                digest = 0
                for key in self.view:
                    digest ^= digest_of(*key)
                assert (message.held, message.digest) == (len(self.view), digest)

    def _hear_report(self, report: m.Report, frames: list[bytes]) -> None:
        is_new = report.batch not in self.seen
        self.seen.add(report.batch)
        self.unsettled.append(report.batch)
        if is_new:
            self.started += [(each.task, each.attempt) for each in report.started]
        for each in report.ended:
            key = (each.task, each.attempt)
            assert key not in [(start.task, start.attempt) for start in report.started]
            if is_new:
                assert key not in self.ends, f"{key} ended twice"
                self.ends[key] = each
                self.results[key] = frames[each.result] if isinstance(each.result, int) else b""
            self.view.discard(key)

    # -------------------------------------------------------------------------------------- what may happen

    def connect(self, controller: bytes = b"controller") -> None:
        self.do(self.core.on_up(m.Welcome(1, "here", b"broker", 2.0, 2**26, controller), self.now))
        self.settle_down()

    def cut(self) -> None:
        self.do(self.core.on_down(self.now))
        self.settle_down()

    def assign(self, chosen: Options, numbers: Sequence[int], payload: m.Payload = NO_ARGUMENTS) -> list[AttemptKey]:
        """Assign attempt 1 of each of these tasks."""
        keys = [(task_id(number), 1) for number in numbers]
        self.batch += 1
        self.view.update(keys)
        assign = m.Assign(self.batch, [m.AssignGroup(chosen, [(task, attempt, payload) for task, attempt in keys])])
        self.do(self.core.on_message(assign, [], self.now))
        self.settle_down()
        return keys

    def finish(self, child: int, count: int = 1, seconds: float = 1e-5, end: AttemptEnd = AttemptEnd.SUCCEEDED) -> None:
        """A child ends the first attempts of its queue."""
        keys, self.children[child] = self.children[child][:count], self.children[child][count:]
        for key in keys:
            self._begin(key)
        error = None if end is AttemptEnd.SUCCEEDED else ErrorInfo(Reason.EXCEPTION, "it raised")
        records = [Ended(task, attempt, end, seconds, b"", error) for task, attempt in keys]
        self.do(self.core.on_child_ended(child, records, [], self.now))
        self.settle_down()

    def finish_with(self, child: int, result: bytes | Blob) -> None:
        """A child ends its first attempt with a large result: a frame of its own, or a file."""
        (task, attempt), *self.children[child] = self.children[child]
        record = Ended(task, attempt, AttemptEnd.SUCCEEDED, 1.0, 0 if isinstance(result, bytes) else result)
        frames = [result] if isinstance(result, bytes) else []
        self.do(self.core.on_child_ended(child, [record], frames, self.now))
        self.settle_down()

    def fetched(self, key: AttemptKey, fails: bool) -> None:
        error = ErrorInfo(Reason.START, "it cannot be had") if fails else None
        self.do(self.core.on_fetched(key, error, self.now))
        self.settle_down()

    def uploaded(self, key: AttemptKey, fails: bool) -> None:
        error = ErrorInfo(Reason.TOO_LARGE, "it is not taken") if fails else None
        self.do(self.core.on_uploaded(key, error, self.now))
        self.settle_down()

    def leave_processes(self, child: int) -> None:
        """A child ends its first attempt, which has left processes behind; the child ends when they have."""
        (task, attempt), *self.children[child] = self.children[child]
        record = Ended(task, attempt, AttemptEnd.SUCCEEDED, 0.1, b"\x01")
        self.do(self.core.on_child_left(child, record, None, self.now))
        self.settle_down()
        self.crash(child, was_running=False)

    def lose_all_processes(self) -> None:
        numbers = list(self.children)
        self.children.clear()
        self.commands.clear()
        self.recalled.clear()
        self.do(self.core.on_processes_lost(numbers, self.now))
        self.settle_down()

    def answer_recall(self, child: int) -> None:
        """A child gives back what it has not begun; it has begun its first."""
        self.recalled.discard(child)
        queue = self.children[child]
        current, given = (queue[0] if queue else None), queue[1:]
        del queue[1:]
        if current is not None:
            self._begin(current)
        self.do(self.core.on_child_answered(child, given, current, self.now))
        self.settle_down()

    def crash(self, child: int, was_running: bool = True) -> None:
        queue = self.children.pop(child)
        self.recalled.discard(child)
        if queue and was_running:
            self._begin(queue[0])
        cause = ErrorInfo(Reason.SIGNAL, "killed by signal 11 (SIGSEGV)", signal=11)
        self.do(self.core.on_child_gone(child, cause, was_running and bool(queue), self.now))
        self.settle_down()

    def end_command(self, key: AttemptKey, code: int = 0) -> None:
        signals = self.commands.pop(key)
        task, attempt = key
        if signals or code:
            record = Ended(task, attempt, AttemptEnd.FAILED, 1.0, b"", ErrorInfo(Reason.EXIT, "exit status 1"))
        else:
            record = Ended(task, attempt, AttemptEnd.SUCCEEDED, 1.0, b"\0")
        self.do(self.core.on_command_gone(key, record, self.now))
        self.settle_down()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.core.on_tick(self.now))
        self.settle_down()

    def settle(self) -> None:
        """The controller has stored everything it has heard."""
        batches, self.unsettled = self.unsettled, []
        self.do(self.core.on_message(m.Settled(batches), [], self.now))
        self.settle_down()

    def say(self, message: m.Message) -> None:
        """A message from the controller."""
        self.do(self.core.on_message(message, [], self.now))
        self.settle_down()

    def _begin(self, key: AttemptKey) -> None:
        self.begun[key] = 1

    @property
    def occupied(self) -> int:
        """Children and commands that are busy now."""
        return sum(1 for queue in self.children.values() if queue) + len(self.commands)
