"""A task's life as a table: (where it is, what happened) → where it goes. A row that is not here is an error.

================ ========================================================================================
event            what happened
================ ========================================================================================
release          what it waited for has come: its dependencies, its delay, its back-off
assign           the scheduler gave it to a runtime
start            the runtime says that it began
give_back        the runtime returned it unstarted
lose             the runtime is gone
retry            the attempt failed and another is due after a back-off
adopt            a runtime runs an attempt of it that this controller did not know of, or had given up
adopt_unstarted  the same, but the attempt has not begun there
succeed          the attempt succeeded
fail             the last attempt failed, or something it came after did, or it was lost too often
cancel           somebody wanted it, and nothing of it runs any more
expire           it ran out of time
gather           a union begins: its parts go to the runtimes that match
revive           an operator wants an ended task run again
================ ========================================================================================
"""

from __future__ import annotations

from headway_bus.errors import HeadwayError
from headway_bus.ids import short_text
from headway_controller.state import Assigned, Ended, Gathering, Queued, Running, State, Task, Waiting

TABLE: dict[tuple[type, str], type] = {
    (Waiting, "release"): Queued,
    (Waiting, "adopt"): Running,
    (Waiting, "adopt_unstarted"): Assigned,
    (Waiting, "fail"): Ended,
    (Waiting, "cancel"): Ended,
    (Waiting, "expire"): Ended,
    (Queued, "assign"): Assigned,
    (Queued, "adopt"): Running,
    (Queued, "adopt_unstarted"): Assigned,
    (Queued, "succeed"): Ended,  # a late report of an attempt that was given up but not yet followed by another
    (Queued, "fail"): Ended,
    (Queued, "retry"): Waiting,
    (Queued, "cancel"): Ended,
    (Queued, "expire"): Ended,
    (Assigned, "start"): Running,
    (Assigned, "adopt"): Running,
    (Assigned, "give_back"): Queued,
    (Assigned, "lose"): Queued,
    (Assigned, "retry"): Waiting,
    (Assigned, "succeed"): Ended,  # short attempts are reported when they are over, without a start before it
    (Assigned, "fail"): Ended,
    (Assigned, "cancel"): Ended,
    (Assigned, "expire"): Ended,
    (Running, "adopt"): Running,
    (Running, "give_back"): Queued,  # a runtime that had to stop gives back even what had begun
    (Running, "lose"): Queued,
    (Running, "retry"): Waiting,
    (Running, "succeed"): Ended,
    (Running, "fail"): Ended,
    (Running, "cancel"): Ended,
    (Running, "expire"): Ended,
    (Ended, "revive"): Queued,
    (Waiting, "gather"): Gathering,
    (Queued, "gather"): Gathering,  # in the same breath in which it is admitted
    (Ended, "gather"): Gathering,  # an operator wants an ended union run again
    (Gathering, "succeed"): Ended,
    (Gathering, "fail"): Ended,
    (Gathering, "cancel"): Ended,
    (Gathering, "expire"): Ended,
}


class ImpossibleTransition(HeadwayError):
    """An event that the table does not know for the task's state: a defect in the controller, with the task's story."""


def move(task: Task, event: str, state: State) -> None:
    """Put the task into ``state``, if the table says that ``event`` leads there."""
    if TABLE.get((type(task.state), event)) is not type(state):
        known = sorted(name for source, name in TABLE if source is type(task.state))
        raise ImpossibleTransition(
            f"task {short_text(task.id)} is {type(task.state).__name__.lower()}, where {event!r} does not lead to "
            f"{type(state).__name__.lower()}; possible there: {', '.join(known)}; its story: {task.story or 'just submitted'}"
        )
    task.state = state
