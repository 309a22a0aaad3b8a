"""Attempts that succeeded and of which nothing else is to be said: nearly all there are, a report at a time. Pure.

What ``reports`` and ``life`` do for any end, in one pass over the report: a call for each step of each task was half of what
an end costs. What is not plain (a failure, a second copy, a task that was given up) is left to them.
"""

from __future__ import annotations

from collections.abc import Sequence

from headway_bus.ids import TaskId, digest_of
from headway_bus.records import AttemptEnd, Outcome, Status
from headway_bus.records import Ended as AttemptEnded
from headway_controller.life import COUNTER_OF, Life
from headway_controller.placement import Scheduler
from headway_controller.state import ON_A_RUNTIME, Bytes, ControllerState, Ended, Running, Runtime, Task
from headway_controller.store.protocol import EndTask
from headway_controller.story import encode_story
from headway_controller.turn import Turn
from headway_controller.values import unpack_value


class Successes:
    """Ends tasks whose present attempt succeeded."""

    def __init__(self, state: ControllerState, turn: Turn, scheduler: Scheduler, life: Life) -> None:
        self.state = state
        self.turn = turn
        self.scheduler = scheduler
        self.life = life

    def take(
        self, runtime: Runtime, ends: Sequence[AttemptEnded], frames: Sequence[Bytes], now: float
    ) -> Sequence[AttemptEnded]:
        """End the tasks of all that are plain; returns the others, in order."""
        plain: list[tuple[Task, AttemptEnded]] = []
        others: list[AttemptEnded] = []
        durations: list[tuple[TaskId, float]] = []
        ages: list[float] = []
        tasks, name, succeeded = self.state.tasks, runtime.info.name, AttemptEnd.SUCCEEDED
        begun = 0
        for ended in ends:
            task = tasks.get(ended.task)
            if (
                task is not None
                and ended.end is succeeded
                and task.copy is None
                and task.attempt == ended.attempt
                and not ended.files
            ):
                state = task.state
                if (
                    isinstance(state, ON_A_RUNTIME)
                    and state.runtime == name
                    and task.runtime == name
                    and ended.attempt > task.over
                ):
                    begun += type(state) is Running
                    task.over = ended.attempt  # so that a second end of it in this report is not plain
                    plain.append((task, ended))
                    durations.append((ended.task, ended.seconds))
                    ages.append(ended.age)
                    continue
            others.append(ended)
        if not plain:
            return ends
        runtime.running = max(0, runtime.running - begun)
        runtime.succeeded += len(plain)
        self.scheduler.finished_many(name, durations, now, ages)
        self._let_go(runtime, plain)
        self._end(plain, frames, now)
        return others

    @staticmethod
    def _let_go(runtime: Runtime, plain: Sequence[tuple[Task, AttemptEnded]]) -> None:
        """The runtime holds these attempts no longer."""
        held, ending, digest = runtime.held, runtime.ending, runtime.digest
        for _, ended in plain:
            key = (ended.task, ended.attempt)
            if key in held:
                del held[key]
                digest ^= digest_of(*key)
            if ending:
                ending.pop(key, None)
        runtime.digest = digest

    def _end(self, plain: Sequence[tuple[Task, AttemptEnded]], frames: Sequence[Bytes], now: float) -> None:
        state, due, life = self.state, self.turn.due, self.life
        wall_now = now + life.wall_offset
        # What comes after one of these is released when all of them are over.
        parents: list[Task] = []
        for task, ended in plain:
            task.losses = 0
            started = task.started
            if not started:
                started = task.started = wall_now - ended.age - ended.seconds
            result = unpack_value(ended.result, frames)
            outcome = Outcome(
                task.id,
                Status.SUCCEEDED,
                ended.attempt,
                result,  # type: ignore[arg-type]  # a view of a received frame serves as bytes
                None,
                task.options.by_value,
                task.runtime,
                max(0.0, started - task.submitted),
                ended.seconds,
                task.predicted,
            )
            life.change(task, "succeed", Ended(outcome, now), now)
            keep = task.options.retention
            due.operations.append(
                EndTask(
                    task.id,
                    Status.SUCCEEDED,
                    ended.attempt,
                    wall_now,
                    started,
                    ended.seconds,
                    task.runtime,
                    result,
                    None,
                    task.failures,
                    0,
                    task.predicted,
                    encode_story(task.story) if task.story else b"",
                    wall_now + keep if keep >= 0 else None,
                )
            )
            due.ended.append(task)
            if task.id in state.dependents:
                parents.append(task)
        state.counters[COUNTER_OF[Status.SUCCEEDED]] += len(plain)
        for task in parents:
            life.release_dependents(task.id, Status.SUCCEEDED, now)
