"""The end of a task as the end of a job. Pure."""

from __future__ import annotations

from headway.batch.book import Entry
from headway.batch.records import JobRecord, State
from headway_bus.records import Outcome, Reason, Status, TaskInfo

BREAKS = frozenset({Reason.START, Reason.REFUSED, Reason.DECODE})
"""Reasons that mean that the job was never started."""


def record_of(
    entry: Entry, outcome: Outcome, now: float, stopping: bool, info: TaskInfo | None = None, last_words: str = ""
) -> JobRecord:
    """What is kept of a job that ended. ``last_words``: the last line that it wrote to standard error.

    ``stopping``: the run is being ended, so a cancelled task was interrupted and not killed. ``info``: the task's times,
    where it may have ended before this run.
    """
    error = outcome.error
    ended = info.ended if info is not None and info.ended else now
    has_run = outcome.ran > 0 or entry.started > 0
    return JobRecord(
        name=entry.name,
        status=state_of(outcome, stopping),
        content=entry.content,
        runs=entry.runs + 1,
        exit_code=0 if outcome.status == Status.SUCCEEDED else error.exit_code if error else None,
        signal=error.signal if error else None,
        reason=reason_of(outcome, stopping),
        message=": ".join(filter(None, [error.message, last_words])) if error else "",
        host=outcome.runtime,
        attempts=outcome.attempt,
        start_datetime=ended - outcome.ran if has_run else None,
        end_datetime=ended,
        elapsed=outcome.ran,
        task=entry.task,
    )


def state_of(outcome: Outcome, stopping: bool) -> State:
    if outcome.status == Status.SUCCEEDED:
        return State.SUCCEED
    if outcome.status == Status.CANCELLED:
        return State.INTERRUPTED if stopping else State.KILLED
    return State.FAILED


def reason_of(outcome: Outcome, stopping: bool) -> str:
    if outcome.status == Status.CANCELLED:
        return str(state_of(outcome, stopping))
    return str(outcome.error.reason) if outcome.error else ""


def is_break(outcome: Outcome) -> bool:
    """Whether the job could not be started at all."""
    return outcome.status == Status.FAILED and outcome.error is not None and outcome.error.reason in BREAKS
