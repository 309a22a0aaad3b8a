"""What is known of one union. Stored whenever it changes, so that the next controller goes on where this one was killed.

Times are Unix seconds, because they outlive the process. Results are not here: they are in the store, under the parts' ids.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headway_bus.ids import TaskId, text_of
from headway_bus.records import Status

OPEN = ""
"""The status of a member that has not ended."""

MISSING = "missing"
"""The status of a member that had not ended when its round was over."""


KEPT_ROUNDS, KEPT_CHARACTERS = 100, 250_000
"""Rounds that are over and still told of, the last ones; and characters in the names of their edges together. All of it is stored
at every step, and told in one answer: whole, it would grow with the square of the rounds, and outgrow a header."""


class Member(msgspec.Struct, array_like=True):
    """One edge in a round."""

    task: TaskId
    status: str = OPEN
    taken: bool = False  # its value is in a merge


class Round(msgspec.Struct, array_like=True):
    """A round that is over, in short."""

    number: int
    succeeded: list[str]
    missing: list[str]
    merged: bytes
    seconds: float

    @property
    def characters(self) -> int:
        return sum(map(len, self.succeeded)) + sum(map(len, self.missing))


class Progress(msgspec.Struct, array_like=True):
    """Where a union is. ``round`` 0: its first has not begun."""

    run: int  # counts how often the union was begun: a union that is run again makes new parts
    opened: float  # when the present round was opened: its deadline counts from here
    round: int = 0
    members: dict[str, Member] = {}
    is_closed: bool = False  # the round's members are settled; only merging is left
    merges: int = 0  # merges begun in this round
    merging: bytes = b""  # the merge under way: its task
    merged: bytes = b""  # the task whose result is the merged value so far
    fed: bytes = b""  # the task whose result the round was fed with
    rounds: list[Round] = []

    def note(self, over: Round) -> None:
        """Tell of that round, too; the oldest are forgotten where it becomes too much."""
        self.rounds.append(over)
        del self.rounds[:-KEPT_ROUNDS]
        characters = sum(each.characters for each in self.rounds)
        while characters > KEPT_CHARACTERS and len(self.rounds) > 1:
            characters -= self.rounds.pop(0).characters

    def with_status(self, status: str) -> list[str]:
        """The edges whose member stands so."""
        return [edge for edge, member in self.members.items() if member.status == status]

    @property
    def succeeded(self) -> list[str]:
        return self.with_status(Status.SUCCEEDED)

    @property
    def open(self) -> list[str]:
        return self.with_status(OPEN)

    @property
    def untaken(self) -> list[str]:
        """Edges that succeeded and whose values no merge has taken."""
        return [edge for edge, each in self.members.items() if each.status == Status.SUCCEEDED and not each.taken]

    @property
    def missing(self) -> list[str]:
        """Edges without a result: they failed, were cancelled, or were too late."""
        return [edge for edge, member in self.members.items() if member.status != Status.SUCCEEDED]

    def summary(self) -> dict[str, Any]:
        """Plain data for whoever asks, and the union's result: docs/union.md says what each is."""
        return {
            "run": self.run,
            "round": self.round,
            "edges": {edge: [text_of(each.task), each.status or "open"] for edge, each in self.members.items()},
            "missing": self.missing,
            "merged": text_of(self.merged) if self.merged else "",
            "rounds": [
                {
                    "round": each.number,
                    "succeeded": each.succeeded,
                    "missing": each.missing,
                    "merged": text_of(each.merged) if each.merged else "",
                    "seconds": each.seconds,
                }
                for each in self.rounds
            ],
        }
