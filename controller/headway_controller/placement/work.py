"""What placement knows of tasks that are alike: where they may go, in which order, and how long they will run.

Tasks of one ``map`` share one :class:`Work`; so do tasks submitted one by one with equal options. No object per task.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headway_bus.ids import TaskId
    from headway_bus.records import Options
    from headway_controller.placement.eligibility import Demand
    from headway_controller.placement.fairness import Line

UNKNOWN = 1_000_000
"""The rank of work whose run time nobody knows."""
RANK_STEP = 0.1
"""Expected run times within e^0.1 of each other are in one bucket, and first come first served there."""


Kin = tuple[str, tuple[tuple[str, str], ...]]
"""Target and words of ``meta``."""


class Expected(Protocol):
    """What placement asks of a prediction; times at speed 1 in seconds."""

    mean: float
    variance: float
    known: bool
    doubt: float
    """The standard error of the mean itself, in shares of it: what all tasks ahead have in common."""

    def refresh(self) -> None: ...

    def remaining(self, age: float) -> tuple[float, float]: ...

    def quantile(self, p: float, age: float = 0.0) -> float: ...

    def observe_many(self, runtime: str, durations: Sequence[float]) -> None: ...


class Work:
    __slots__ = ("demand", "kin", "line", "namespace", "prediction", "priority", "queue", "target")

    def __init__(
        self, options: Options, demand: Demand, target: str, prediction: Expected, line: str | None, kin: Kin | None
    ) -> None:
        self.demand = demand
        self.prediction = prediction
        self.priority = options.priority
        self.queue = options.queue
        self.namespace = options.namespace
        self.target = target
        """What run times are learned under."""
        self.kin = kin
        """What it shares with all tasks that are expected to run equally long; None if a number makes the difference."""
        self.line = line
        """The name of the line in which it keeps strict order of arrival, if its queue asks for that."""

    def rank(self) -> int | Kin:
        """The bucket it belongs to, by expected run time as it is known now."""
        prediction = self.prediction
        prediction.refresh()
        if not prediction.known:
            return UNKNOWN
        if self.kin is not None:
            return self.kin
        return math.floor(math.log(prediction.mean) / RANK_STEP) if prediction.mean > 0.0 else -1000


class Batch:
    """Queued tasks of one work that one client sent together; ``tasks`` is reversed, so that the next one is popped."""

    __slots__ = ("arrival", "bucket", "line", "offset", "options", "owner", "sequence", "tasks", "work")

    def __init__(
        self,
        work: Work,
        options: Options,
        owner: str,
        line: Line,
        arrival: float,
        sequence: int,
        tasks: list[TaskId],
        offset: int = 0,
    ) -> None:
        self.work = work
        self.owner = owner
        """Whose tasks they are: which line they wait in follows from it, and from the work."""
        self.line = line
        self.options = options
        self.arrival = arrival
        self.sequence = sequence
        self.offset = offset
        """How many of those that came together go before these: keeps order among the parts of a batch that was split."""
        self.tasks = tasks
        self.bucket: object = None
        """The bucket in which it counts; entries in other buckets are left-overs."""

    def __lt__(self, other: Batch) -> bool:
        return self.offset < other.offset

    def part(self, tasks: list[TaskId], offset: int, work: Work | None = None, line: Line | None = None) -> Batch:
        """Some of these tasks (reversed, too) as a batch of their own."""
        return Batch(
            work or self.work, self.options, self.owner, line or self.line, self.arrival, self.sequence, tasks, offset
        )
