"""Speculation: a second copy of an idempotent task that has run longer than a fresh run elsewhere would take. Pure.

How it fits the invariants: the copy is an attempt with a number of its own. The first of the two that succeeds ends the task
(I2: the other's report is fenced); the loser is stopped, and its slot is free when its runtime says that it is gone (I5).
A copy begins although the first attempt is not over, which I3 allows only here, for tasks marked idempotent. If the first
attempt fails or is lost, the copy takes its place; if the copy fails or is lost, nothing has happened.
"""

from __future__ import annotations

from headway_bus.ids import TaskId
from headway_bus.records import AttemptEnd, Transition
from headway_bus.records import Ended as AttemptEnded
from headway_controller.assignments import Assignments
from headway_controller.life import Life
from headway_controller.placement import Scheduler
from headway_controller.state import Bytes, ControllerState, Copy, Running, Runtime, Task
from headway_controller.turn import Turn
from headway_controller.values import unpack_value


def is_copy(task: Task, name: str, attempt: int) -> bool:
    """Whether this attempt is the task's second copy."""
    copy = task.copy
    return copy is not None and copy.attempt == attempt and copy.runtime == name


class Copies:
    """Starts second copies within their budget, and says what becomes of the two."""

    def __init__(
        self, state: ControllerState, turn: Turn, scheduler: Scheduler, life: Life, assignments: Assignments
    ) -> None:
        self.state = state
        self.turn = turn
        self.scheduler = scheduler
        self.life = life
        self.assignments = assignments
        self.share = 0.0
        """Of all slots, what copies may occupy, but at least one slot; 0: no copies are made."""

        self._watched: dict[TaskId, None] = {}
        self._active: dict[TaskId, None] = {}

    def watch(self, task: Task) -> None:
        """An attempt of an idempotent task has begun."""
        if self.share:
            self._watched[task.id] = None

    def look(self, now: float) -> None:
        """Start copies of those that have run too long. They never take a slot from a task that waits."""
        if not self._watched or self.scheduler.queued:
            return
        self._active = {each: None for each in self._active if self._has_copy(each)}
        room = self._budget() - len(self._active)
        for task_id in list(self._watched):
            task = self.state.tasks.get(task_id)
            if task is None or not isinstance(task.state, Running):
                del self._watched[task_id]
            elif room > 0 and task.copy is None and not task.cancelling and self._start_if_worth(task, now):
                room -= 1

    def _has_copy(self, task_id: TaskId) -> bool:
        task = self.state.tasks.get(task_id)
        return task is not None and task.copy is not None

    def _budget(self) -> int:
        slots = sum(each.info.slots for each in self.state.runtimes.values() if each.state == "online")
        return max(1, int(self.share * slots))

    def _start_if_worth(self, task: Task, now: float) -> bool:
        left = self.scheduler.remaining(task.runtime, task.id, now)
        fresh = self.scheduler.spare(task.options, task.runtime, now)
        if left is None or not left.known or fresh is None or left.expectation <= fresh[1]:
            return False
        self._start(task, self.state.runtimes[fresh[0]], now)
        return True

    def _start(self, task: Task, runtime: Runtime, now: float) -> None:
        name = runtime.info.name
        attempt = max(task.attempt, task.highest) + 1
        task.highest = attempt
        task.copy = Copy(name, attempt, now)
        self._active[task.id] = None
        self._tell(task, "copied", "it has run longer than a fresh run would take", name, attempt, now)
        # Stored, so that a controller that starts anew gives this number to nobody else.
        self.turn.store(self.life.update_of(task))
        self.scheduler.adopt(name, task.id, task.options, now, None)
        self.assignments.assign_copy(runtime, task, attempt, now)
        self.state.counters["copies.started"] += 1

    # ------------------------------------------------------------------------------------------- what becomes of the two

    def on_started(self, task: Task, age: float, now: float) -> None:
        """The copy has begun."""
        assert task.copy is not None
        task.copy = Copy(task.copy.runtime, task.copy.attempt, task.copy.since, now - age + self.life.wall_offset)
        self.scheduler.started(task.copy.runtime, task.id, task.options, now, age)

    def on_copy_ended(self, task: Task, ended: AttemptEnded, frames: list[Bytes], now: float) -> None:
        """The copy is over: with a result it ends the task, otherwise it was never there."""
        copy = task.copy
        assert copy is not None
        if ended.end != AttemptEnd.SUCCEEDED:
            task.copy = None
            why = ended.error.message if ended.error is not None else str(ended.end)
            self._tell(task, "copy over", why, copy.runtime, copy.attempt, now)
            return
        self.state.counters["copies.won"] += 1
        self._stop(task, task.runtime, task.attempt, "the other copy was first")
        self.take_over(task, now)
        task.over = ended.attempt
        if not task.started:
            task.started = now - ended.age - ended.seconds + self.life.wall_offset
        self.life.on_attempt_ended(task, ended, unpack_value(ended.result, frames), now)

    def take_over(self, task: Task, now: float) -> None:
        """The copy is the task's attempt from now on; what becomes of the other is the caller's matter."""
        copy = task.copy
        assert copy is not None
        if isinstance(task.state, Running) and task.started:
            self._tell(task, "running", "", task.runtime, task.attempt, now, at=task.started)
        task.copy = None
        task.attempt, task.runtime, task.started = copy.attempt, copy.runtime, copy.started
        self.life.change(task, "adopt", Running(copy.runtime, copy.since), now)

    def on_first_ended(self, task: Task, ended: AttemptEnded, now: float) -> bool:
        """The first attempt is over. True: the copy goes on in its place, and nothing else follows from this end."""
        copy = task.copy
        if copy is None:
            return False
        if ended.end == AttemptEnd.SUCCEEDED:
            self._stop(task, copy.runtime, copy.attempt, "the other copy was first")
            task.copy = None
            return False
        why = ended.error.message if ended.error is not None else ""
        self._tell(task, str(ended.end), why, task.runtime, task.attempt, now)
        self.take_over(task, now)
        return True

    def on_lost(self, task: Task, name: str, attempt: int, why: str, now: float) -> bool:
        """A runtime with one of the two is gone. True: the other goes on."""
        if is_copy(task, name, attempt):
            task.copy = None
            self._tell(task, "copy lost", why, name, attempt, now)
            return True
        if task.copy is None:
            return False
        self.state.counters["attempts.lost"] += 1
        self._tell(task, "lost", why, name, attempt, now)
        self.take_over(task, now)
        return True

    def _stop(self, task: Task, name: str, attempt: int, why: str) -> None:
        self.assignments.stop_attempts(name, [(task.id, attempt)], why)

    def _tell(
        self, task: Task, status: str, why: str, name: str, attempt: int, now: float, at: float | None = None
    ) -> None:
        story = task.story = task.story if task.story is not None else []
        story.append(Transition(now + self.life.wall_offset if at is None else at, status, why, name, attempt))
