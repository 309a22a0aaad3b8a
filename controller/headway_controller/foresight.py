"""When a task that waits will start and end: its place among its like, and the scheduler's outlook from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from headway_bus.ids import TaskId
from headway_bus.records import Estimate, TaskInfo
from headway_controller.core import Controller
from headway_controller.state import Assigned, Queued, Running, Task, owner_of

LOOKED_AT = 200_000
"""Waiting tasks that are counted through to find a task's place; behind more, it is told as if it came last."""


def with_estimates(core: Controller, infos: Sequence[TaskInfo], now: float) -> list[TaskInfo]:
    """The same records with the predicted start and end of those that have not ended."""
    tasks = core.state.tasks
    wanted = {info.task: tasks[info.task] for info in infos if info.task in tasks}
    after = _count_after(core, {key: task for key, task in wanted.items() if isinstance(task.state, Queued)})
    made = []
    for info in infos:
        task = wanted.get(info.task)
        estimates = _estimates(core, task, after.get(info.task, 0), now) if task is not None else None
        if estimates is None:
            made.append(info)
        else:
            runtime, start, end = estimates
            made.append(msgspec.structs.replace(info, start_estimate=start, end_estimate=end, start_runtime=runtime))
    return made


def _count_after(core: Controller, queued: Mapping[TaskId, Task]) -> dict[TaskId, int]:
    """For each of these tasks, how many of the same options and client wait that came later."""
    left = dict(queued)
    counts = dict.fromkeys(map(_kind, queued.values()), 0)
    found: dict[TaskId, int] = {}
    looked = 0
    for task_id in reversed(core.state.tasks):
        if not left or looked >= LOOKED_AT:
            break
        looked += 1
        task = core.state.tasks[task_id]
        key = _kind(task)
        if key not in counts or not isinstance(task.state, Queued):
            continue
        if left.pop(task_id, None) is not None:
            found[task_id] = counts[key]
        counts[key] += 1
    return found


def _kind(task: Task) -> tuple[int, str]:
    """Tasks that wait in one line: of the same options and the same client."""
    return id(task.options), owner_of(task.client)


def _estimates(core: Controller, task: Task, after: int, now: float) -> tuple[str, Estimate, Estimate] | None:
    """Where it will start, if it waits; and when it starts and ends."""
    state = task.state
    if isinstance(state, Queued):
        place = -(after + 1)
        runtime, starts, ends = core.scheduler.waiting(task.options, now, owner_of(task.client), place, state.since)
        return core.scheduler.planned_on(task.id) or runtime, starts, ends
    if isinstance(state, Assigned | Running):
        started = Estimate(0.0, 0.0)
        remaining = core.scheduler.remaining(state.runtime, task.id, now)
        return ("", started, remaining) if remaining is not None else None
    return None
