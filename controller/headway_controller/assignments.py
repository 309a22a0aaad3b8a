"""What goes to runtimes: assignments, and the words that take them back or end them. Pure.

An assignment is a numbered batch that is sent again until a heartbeat says that it was seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

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
_encode = msgspec.msgpack.Encoder().encode


class Assignments:
    """Gives attempts to runtimes, in the order and number that the scheduler commits."""

    def __init__(self, state: ControllerState, turn: Turn, scheduler: Scheduler, life: Life) -> None:
        self.state = state
        self.turn = turn
        self.scheduler = scheduler
        self.life = life

    def dispatch(self, now: float) -> None:
        """Send what the scheduler commits now: to each runtime as few messages as hold it."""
        parcels: dict[str, _Parcel] = {}
        for commit in self.scheduler.dispatch(now):
            runtime = self.state.runtimes[commit.runtime]
            parcel = parcels.get(commit.runtime)
            if parcel is None:
                parcel = parcels[commit.runtime] = _Parcel(runtime)
            self._assign(parcel, commit.options, commit.tasks, now)
        for parcel in parcels.values():
            self._send_parcel(parcel, now)

    def ask_back(self, now: float, paused: bool) -> None:
        """Ask back what the scheduler wants from the runtimes that have it."""
        for name, task_ids in self.scheduler.take_backs(now, paused):
            held, tasks = self.state.runtimes[name].held, self.state.tasks
            keys = [_attempt_on(name, tasks[task_id]) for task_id in task_ids if task_id in tasks]
            self.take_back(name, [key for key in keys if key in held])

    def _assign(self, parcel: _Parcel, options: Options, task_ids: Sequence[TaskId], now: float) -> None:
        runtime = parcel.runtime
        tasks, name, change, held = self.state.tasks, runtime.info.name, self.life.change, runtime.held
        state = Assigned(name, now)
        is_edge = runtime.info.edge
        weight = len(_encode(options))  # names and lines of their own: they are not to outgrow a header together
        if parcel.size + weight > ASSIGN_BYTES:
            self._send_parcel(parcel, now)
        attempts = parcel.begin_group(options, weight)
        for task_id in task_ids:
            if parcel.size > ASSIGN_BYTES or len(parcel.keys) >= ASSIGN_COUNT:
                self._send_parcel(parcel, now)
                attempts = parcel.begin_group(options, weight)
            task = tasks[task_id]
            attempt = task.attempt = (task.attempt if task.attempt > task.highest else task.highest) + 1
            task.runtime = name
            change(task, "assign", state, now)
            task.started = 0.0
            held[(task_id, attempt)] = None
            if is_edge and task.options.offline:
                self.life.lease(task, now)
            parcel.keys.append((task_id, attempt))
            payload = task.payload
            if type(payload) is bytes and len(payload) <= INLINE_BYTES:  # nearly every one: spared two calls
                attempts.append((task_id, attempt, payload))
                parcel.size += len(payload)
            else:
                attempts.append((task_id, attempt, pack_value(payload, parcel.frames)))
                parcel.size += size_of(payload)

    def assign_copy(self, runtime: Runtime, task: Task, attempt: int, now: float) -> None:
        """Give a runtime a second copy of a task; the scheduler has booked it there."""
        runtime.held[(task.id, attempt)] = None
        parcel = _Parcel(runtime)
        parcel.keys.append((task.id, attempt))
        parcel.begin_group(task.options, 0).append((task.id, attempt, pack_value(task.payload, parcel.frames)))
        self._send_parcel(parcel, now)

    def _send_parcel(self, parcel: _Parcel, now: float) -> None:
        """Send what is in it, if there is anything; then it is empty."""
        if not parcel.keys:
            return
        runtime, digest = parcel.runtime, 0
        for key in parcel.keys:
            digest ^= digest_of(*key)
        runtime.digest ^= digest
        groups = [self._group(runtime, options, attempts) for options, attempts in parcel.groups if attempts]
        batch = runtime.outbox.add(Assignment(groups, parcel.frames, digest, parcel.keys))
        self._send_batch(runtime, batch, now)
        parcel.clear()

    def _group(self, runtime: Runtime, options: Options, attempts: list[tuple[TaskId, int, Payload]]) -> AssignGroup:
        gpus: list[list[int]] = []
        if options.requirements.gpu:
            gpus = [self.scheduler.gpus_of(runtime.info.name, task_id) for task_id, _, _ in attempts]
        return AssignGroup(options, attempts, gpus)

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


class _Parcel:
    """What goes to one runtime in the next message."""

    __slots__ = ("frames", "groups", "keys", "runtime", "size")

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.clear()

    def clear(self) -> None:
        self.groups: list[tuple[Options, list[tuple[TaskId, int, Payload]]]] = []
        self.frames: list[Bytes] = []
        self.keys: list[AttemptKey] = []
        self.size = 0

    def begin_group(self, options: Options, weight: int) -> list[tuple[TaskId, int, Payload]]:
        """Where attempts with these options go from now on; tasks that differ in name alone have options of their own."""
        if not self.groups or self.groups[-1][0] is not options:
            self.groups.append((options, []))
            self.size += weight
        return self.groups[-1][1]


def _attempt_on(name: str, task: Task) -> AttemptKey:
    """What that runtime has of the task: its attempt, or the second copy."""
    if task.copy is not None and task.copy.runtime == name:
        return task.id, task.copy.attempt
    return task.id, task.attempt
