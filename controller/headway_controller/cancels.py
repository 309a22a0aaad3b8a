"""Tasks that are to end before their time: cancelled by a client, or replaced by a new version. Pure.

The word is answered when nothing of them runs any more, which a runtime has to confirm; until it does the word is repeated.
"""

from __future__ import annotations

from headway_bus.ids import short_text, text_of
from headway_bus.messages import Cancel, Changed
from headway_bus.records import ENDS
from headway_controller.assignments import Assignments
from headway_controller.life import Life
from headway_controller.state import (
    Assigned,
    ControllerState,
    Ended,
    PendingCancel,
    Running,
    Task,
    is_recovering,
)
from headway_controller.tenancy import Tenancy
from headway_controller.turn import Turn
from headway_controller.unions import Unions


class Cancels:
    """What is being stopped."""

    def __init__(
        self, state: ControllerState, turn: Turn, life: Life, assignments: Assignments, unions: Unions, tenancy: Tenancy
    ) -> None:
        self._state = state
        self._turn = turn
        self._life = life
        self._assignments = assignments
        self._unions = unions
        self._tenancy = tenancy

    def cancel(self, name: str, message: Cancel, now: float) -> None:
        """Cancel; the answer waits until nothing of it runs any more."""
        refused: list[tuple[str, str]] = []
        tasks: list[Task] = []
        for task_id in message.tasks:
            task = self._state.tasks.get(task_id)
            if task is None or isinstance(task.state, Ended) or not self._tenancy.sees(name, task):
                status = self._life.status(task_id) if self._tenancy.scope_of(name) is None else None
                refused.append(
                    (text_of(task_id), f"it has {status}" if status in ENDS else "it is not known, or has ended")
                )
            else:
                tasks.append(task)
        if message.job and (job := self._state.jobs.get(message.job)) is not None:
            of_job = (self._state.tasks[task_id] for task_id in job.tasks)
            tasks += [task for task in of_job if self._tenancy.sees(name, task)]
        # The youngest first: what comes after another shall be cancelled too, and not fail because that one was.
        tasks = [
            task for task in reversed({task.id: task for task in tasks}.values()) if not isinstance(task.state, Ended)
        ]
        chosen = {task.id: task for task in tasks}
        for union in [task for task in tasks if task.options.union is not None]:
            chosen.update((part.id, part) for part in self._unions.cancel(union, now))
        tasks = list(chosen.values())
        to_stop = [task for task in tasks if not self._life.cancel(task, now)]
        self._assignments.stop(to_stop, "cancelled")
        pending = PendingCancel(name, message.request, {task.id for task in to_stop}, len(tasks), refused)
        if to_stop:
            self._state.cancels.append(pending)
        else:
            self._answer(pending)

    def replace(self, new: Task, now: float) -> None:
        """A new version is stored: the old one is stopped. The new one comes after it, and so begins when it is over."""
        old = self._state.tasks.get(new.options.replaces)
        if old is None or isinstance(old.state, Ended):
            return
        tasks = [old]
        if old.options.union is not None:
            tasks += self._unions.cancel(old, now)
        to_stop = [task for task in tasks if not isinstance(task.state, Ended) and not self._cancel(task, now)]
        if to_stop:
            given_out = [task for task in to_stop if isinstance(task.state, Assigned | Running)]
            self._assignments.stop(given_out, f"replaced by {short_text(new.id)}")
            self._state.cancels.append(PendingCancel("", 0, {task.id for task in to_stop}, 0, []))

    def _cancel(self, task: Task, now: float) -> bool:
        """Cancel a task that may have been given out by an earlier controller. True: it is over with that."""
        if task.options.union is None and is_recovering(task):
            task.cancelling = True  # whoever has it is told to stop when it says so; else it ends with the recovery
            return False
        return self._life.cancel(task, now)

    def stop_again(self) -> None:
        """The word to stop may not have arrived: say it again for all that somebody still waits for."""
        tasks = self._state.tasks
        left = {
            task_id: tasks[task_id] for pending in self._state.cancels for task_id in pending.left if task_id in tasks
        }
        self._assignments.stop(
            [task for task in left.values() if isinstance(task.state, Assigned | Running)], "cancelled"
        )

    def check(self) -> None:
        """Answer the cancels of which nothing is left to stop."""
        for pending in list(self._state.cancels):
            tasks = self._state.tasks
            pending.left = {each for each in pending.left if each in tasks and not isinstance(tasks[each].state, Ended)}
            if not pending.left:
                self._state.cancels.remove(pending)
                self._answer(pending)

    def _answer(self, pending: PendingCancel) -> None:
        if not pending.client:
            return  # it was the controller's own wish
        self._turn.due.replies.append((pending.client, Changed(pending.request, pending.count, pending.refused)))
