"""What goes to runtimes: assignments, and the words that take them back or end them. Pure.

An assignment is a numbered batch that is sent again until a heartbeat says that it was seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headway_bus.handover import Batch
from headway_bus.ids import AttemptKey, TaskId, digest_of
from headway_bus.messages import Assign, AssignGroup, Stop, TakeBack
from headway_bus.records import Options, Payload
from headway_controller.life import Life
from headway_controller.placement import Scheduler
from headway_controller.state import UNHEARD, Assigned, Assignment, Bytes, ControllerState, Runtime, Task
from headway_controller.turn import Turn
from headway_controller.values import INLINE_BYTES, pack_value, size_of

ASSIGN_BYTES = 1_048_576
"""Payload bytes after which an assignment goes on in another message."""

ASSIGN_COUNT = 1_000


class Assignments:
    """Gives attempts to runtimes, in the order and number that the scheduler commits."""

    def __init__(self, state: ControllerState, turn: Turn, scheduler: Scheduler, life: Life) -> None:
        self.state = state
        self.turn = turn
        self.scheduler = scheduler
        self.life = life

    def dispatch(self, now: float) -> None:
        """Send what the scheduler commits now."""
        for commit in self.scheduler.dispatch(now):
            runtime = self.state.runtimes[commit.runtime]
            for start in range(0, len(commit.tasks), ASSIGN_COUNT):
                self._assign(runtime, commit.options, commit.tasks[start : start + ASSIGN_COUNT], now)

    def ask_back(self, now: float, paused: bool) -> None:
        """Ask back what the scheduler wants from the runtimes that have it."""
        for name, task_ids in self.scheduler.take_backs(now, paused):
            held, tasks = self.state.runtimes[name].held, self.state.tasks
            keys = [_attempt_on(name, tasks[task_id]) for task_id in task_ids if task_id in tasks]
            self.take_back(name, [key for key in keys if key in held])

    def _assign(self, runtime: Runtime, options: Options, task_ids: Sequence[TaskId], now: float) -> None:
        tasks, name, change, held = self.state.tasks, runtime.info.name, self.life.change, runtime.held
        state = Assigned(name, now)
        attempts: list[tuple[TaskId, int, Payload]] = []
        frames: list[Bytes] = []
        size, digest = 0, 0
        is_edge = runtime.info.edge
        for task_id in task_ids:
            task = tasks[task_id]
            attempt = task.attempt = (task.attempt if task.attempt > task.highest else task.highest) + 1
            task.runtime = name
            change(task, "assign", state, now)
            task.started = 0.0
            held[(task_id, attempt)] = None
            if is_edge and task.options.offline:
                self.life.lease(task, now)
            digest ^= digest_of(task_id, attempt)
            payload = task.payload
            if type(payload) is bytes and len(payload) <= INLINE_BYTES:  # nearly every one: spared two calls
                attempts.append((task_id, attempt, payload))
                size += len(payload)
            else:
                attempts.append((task_id, attempt, pack_value(payload, frames)))
                size += size_of(payload)
            if size > ASSIGN_BYTES:
                self._send_assignment(runtime, options, attempts, frames, digest, now)
                attempts, frames, size, digest = [], [], 0, 0
        if attempts:
            self._send_assignment(runtime, options, attempts, frames, digest, now)

    def assign_copy(self, runtime: Runtime, task: Task, attempt: int, now: float) -> None:
        """Give a runtime a second copy of a task; the scheduler has booked it there."""
        frames: list[Bytes] = []
        runtime.held[(task.id, attempt)] = None
        attempts = [(task.id, attempt, pack_value(task.payload, frames))]
        self._send_assignment(runtime, task.options, attempts, frames, digest_of(task.id, attempt), now)

    def _send_assignment(
        self,
        runtime: Runtime,
        options: Options,
        attempts: list[tuple[TaskId, int, Payload]],
        frames: list[Bytes],
        digest: int,
        now: float,
    ) -> None:
        runtime.digest ^= digest
        keys = [(task_id, attempt) for task_id, attempt, _ in attempts]
        gpus: list[list[int]] = []
        if options.requirements.gpu:
            gpus = [self.scheduler.gpus_of(runtime.info.name, task_id) for task_id, _ in keys]
        batch = runtime.outbox.add(Assignment([AssignGroup(options, attempts, gpus)], frames, digest, keys))
        self._send_batch(runtime, batch, now)

    def _send_batch(self, runtime: Runtime, batch: Batch[Assignment], now: float) -> None:
        runtime.outbox.sent(batch, now)
        content = batch.content
        self.turn.send(runtime.info.name, Assign(batch.number, content.groups), tuple(content.frames))

    def resend(self, runtime: Runtime, now: float) -> None:
        """Send what is due again."""
        if runtime.state not in UNHEARD:
            for batch in runtime.outbox.due(now):
                if batch.times:
                    self.state.counters["repeats.assign"] += 1
                self._send_batch(runtime, batch, now)

    def take_back(self, name: str, attempts: list[AttemptKey]) -> None:
        """Ask for unstarted attempts back; those that have begun go on."""
        if attempts:
            self.state.counters["attempts.asked-back"] += len(attempts)
            self.turn.send(name, TakeBack(attempts))

    def stop(self, tasks: Iterable[Task], reason: str) -> None:
        """Have attempts ended on their runtimes."""
        by_runtime: dict[str, list[AttemptKey]] = {}
        for task in tasks:
            by_runtime.setdefault(task.runtime, []).append((task.id, task.attempt))
            if task.copy is not None:
                by_runtime.setdefault(task.copy.runtime, []).append((task.id, task.copy.attempt))
        for name, attempts in by_runtime.items():
            self.stop_attempts(name, attempts, reason)

    def stop_attempts(self, name: str, attempts: list[AttemptKey], reason: str) -> None:
        """Have these attempts ended on that runtime."""
        self.turn.send(name, Stop(attempts, reason=reason))


def _attempt_on(name: str, task: Task) -> AttemptKey:
    """What that runtime has of the task: its attempt, or the second copy."""
    if task.copy is not None and task.copy.runtime == name:
        return task.id, task.copy.attempt
    return task.id, task.attempt
