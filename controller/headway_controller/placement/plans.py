"""Tasks that an early-binding strategy has planned on a runtime and that are not committed yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headway_controller.placement.lanes import Lane
from headway_controller.placement.work import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headway_bus.ids import TaskId
    from headway_controller.placement.book import Book
    from headway_controller.placement.eligibility import Demand
    from headway_controller.placement.fairness import Line


class Plans:
    """A lane per runtime, demand and client. ``where`` is kept per task, as only such strategies need it."""

    def __init__(self) -> None:
        self.where: dict[TaskId, Book] = {}
        self._lanes: dict[Book, dict[tuple[Line, Demand], Lane]] = {}

    def add(self, book: Book, batch: Batch) -> None:
        lanes = self._lanes.setdefault(book, {})
        key = (batch.line, batch.work.demand)
        lane = lanes.get(key)
        if lane is None:
            lane = lanes[key] = Lane(batch.work.demand, batch.line)
        lane.add(batch)
        for task in batch.tasks:
            self.where[task] = book
        book.plan(batch.work, len(batch.tasks))

    def lanes_of(self, book: Book) -> Iterator[Lane]:
        return (lane for lane in self._lanes.get(book, {}).values() if lane.count)

    def busy_lanes(self) -> Iterator[Lane]:
        """The lanes of all runtimes in which something is planned."""
        return (lane for lanes in self._lanes.values() for lane in lanes.values() if lane.count)

    def remove(self, task: TaskId, demand: Demand, line: Line) -> bool:
        """It is cancelled while planned. False: it is planned nowhere."""
        book = self.where.pop(task, None)
        if book is None:
            return False
        self._lanes[book][line, demand].remove(task)
        book.unplan_one()
        return True

    def taken(self, book: Book, tasks: list[TaskId], batch: Batch) -> None:
        """They are committed now."""
        for task in tasks:
            self.where.pop(task, None)
        book.plan(batch.work, -len(tasks))

    def release(self, book: Book | None = None) -> list[Batch]:
        """Give up the plans for one runtime, or all of them; the tasks are to be placed anew."""
        released: list[Batch] = []
        for each in [book] if book is not None else list(self._lanes):
            for lane in self._lanes.pop(each, {}).values():
                for batch in lane.batches():
                    tasks = [task for task in batch.tasks if task not in lane.removed]
                    for task in tasks:
                        self.where.pop(task, None)
                    if tasks:
                        released.append(batch.part(tasks, batch.offset))
            each.clear_plan()
        return released
