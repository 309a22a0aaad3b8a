"""What listings show of tasks, jobs, runtimes and queues: as rows for people, and as plain data for programs.

The keys of the plain data are a promise: they may grow, and none is renamed. Times are ISO 8601 in UTC, with the same
moment as Unix seconds beside it under ``…_seconds``; lengths of time are seconds.
"""

from __future__ import annotations

import json
from typing import Any

from headway.cli.output import NOTHING, Column, bar
from headway.cli.words import (
    UNKNOWN,
    duration,
    estimate,
    iso,
    moment,
    number,
    plain,
    predicted_moment,
    size,
)
from headway_bus.ids import short_text, text_of
from headway_bus.records import ENDS, Estimate, JobInfo, LogRecord, QueueState, RuntimeState, Status, TaskInfo

TASK_COLUMNS = (
    Column("id", fixed=True),
    Column("status", fixed=True),
    Column("what"),
    Column("job"),
    Column("runtime"),
    Column("submitted"),
    Column("start"),
    Column("end"),
)

JOB_COLUMNS = (
    Column("job"),
    Column("done", right=True, fixed=True),
    Column("of", right=True, fixed=True),
    Column("", drawn=True),
    Column("tasks"),
    Column("last end"),
)

RUNTIME_COLUMNS = (
    Column("runtime"),
    Column("state", fixed=True),
    Column("slots", right=True, fixed=True),
    Column("free", right=True),
    Column("running", right=True),
    Column("assigned", right=True),
    Column("planned", right=True),
    Column("done", right=True),
    Column("failed", right=True),
    Column("trip", right=True),
    Column("seen", right=True),
    Column("why"),
)

QUEUE_COLUMNS = (
    Column("runtime"),
    Column("target"),
    Column("wait", fixed=True),
    Column("", drawn=True),
    Column("p50", right=True),
    Column("p90", right=True),
    Column("running", right=True),
    Column("committed", right=True),
    Column("planned", right=True),
)

SCORE_COLUMNS = (
    Column("target"),
    Column("starts", right=True),
    Column("mean error", right=True),
    Column("bias", right=True),
    Column("under p50", right=True),
    Column("under p90", right=True),
)


def what_of(info: TaskInfo) -> str:
    """The name that was given, or what is run."""
    return info.options.name or " ".join(info.options.target.split())


def task_row(info: TaskInfo, now: float) -> list[str]:
    return [
        short_text(info.task),
        info.status.value,
        what_of(info),
        info.options.job or NOTHING,
        info.runtime or NOTHING,
        moment(info.submitted, now),
        start_of(info, now),
        end_of(info, now),
    ]


def start_of(info: TaskInfo, now: float) -> str:
    """When it started, or when it is predicted to."""
    if info.started:
        return moment(info.started, now)
    return NOTHING if info.status in ENDS else predicted_moment(info.start_estimate, now)


def end_of(info: TaskInfo, now: float) -> str:
    """When it ended, or when it is predicted to."""
    return moment(info.ended, now) if info.status in ENDS else predicted_moment(info.end_estimate, now)


def task_data(info: TaskInfo, now: float) -> dict[str, Any]:
    options = info.options
    return {
        "id": text_of(info.task),
        "status": info.status.value,
        "kind": options.kind.value,
        "target": options.target,
        "name": options.name,
        "job": options.job,
        "queue": options.queue,
        "priority": options.priority,
        "runtime": info.runtime,
        "attempt": info.attempt,
        "failures": info.failures,
        "losses": info.losses,
        **moment_data("submitted", info.submitted),
        **moment_data("started", info.started),
        **moment_data("ended", info.ended),
        **moment_data("modified", info.modified),
        "ran": info.ran,
        "start_estimate": estimate_data(info.start_estimate, now),
        "start_runtime": info.start_runtime or None,
        "end_estimate": estimate_data(info.end_estimate, now),
        "progress": list(info.progress) or None,
        "error": plain(info.error),
    }


def story_data(info: TaskInfo) -> list[dict[str, Any]]:
    return [
        {**moment_data("at", step.at), "status": step.status, "reason": step.reason, "runtime": step.runtime}
        | {"attempt": step.attempt}
        for step in info.story
    ]


def full_task_data(info: TaskInfo, now: float) -> dict[str, Any]:
    """A task with its options and its story."""
    extra = {"client": info.client, "result_size": info.result_size if info.result_size >= 0 else None}
    return task_data(info, now) | extra | {"options": plain(info.options), "story": story_data(info)}


def estimate_data(value: Estimate | None, now: float) -> dict[str, Any] | None:
    """An estimate in seconds from now, and as a moment; None where there is none, "known" false where it says why."""
    if value is None:
        return None
    data: dict[str, Any] = plain(value)
    return data | {"at": iso(now + value.expectation) if value.known else None}


def moment_data(name: str, at: float) -> dict[str, Any]:
    """A moment under two names: ISO 8601 in UTC, and Unix seconds."""
    return {name: iso(at), f"{name}_seconds": at or None}


def task_details(info: TaskInfo, now: float) -> list[tuple[str, str]]:
    """Everything about one task as lines for a person; what has no value is left out."""
    options = info.options
    lines = [
        ("id", text_of(info.task)),
        ("status", info.status.value),
        ("what", f"{options.kind.value} {options.target}"),
        ("name", options.name),
        ("description", options.description),
        ("replaces", short_text(options.replaces) if options.replaces else ""),
        ("edges", options.union.edges if options.union is not None else ""),
        ("job", options.job),
        ("queue", f"{options.queue}, priority {options.priority}"),
        ("runtime", info.runtime),
        ("attempt", _attempts(info)),
        ("submitted", moment(info.submitted, now)),
        ("start", start_of(info, now)),
        ("end", end_of(info, now)),
        ("ran", _ran(info)),
        ("modified", moment(info.modified, now)),
        ("progress", f"{number(info.progress[0])} of {number(info.progress[1])}" if len(info.progress) == 2 else ""),
        ("result", size(info.result_size) if info.result_size >= 0 else ""),
        ("after", ", ".join(short_text(task) for task in options.after)),
        ("meta", ", ".join(f"{key}={value}" for key, value in options.meta.items())),
        ("error", f"{info.error.reason.value}: {info.error.message}" if info.error else ""),
    ]
    return [(name, text) for name, text in lines if text and text != NOTHING]


def _ran(info: TaskInfo) -> str:
    """How long the last attempt that is over has run."""
    if not info.ran:
        return ""
    return duration(info.ran) + ("" if info.status in ENDS else ", the attempt before")


def _attempts(info: TaskInfo) -> str:
    if not info.attempt:
        return ""
    extra = [f"{count} {word}" for count, word in ((info.failures, "failed"), (info.losses, "lost")) if count]
    return f"{info.attempt}" + (f" ({', '.join(extra)})" if extra else "")


def job_row(info: JobInfo, now: float) -> list[str]:
    counts = {status.value: info.counts.get(status.value, 0) for status in Status}
    done, total = sum(counts[status.value] for status in ENDS), sum(counts.values())
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    share = done / total if total else 0.0
    return [info.job, str(done), str(total), bar(share), told or NOTHING, moment(info.last_ended, now)]


def job_data(info: JobInfo) -> dict[str, Any]:
    counts = {status.value: info.counts.get(status.value, 0) for status in Status}
    done = sum(info.counts.get(status.value, 0) for status in ENDS)
    return {
        "job": info.job,
        "done": done,
        "total": sum(counts.values()),
        "counts": counts,
        **moment_data("first_submitted", info.first_submitted),
        **moment_data("last_ended", info.last_ended),
    }


def runtime_row(state: RuntimeState, now: float) -> list[str]:
    return [
        state.info.name,
        state.state,
        number(state.info.slots),
        number(state.slots_free),
        str(state.running),
        str(state.assigned),
        str(state.planned),
        str(state.succeeded),
        str(state.failed),
        duration(state.round_trip) if state.round_trip else NOTHING,
        duration(max(now - state.last_seen, 0.0)) if state.last_seen else NOTHING,
        state.why or _drain_text(state),
    ]


def _drain_text(state: RuntimeState) -> str:
    return f"empty in {estimate(state.drain)}" if state.state == "draining" and state.drain else NOTHING


def runtime_data(state: RuntimeState) -> dict[str, Any]:
    info: dict[str, Any] = plain(state.info)
    return {
        "runtime": info.pop("name"),
        "state": state.state,
        "why": state.why,
        "slots": info.pop("slots"),
        "slots_free": state.slots_free,
        "running": state.running,
        "assigned": state.assigned,
        "planned": state.planned,
        "succeeded": state.succeeded,
        "failed": state.failed,
        "round_trip": state.round_trip,
        **moment_data("since", state.since),
        **moment_data("last_seen", state.last_seen),
        "load": plain(state.load),
        "drain": plain(state.drain),
        **info,
    }


def queue_row(state: QueueState, longest: float) -> list[str]:
    """``longest``: the longest expectation among the rows, which the bars are measured by."""
    waiting = state.waiting
    return [
        state.runtime,
        state.target or "(any)",
        estimate(waiting),
        bar(waiting.expectation / longest if waiting.known and longest > 0 else 0.0),
        duration(waiting.p50) if waiting.known else UNKNOWN,
        duration(waiting.p90) if waiting.known else UNKNOWN,
        str(state.running),
        str(state.committed),
        str(state.planned),
    ]


def queue_data(state: QueueState) -> dict[str, Any]:
    data: dict[str, Any] = plain(state)
    return data


def log_data(record: LogRecord) -> dict[str, Any]:
    return {
        "id": text_of(record.task),
        "attempt": record.attempt,
        "sequence": record.sequence,
        "stream": record.stream,
        **moment_data("at", record.at),
        "text": record.text,
        "fields": plain(record.fields),
    }


def log_line(record: LogRecord) -> str:
    """One record as one line of JSON: a stream has no end to wait for, so it is no JSON array."""
    return json.dumps(log_data(record), ensure_ascii=False)
