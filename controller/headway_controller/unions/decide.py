"""What a union does next: a function of its plan, its progress and the time. Pure; whoever asks carries it out and asks again.

A round closes when every member has ended; with ``late="drop"`` as soon as the quorum has succeeded; at its deadline if the
quorum has succeeded by then. It fails as soon as the quorum cannot be reached any more, and at the deadline without it.
Whoever has not ended when a round closes is missing, and is stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from headway_bus.records import Status, Union
from headway_controller.unions.progress import Progress

MERGE_BATCH = 32
"""Values that an associative merge takes at once: so many are held by one process, however many edges there are."""

NAMED = 10
"""Edges that an error names; a thousand names say less than their number."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before something ends, or (Unix seconds, if not 0) before ``until``."""

    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Begin:
    """Give the next round to the edges that match."""


@dataclass(frozen=True, slots=True)
class Close:
    """The round is over: stop those that have not ended."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Merge the values of these edges, behind what is merged already."""

    edges: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NextRound:
    """This round is done, and another follows."""


@dataclass(frozen=True, slots=True)
class Finish:
    """All rounds are done."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The union ends so, and stops what is left of it."""

    status: Status
    text: str


Decision = Wait | Begin | Close | Merge | NextRound | Finish | Fail


def needed(plan: Union, members: int) -> int:
    """How many of so many members are a quorum; at least one."""
    return max(1, math.ceil(plan.quorum * members - 1e-9))


def decide(plan: Union, progress: Progress, now: float) -> Decision:
    """What is to be done now (Unix seconds)."""
    if not progress.members:
        return _before_the_round(plan, progress, now)
    if progress.is_closed:
        return _after_the_round(plan, progress)
    enough = needed(plan, len(progress.members))
    succeeded, still_open = len(progress.succeeded), len(progress.open)
    if not still_open or (succeeded >= enough and plan.late == "drop"):
        return Close() if succeeded >= enough else Fail(Status.FAILED, _no_quorum(plan, progress, enough, "have"))
    if succeeded + still_open < enough:
        return Fail(Status.FAILED, _no_quorum(plan, progress, enough, "have"))
    deadline = progress.opened + plan.deadline if plan.deadline else 0.0
    if deadline and now >= deadline:
        if succeeded >= enough:
            return Close()
        return Fail(Status.EXPIRED, _no_quorum(plan, progress, enough, f"within {plan.deadline:g} s have"))
    untaken = progress.untaken
    if plan.merge and plan.associative and not progress.merging and len(untaken) >= MERGE_BATCH:
        return Merge(tuple(untaken[:MERGE_BATCH]))
    return Wait(deadline)


def _before_the_round(plan: Union, progress: Progress, now: float) -> Decision:
    deadline = progress.opened + plan.deadline if plan.deadline else 0.0
    if deadline and now >= deadline:
        count = f"fewer than {plan.least} runtimes match" if plan.least > 1 else "no runtime matches"
        return Fail(Status.EXPIRED, f"{count} {plan.edges!r}; none came within {plan.deadline:g} s (deadline)")
    return Begin()


def _after_the_round(plan: Union, progress: Progress) -> Decision:
    if plan.merge:
        if progress.merging:
            return Wait()
        if untaken := progress.untaken:
            return Merge(tuple(untaken[:MERGE_BATCH] if plan.associative else untaken))
    return NextRound() if progress.round < plan.rounds else Finish()


def _no_quorum(plan: Union, progress: Progress, enough: int, when: str) -> str:
    missing = progress.missing
    names = ", ".join(missing[:NAMED]) + (f" and {len(missing) - NAMED} others" if len(missing) > NAMED else "")
    return (
        f"{len(progress.succeeded)} of {len(progress.members)} edges {when} succeeded in round {progress.round}; the quorum "
        f"of {plan.quorum:g} needs {enough}; without a result: {names}. What each edge did is kept under its own task"
    )
