"""Whose turn it is: fair shares between namespaces, and between the clients of one, so that nobody's million tasks are in the
way of another's first.

Each namespace has an account of the work that was committed for it, divided by its weight, and the one that has had the least
goes next; within it, first by priority, then the client that has had the least. It is deficit round robin without the
rounds: what one commit gives somebody too much, as a batch for a runtime may, the others get before its next turn. Whoever
comes, or comes back after having had nothing to do, begins where the others are: idle time is not saved up.

Work is counted in expected seconds times slots, not in tasks: an hour's task weighs as much as 3,600 of a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headway_controller.placement.work import Work

LINES = 64
"""Clients of one namespace that have a line each at the same time; those beyond share one, so that order does not cost more
with every shell that somebody opens."""

LEAST = 1e-3
"""Seconds that a task weighs at least: to start and report it is work, too."""
MOST = 3.2e7
"""Seconds that it weighs at most, whatever it is expected to take."""

EVERYBODY = "\0others"
"""The line of those who have none of their own; no client is called so."""


class Share:
    """The account of a namespace. ``had``: weighted seconds of work committed for it."""

    __slots__ = ("clock", "had", "lines", "name", "waiting", "weight")

    def __init__(self, name: str, weight: float) -> None:
        self.name = name
        self.weight = weight
        self.had = 0.0
        self.waiting = 0
        self.lines: dict[str, Line] = {}
        self.clock = 0.0
        """What the line had whose turn it was last: where one begins that joins."""


class Line:
    """The account of one client within its namespace. ``waiting``: its tasks that wait for a runtime."""

    __slots__ = ("had", "share", "waiting")

    def __init__(self, share: Share) -> None:
        self.share = share
        self.had = 0.0
        self.waiting = 0


class Shares:
    """The accounts. ``weights`` by namespace; who is not in it has 1."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.weights = dict(weights or {})
        self._shares: dict[str, Share] = {}
        self._clock = 0.0

    def line_of(self, namespace: str, owner: str) -> Line:
        """The client's line; while too many have one, the line that the others share."""
        share = self._shares.get(namespace)
        if share is None:
            share = self._shares[namespace] = Share(namespace, self.weights.get(namespace, 1.0))
        line = share.lines.get(owner)
        if line is None:
            if len(share.lines) >= LINES:
                self._prune(share)
            name = owner if len(share.lines) < LINES else EVERYBODY
            line = share.lines.get(name) or share.lines.setdefault(name, Line(share))
            if name is EVERYBODY:
                # Until it is empty its members stay in it: what waits must be found again where it was put.
                share.lines[owner] = line
        return line

    def _prune(self, share: Share) -> None:
        for name in [name for name, line in share.lines.items() if not line.waiting]:
            del share.lines[name]

    def add(self, line: Line, count: int) -> None:
        """So many more tasks wait there."""
        share = line.share
        if not share.waiting:
            share.had = max(share.had, self._clock)
        if not line.waiting:
            line.had = max(line.had, share.clock)
        share.waiting += count
        line.waiting += count

    def remove(self, line: Line, count: int) -> None:
        """So many wait no more."""
        line.share.waiting -= count
        line.waiting -= count

    def charge(self, line: Line, work: Work, count: int) -> None:
        """So many tasks of that work are committed: it was this line's turn."""
        share = line.share
        self._clock = max(self._clock, share.had)
        share.clock = max(share.clock, line.had)
        cost = count * min(max(work.prediction.mean, LEAST), MOST) * max(work.demand.need.slots, 0.1)
        share.had += cost / share.weight
        line.had += cost

    def validate(self, waiting: int) -> None:
        """Raises AssertionError when the accounts do not add up to what waits."""
        assert sum(share.waiting for share in self._shares.values()) == waiting, "shares and tasks that wait differ"
        for share in self._shares.values():
            assert sum(line.waiting for line in set(share.lines.values())) == share.waiting, f"lines of {share.name!r}"
