"""When an acceptance may wait for the end of its task, so that one commit and one wake-up serve both. Pure.

A lone task that runs for microseconds is over before its acceptance has been stored and told. Then its submission stays
unstored, and unanswered, for a few milliseconds at most: as a rule the report comes first, and both are written together.
Nothing is promised that is not stored (I1); whoever asks for anything else meanwhile ends the waiting. It costs a client
that submits such tasks one by one, and waits for acceptances alone, half a millisecond each; it spares one that waits for
the ends a commit and a message of five.
"""

from __future__ import annotations

from headway_controller.placement import Scheduler
from headway_controller.state import Assigned, ControllerState
from headway_controller.turn import FollowUp

SHORT = 0.005
"""Seconds, of the task and of the way to its runtime and back, up to which it is worth while."""

LONGEST = 0.01
"""Seconds after which the acceptance goes alone."""

PAUSE = 200
"""Submissions that are answered at once after one that had waited in vain."""


class Patience:
    """Decides, at the end of each turn, whether what is due stays for the next one."""

    def __init__(self, state: ControllerState, scheduler: Scheduler) -> None:
        self.state = state
        self.scheduler = scheduler
        self.short = SHORT
        self.longest = LONGEST
        self.until: float | None = None
        """When what waits goes out in any case; None: nothing waits."""

        self._pause = 0

    def holds(self, due: FollowUp, now: float) -> bool:
        """Whether to keep this for another turn. It is asked once a turn."""
        if self.until is not None:
            if now < self.until and _is_lone(due):
                return True
            if _is_lone(due):
                self._pause = PAUSE
            self.until = None
            return False
        if not _is_lone(due):
            return False
        if self._pause:
            self._pause -= 1
            return False
        (task,) = due.new[0]
        if len(self.state.tasks) != 1 or not isinstance(task.state, Assigned):
            return False
        runtime = self.state.runtimes[task.state.runtime]
        expected = self.scheduler.run_time(task.options, task.state.runtime)
        if expected is None or expected + runtime.round_trip > self.short:
            return False
        self.until = now + self.longest
        return True


def _is_lone(due: FollowUp) -> bool:
    """One new task, and nothing else to store or to say."""
    return (
        due.together
        and len(due.accepted) == 1
        and len(due.operations) == 1
        and len(due.new[0]) == 1
        and not (due.ended or due.settled or due.replies)
    )
