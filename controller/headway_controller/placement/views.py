"""What a strategy sees of a task and of a runtime: plain questions, no way to change anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from headway_controller.placement.book import Book


class TaskView(NamedTuple):
    """``mean`` and ``error``: the expected run time at speed 1, in seconds; ``known``: more than a guess."""

    target: str
    queue: str
    priority: int
    mean: float
    error: float
    known: bool


class RuntimeView:
    """One candidate. Times in seconds from now; planned, committed and running work is counted alike."""

    __slots__ = ("_book", "_now", "_waiting")

    def __init__(self, book: Book, now: float) -> None:
        self._book = book
        self._now = now
        self._waiting: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        return self._book.name

    @property
    def labels(self) -> Mapping[str, str]:
        return self._book.info.labels

    @property
    def slots(self) -> float:
        return self._book.stock.total_slots

    @property
    def free_slots(self) -> float:
        return max(self._book.stock.slots - self._book.planned, 0.0)

    @property
    def count(self) -> int:
        """Tasks that are planned, committed or running there."""
        return self._book.held + self._book.planned

    @property
    def speed(self) -> float:
        return self._book.speed

    @property
    def delay(self) -> float:
        """One way, in seconds."""
        return self._book.delay

    @property
    def waiting(self) -> tuple[float, float]:
        """(expectation, error) until something planned now would start there."""
        if self._waiting is None:
            self._waiting = self._book.planned_drain(self._now)
        return self._waiting

    def completion(self, task: TaskView) -> float:
        """Expected seconds until the task's result would be back, were it planned there now."""
        return max(self.waiting[0], self.delay) + task.mean / self.speed + self.delay
