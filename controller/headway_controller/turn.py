"""What one wake-up has gathered, to be stored and sent together at its end.

A wake-up may bring a thousand messages. What they lead to is gathered here, so that the store gets one write, each
runtime one assignment and each client one batch of ends. What may only be said when it is stored (an acceptance, an
end, a settlement) is kept as the follow-up of that write.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from headway_bus.ids import TaskId
from headway_bus.messages import Accepted, Message
from headway_controller.effects import Effect, Note, Send, Write
from headway_controller.state import Bytes, Task
from headway_controller.store.protocol import Operation


@dataclass(slots=True)
class FollowUp:
    """What is due once a write is stored."""

    operations: list[Operation] = field(default_factory=list)
    accepted: list[tuple[str, Accepted]] = field(default_factory=list)
    new: list[list[Task]] = field(default_factory=list)  # beside ``accepted``, to take back if the write fails
    known: list[list[TaskId]] = field(default_factory=list)  # beside ``accepted``: what it had of tasks that were there
    ended: list[Task] = field(default_factory=list)
    settled: dict[tuple[str, bytes], list[int]] = field(default_factory=dict)  # report batches by runtime and instance
    replies: list[tuple[str, Message]] = field(default_factory=list)
    together: bool = False  # an acceptance may wait for the end of its task: see ``patience``

    def is_empty(self) -> bool:
        return not (self.operations or self.accepted or self.ended or self.settled or self.replies)

    def put_first(self, kept: FollowUp) -> None:
        """What had been due before comes before what is due now."""
        self.accepted = [*kept.accepted, *self.accepted]
        self.new = [*kept.new, *self.new]
        self.known = [*kept.known, *self.known]
        self.operations = [*kept.operations, *self.operations]
        self.ended = [*kept.ended, *self.ended]
        self.replies = [*kept.replies, *self.replies]
        for runtime, batches in kept.settled.items():
            self.settled.setdefault(runtime, [])[:0] = batches


class Turn:
    """The present wake-up's gathering. ``finish`` gives it out and begins the next."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self.due = FollowUp()
        self.waiting: dict[int, FollowUp] = {}
        self._tickets = 0

    def send(self, target: str, message: Message, frames: tuple[Bytes, ...] = ()) -> None:
        self.effects.append(Send(target, message, frames))

    def note(self, level: str, event: str, **fields: object) -> None:
        self.effects.append(Note(level, event, dict(fields)))

    def store(self, operation: Operation) -> None:
        self.due.operations.append(operation)

    def finish(self, hold: bool = False) -> list[Effect]:
        """All effects, the write last; ``hold``: without the write, which stays for the next turn."""
        effects, self.effects = self.effects, []
        if not hold and not self.due.is_empty():
            # Even with nothing to store the follow-up takes its place behind earlier writes: a repeated report may be
            # settled only after the write that its first copy caused.
            self._tickets += 1
            self.waiting[self._tickets] = self.due
            effects.append(Write(self._tickets, self.due.operations))
            self.due = FollowUp()
        return effects
