"""What a task comes after: who of those has ended, and whether it may run because of that. Pure functions."""

from __future__ import annotations

from collections.abc import Callable

from headway_bus.ids import TaskId, short_text
from headway_bus.records import ENDS, Options, Status
from headway_controller.state import Waiting

ENDED_HOW = {Status.FAILED: "failed", Status.CANCELLED: "was cancelled", Status.EXPIRED: "expired"}


def waiting_for(
    options: Options,
    now: float,
    until: float,
    status_of: Callable[[TaskId], Status | None],
    *,
    known_only: bool = False,
) -> Waiting:
    """How things stand with what a task of these options comes after.

    ``known_only``: a parent of which nothing is known any more was purged after its end, and will never be heard of;
    otherwise it may be part of the same submission.
    """
    waiting = Waiting(now, until, set(), "dependencies")
    for parent in dict.fromkeys(options.after):
        status = status_of(parent)
        if status in ENDS:
            note_parent(options, waiting, parent, status)
        elif status is None and known_only:
            note_parent(options, waiting, parent, None)
        else:
            waiting.unmet.add(parent)
    return waiting


def note_parent(options: Options, waiting: Waiting, parent: TaskId, status: Status | None) -> None:
    """A parent has ended; None: it has, but how is not known any more."""
    if status == Status.SUCCEEDED or options.after_end == "always":
        waiting.met += 1
    elif status is None:
        waiting.bar = f"it comes after {short_text(parent)}, whose end is not known any more (it was purged)"
    else:
        waiting.bar = f"it comes after {short_text(parent)}, which {ENDED_HOW[status]}"


def verdict(options: Options, waiting: Waiting) -> str:
    """Whether its dependencies are "met", may still be ("unmet"), or can never be ("impossible")."""
    if options.after_count == "any" and options.after:
        return "met" if waiting.met else "unmet" if waiting.unmet else "impossible"
    return "impossible" if waiting.bar else "unmet" if waiting.unmet else "met"
