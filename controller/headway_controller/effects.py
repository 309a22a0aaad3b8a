"""What the core asks of the shell around it. The shell does these things and reports back with events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headway_bus.ids import TaskId
from headway_bus.messages import Message
from headway_controller.state import Bytes, Value


@dataclass(frozen=True, slots=True)
class Send:
    """A message to a peer, or (target ``*topic``) to all who follow a topic."""

    target: str
    message: Message
    frames: tuple[Bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Write:
    """Store these operations together; then call ``on_stored(ticket, error, now)``."""

    ticket: int
    operations: list[Any]


@dataclass(frozen=True, slots=True)
class ReadOutcomes:
    """Look these ended tasks up in the store; then call ``on_outcomes(client, outcomes, missing, now)``."""

    client: str
    tasks: list[TaskId]


@dataclass(frozen=True, slots=True)
class Join:
    """Put the next payload of a union together (see ``unions.joining``); then call ``on_joined(join, …)``.

    ``call`` None: a call with the list of the sources' results; otherwise this call with the source's as first argument.
    """

    union: TaskId
    call: Value | None
    sources: list[TaskId]
    is_divisible: bool


@dataclass(frozen=True, slots=True)
class TellUnknown:
    """Call ``on_outcomes`` for these as well, as ``hidden``: the answer takes the way that it takes for unknown ones."""

    client: str
    tasks: list[TaskId]


@dataclass(frozen=True, slots=True)
class Note:
    """Worth a line in the log."""

    level: str
    event: str
    fields: dict[str, Any]


Effect = Send | Write | ReadOutcomes | TellUnknown | Join | Note
