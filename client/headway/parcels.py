"""Submissions on their way into messages: what one call hands in, and how several share a message. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headway_bus.endpoint import Frame
from headway_bus.ids import TaskId
from headway_bus.messages import Group, Submit
from headway_bus.records import Blob, Options, Payload

MESSAGE_TASKS = 1_000
"""Tasks in one message: enough that the message's own cost vanishes, few enough that nobody waits long behind it."""

MESSAGE_BYTES = 1024 * 1024
"""Bytes of arguments in one message, unless a single task has more."""

TASK_WEIGHT = 64
"""Bytes that a task costs beside its arguments."""


@dataclass(slots=True, eq=False)
class Unit:
    """What one call hands in: accepted or refused as a whole.

    ``tasks``: (id, encoded arguments or the blob that holds them); ``handles`` stand beside them, one each.
    """

    options: Options
    tasks: list[tuple[TaskId, bytes | Blob]]
    handles: list[Any]
    weight: int
    short: bool
    """Whether all arguments are short enough for the header, so that nobody needs to look at each."""

    tag: Any = None


@dataclass(slots=True)
class Parcel:
    """One submit message on its way."""

    units: list[Unit]
    message: Submit
    frames: list[Frame]


def make_unit(
    options: Options, tasks: list[tuple[TaskId, bytes | Blob]], handles: list[Any], inline: int, tag: Any = None
) -> Unit:
    """A unit with its weight."""
    weight = 0
    longest = 0
    for _task, data in tasks:
        size = 0 if isinstance(data, Blob) else len(data)
        weight += size
        longest = max(longest, size)
    return Unit(options, tasks, handles, weight + TASK_WEIGHT * len(tasks), longest <= inline, tag)


def submit_message(number: int, units: list[Unit], inline: int) -> tuple[Submit, list[Frame]]:
    """The message that hands these in, and its payload frames. Units that share an options record share a group."""
    frames: list[Frame] = []
    groups: dict[int, Group] = {}
    for unit in units:
        group = groups.get(id(unit.options))
        if group is None:
            group = groups[id(unit.options)] = Group(unit.options, [])
        if unit.short:
            group.tasks.extend(unit.tasks)
        else:
            group.tasks.extend((task, _placed(data, inline, frames)) for task, data in unit.tasks)
    return Submit(number, list(groups.values()), together=len(units) == 1 and len(units[0].tasks) == 1), frames


def _placed(data: bytes | Blob, inline: int, frames: list[Frame]) -> Payload:
    if isinstance(data, Blob) or len(data) <= inline:
        return data
    frames.append(data)
    return len(frames) - 1
