"""What is shown of tasks and runtimes: records for the wire, from memory and from the store. Nothing here changes anything."""

from __future__ import annotations

import msgspec

from headway_bus.records import Outcome, QueueState, RuntimeState, Status, TaskInfo, Transition
from headway_controller.placement import Scheduler
from headway_controller.state import (
    AWAY,
    UNHEARD,
    Assigned,
    ControllerState,
    Ended,
    Queued,
    Running,
    Runtime,
    Task,
    Waiting,
    status_of,
)
from headway_controller.store.protocol import Described, StoredTask
from headway_controller.story import add_once, decode_story, last_run, past_of, woven


def info_of_task(task: Task, wall_offset: float) -> TaskInfo:
    """A task in memory."""
    state = task.state
    ended = state.since + wall_offset if isinstance(state, Ended) else 0.0
    error = state.outcome.error if isinstance(state, Ended) else task.error
    info = TaskInfo(
        task.id,
        status_of(task),
        task.options,
        task.attempt,
        task.submitted,
        task.started,
        ended,
        task.runtime,
        error,
        task.failures,
        task.losses,
        list(task.progress),
        story=_story_of_task(task, wall_offset),
        client=task.client,
        ran=state.outcome.ran if isinstance(state, Ended) else 0.0,
    )
    return _completed(info, task.described)


def _story_of_task(task: Task, wall_offset: float) -> list[Transition]:
    story = [Transition(task.submitted, "submitted", f"by {task.client}"), *(task.story or [])]
    state = task.state
    if isinstance(state, Waiting):
        story.append(Transition(state.since + wall_offset, "waiting", state.why))
    elif isinstance(state, Queued) and (task.story or task.options.after or task.options.delay):
        story.append(Transition(state.since + wall_offset, "queued"))
    elif isinstance(state, Assigned):
        story.append(Transition(state.since + wall_offset, "assigned", "", state.runtime, task.attempt))
    if task.started:
        add_once(story, Transition(task.started, "running", "", task.runtime, task.attempt))
    if isinstance(state, Ended):
        story.append(_end_of(state.outcome, state.since + wall_offset))
    return story


def _end_of(outcome: Outcome, at: float) -> Transition:
    reason = outcome.error.message if outcome.error is not None else ""
    return Transition(at, outcome.status, reason, outcome.runtime, outcome.attempt)


def info_of_stored(stored: StoredTask, described: Described | None) -> TaskInfo:
    """A task in the store. One without an end is about to be told to memory, and is shown as queued."""
    end = stored.end
    submitted = Transition(stored.submitted, "submitted", f"by {stored.client}")
    if end is None:
        info = TaskInfo(
            stored.task,
            Status.QUEUED,
            stored.options,
            stored.attempt,
            stored.submitted,
            story=[submitted, *(decode_story(stored.story) or [])],
            client=stored.client,
        )
        return _completed(info, described)
    info = TaskInfo(
        stored.task,
        end.status,
        stored.options,
        end.attempt,
        stored.submitted,
        end.started,
        end.ended,
        end.runtime,
        end.error,
        stored.failures,
        stored.losses,
        story=[submitted, *past_of(stored.story, end)],
        client=stored.client,
        result_size=end.result_size,
        ran=end.seconds,
    )
    return _completed(info, described)


def _completed(info: TaskInfo, described: Described | None) -> TaskInfo:
    """With what the record's other fields tell, and with its present description."""
    ran = info.ran or last_run(info.story)
    # The clock may have been set back, or was read a little off: nothing is shown as before the submission.
    first = info.submitted
    story = [step if step.at >= first else msgspec.structs.replace(step, at=first) for step in info.story]
    started = info.started and max(info.started, first)
    ended = info.ended and max(info.ended, started, first)
    options = info.options
    if described is not None:
        options = msgspec.structs.replace(options, description=described.text)
        story = woven(story, decode_story(described.story) or [])
    modified = max(step.at for step in story)
    return msgspec.structs.replace(
        info, options=options, story=story, started=started, ended=ended, modified=modified, ran=ran
    )


def outcome_of_stored(stored: StoredTask) -> Outcome | None:
    """The end of a stored task, as its client gets it; None if it has not ended."""
    end = stored.end
    if end is None:
        return None
    waited = max(0.0, (end.started or end.ended) - stored.submitted)
    return Outcome(
        stored.task,
        end.status,
        end.attempt,
        end.result,
        end.error,
        stored.options.by_value,
        end.runtime,
        waited,
        end.seconds,
        end.predicted,
        end.files,
    )


def state_of_runtime(
    runtime: Runtime,
    state: ControllerState,
    scheduler: Scheduler,
    queue: QueueState | None,
    now: float,
    wall_offset: float,
) -> RuntimeState:
    """A runtime with what it has at the moment. ``queue``: what is expected of it; None where nothing is."""
    held = [state.tasks.get(task_id) for task_id, _ in runtime.held]
    running = sum(task is not None and isinstance(task.state, Running) for task in held)
    used = sum(task.options.requirements.slots for task in held if task is not None and isinstance(task.state, Running))
    book = scheduler.fleet.books.get(runtime.info.name)
    aside = book is not None and book.set_aside_until > now
    return RuntimeState(
        runtime.info,
        "set-aside" if aside and runtime.state == "online" else "offline" if runtime.state == AWAY else runtime.state,
        runtime.since + wall_offset,
        runtime.seen + wall_offset,
        running,
        len(held) - running,
        queue.planned if queue is not None else 0,
        max(0.0, runtime.info.slots - used) if runtime.state not in UNHEARD else 0.0,
        runtime.succeeded,
        runtime.failed,
        runtime.round_trip,
        book.set_aside_why if aside and book is not None else runtime.why,
        queue.waiting if queue is not None else None,
        load=runtime.load,
    )
