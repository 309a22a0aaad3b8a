"""Attempts that count for nothing, of tasks that may be submitted once more: their next attempt must not be taken for them.

A runtime may hold an attempt of a task that this controller does not know: its submission could not be stored, or reached
an earlier controller only. The attempt is stopped; until it is, a new attempt of the same task waits, and is numbered after it.
"""

from __future__ import annotations

from headway_bus.ids import TaskId
from headway_controller.state import ControllerState, Task

REMEMBERED = 100_000
"""Tasks whose void attempts are remembered."""

HIGHEST = 1_000_000
"""A number beyond it was given out by nobody."""


class VoidAttempts:
    """The highest void attempt of each such task, and the tasks that wait until theirs has stopped."""

    def __init__(self, state: ControllerState) -> None:
        self._state = state
        self._highest: dict[TaskId, int] = {}
        self._barred: set[TaskId] = set()

    def note(self, task_id: TaskId, attempt: int) -> None:
        """An attempt that counts for nothing, of a task that is not known (yet, or any more)."""
        if not 0 < attempt <= HIGHEST:
            return
        if len(self._highest) >= REMEMBERED:
            self._highest.clear()
        self._highest[task_id] = max(attempt, self._highest.get(task_id, 0))

    def bar(self, task: Task) -> bool:
        """Whether a task that was just submitted has a void attempt. If so its own are numbered after that, and it is barred."""
        if not self._highest or task.id not in self._highest:
            return False
        task.attempt = task.over = self._highest.pop(task.id)
        self._barred.add(task.id)
        return True

    def bar_waiting(self, task_id: TaskId) -> None:
        """A task that waits for others has an attempt that an earlier controller gave out: it could not store that those were
        over, and began what came after them."""
        self._barred.add(task_id)

    def is_barred(self, task_id: TaskId) -> bool:
        """Whether a void attempt of the task may still run."""
        return task_id in self._barred

    def holds_up(self, task: Task) -> bool:
        """Whether a runtime still has a void attempt of it, which it was told to stop."""
        if not self._barred or task.id not in self._barred:
            return False
        return any(key[0] == task.id for runtime in self._state.runtimes.values() for key in runtime.held)

    def lift(self, task_id: TaskId) -> None:
        """Nothing void of it runs any more, or the task itself is over."""
        if self._barred:
            self._barred.discard(task_id)
