"""Child processes and commands of a runtime, and the user's code that runs in them."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from headway_bus.ids import AttemptKey
from headway_bus.records import AttemptEnd, Ended, ErrorInfo, Reason
from headway_runtime.state import Attempt

from .ledger import Execution
from .plan import Behaviour

if TYPE_CHECKING:
    from .machine import RuntimePart

PIPE_SECONDS = 0.0004
DYING_SECONDS = 0.2
FRAME_BYTES = 20_000


class Holder:
    """What a child and a command have in common: a pipe to the runtime that keeps its order, and one execution at a time."""

    def __init__(self, runtime: RuntimePart) -> None:
        self.runtime = runtime
        self.world = runtime.world
        self.alive = True
        self.discarded = False
        """The runtime does not listen any more."""
        self.running: Execution | None = None
        self.behaviour: Behaviour | None = None
        self.slots = 0.0
        self._said_at = 0.0
        self._life = runtime.process.life

    def delay(self) -> float:
        return PIPE_SECONDS * self.world.random.expovariate(1.0)

    def say(self, event: Callable[[], None]) -> None:
        """To the runtime, in order."""
        if self.runtime.process.life != self._life:
            return
        self._said_at = max(self._said_at, self.world.timeline.now + self.delay())

        def hear() -> None:
            if not self.discarded:
                event()

        self.world.timeline.at(self._said_at, hear, self.runtime.process)

    def soon(self, action: Callable[[], None]) -> None:
        """An order of the runtime arrives."""
        self.world.timeline.after(self.delay(), action)

    def begin(self, attempt: Attempt) -> Behaviour:
        """The user's code starts."""
        world = self.world
        self.behaviour = behaviour = world.plan.behave(attempt.spec.options, world.random)
        self.slots = attempt.spec.options.requirements.slots
        self.running = world.ledger.begun(attempt.key, self.runtime.name, self._life, world.timeline.now)
        world.ledger.occupies(self.running, self.runtime.occupied(), self.runtime.slots)
        if world.tracing:
            world.trace(self.runtime.name, f"begins {self.running} as {behaviour}")
        return behaviour

    def over(self) -> None:
        """Nothing of it runs any more."""
        if self.running is not None:
            self.world.ledger.over(self.running, self.world.timeline.now)
            if self.world.tracing:
                self.world.trace(self.runtime.name, f"is over with {self.running}")
            self.running = None

    def kill_with_runtime(self) -> None:
        """The runtime's process was killed; what it had started dies a little later."""
        self.alive = False
        self.discarded = True
        if self.running is not None:
            self.running.is_orphan = True
        self.world.timeline.after(self.world.random.uniform(0.0, DYING_SECONDS), self.over)


class Child(Holder):
    """A child process: runs its queue in order, answers recalls while it runs."""

    def __init__(self, runtime: RuntimePart, number: int) -> None:
        super().__init__(runtime)
        self.number = number
        self.current: Attempt | None = None
        self.left: Ended | None = None
        self._incoming: deque[Attempt] = deque()
        self._queue: deque[Attempt] = deque()
        self._begun = 0

    def feed(self, attempts: Sequence[Attempt]) -> None:
        self._incoming.extend(attempts)
        self.soon(self._read)

    def _read(self) -> None:
        self._queue.extend(self._incoming)
        self._incoming.clear()
        self._next()

    def _next(self) -> None:
        if not self.alive or self.current is not None or self.left is not None or not self._queue:
            return
        self.current = attempt = self._queue.popleft()
        self._begun += 1
        begun = self._begun
        self.world.timeline.after(self.begin(attempt).seconds, lambda: self._finish(begun))

    def _finish(self, begun: int) -> None:
        if not self.alive or self.current is None or begun != self._begun:
            return
        attempt, behaviour = self.current, self.behaviour
        assert behaviour is not None
        if behaviour.how == "crash":
            self.die(ErrorInfo(Reason.SIGNAL, "killed by signal 11 (SIGSEGV)", signal=11))
            return
        task, number = attempt.key
        frames: list[bytes] = []
        if behaviour.how == "error":
            error = ErrorInfo(Reason.EXCEPTION, "it raised", "builtins.ValueError")
            record = Ended(task, number, AttemptEnd.FAILED, behaviour.seconds, b"", error)
        else:
            assert self.running is not None
            result = self.running.result
            if behaviour.is_large:
                frames = [result.ljust(FRAME_BYTES, b".")]
            record = Ended(task, number, AttemptEnd.SUCCEEDED, behaviour.seconds, 0 if frames else result)
        if behaviour.how == "leftover":
            self.left = record
            self.current = None
            self.say(lambda: self.runtime.on_child_left(self.number, record, frames))
            return
        self._tell_end(record, frames)

    def _tell_end(self, record: Ended, frames: list[bytes]) -> None:
        self.over()
        self.current = None
        self.say(lambda: self.runtime.on_child_ended(self.number, record, frames))
        self._next()

    def recall(self) -> None:
        def answer() -> None:
            if not self.alive:
                return
            self._queue.extend(self._incoming)
            self._incoming.clear()
            given = [attempt.key for attempt in self._queue]
            self._queue.clear()
            current = self.current.key if self.current is not None else None
            self.say(lambda: self.runtime.on_child_answered(self.number, given, current))

        self.soon(answer)

    def interrupt(self, key: AttemptKey) -> None:
        def stop() -> None:
            if not self.alive or self.current is None or self.current.key != key:
                return
            assert self.behaviour is not None
            if not self.behaviour.is_stubborn:
                self._begun += 1  # its own end will not come any more
                error = ErrorInfo(Reason.CANCELLED, "it was stopped while it ran")
                self._tell_end(Ended(*key, AttemptEnd.CANCELLED, 0.1, b"", error), [])

        self.soon(stop)

    def end(self, number: int) -> None:
        """A signal to the whole tree. The child itself does not care for TERM; what it left behind may."""

        def hit() -> None:
            if number == signal.SIGKILL or (self.left is not None and not self.world.random.random() < 0.3):
                self.die(ErrorInfo(Reason.SIGNAL, f"killed by signal {number}", signal=number))

        self.soon(hit)

    def die(self, cause: ErrorInfo) -> None:
        if not self.alive:
            return
        self.alive = False
        was_running = self.current is not None
        self.over()
        self.say(lambda: self.runtime.on_child_gone(self.number, cause, was_running))

    def retire(self) -> None:
        self.alive = False


class Command(Holder):
    """A command or script."""

    def __init__(self, runtime: RuntimePart, attempt: Attempt) -> None:
        super().__init__(runtime)
        self.attempt = attempt
        self.soon(self._start)

    def _start(self) -> None:
        if self.alive:
            self.world.timeline.after(self.begin(self.attempt).seconds, self._finish)

    def _finish(self) -> None:
        if self.alive and self.behaviour is not None and self.running is not None:
            result = self.running.result
            if self.behaviour.how in ("error", "crash"):
                self._gone(AttemptEnd.FAILED, ErrorInfo(Reason.EXIT, "it exited with status 1", exit_code=1), b"")
            else:
                self._gone(AttemptEnd.SUCCEEDED, None, result)

    def end(self, number: int) -> None:
        def hit() -> None:
            stubborn = self.behaviour is not None and self.behaviour.is_stubborn
            if number == signal.SIGKILL or not stubborn:
                self.die(ErrorInfo(Reason.SIGNAL, f"killed by signal {number}", signal=number))

        self.soon(hit)

    def die(self, cause: ErrorInfo) -> None:
        if self.alive:
            self._gone(AttemptEnd.FAILED, cause, b"")

    def _gone(self, end: AttemptEnd, error: ErrorInfo | None, result: bytes) -> None:
        self.alive = False
        self.over()
        seconds = self.behaviour.seconds if self.behaviour is not None else 0.0
        record = Ended(*self.attempt.key, end, seconds, result, error)
        self.say(lambda: self.runtime.on_command_gone(self.attempt.key, record))
