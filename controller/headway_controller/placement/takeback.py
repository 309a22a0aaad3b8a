"""Taking unstarted work back from a runtime, for another that would finish it sooner. Never a copy: the holder confirms.

The way costs a message to the holder, its answer, and a message to the new runtime; a task is asked for only if it would
end sooner even so. Whatever has started meanwhile stays where it is.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headway_bus.ids import TaskId
    from headway_controller.placement.book import Book
    from headway_controller.placement.fleet import Fleet
    from headway_controller.placement.work import Work

LOOKED_AT = 32
"""Runtimes that hold unstarted work, looked at in one decision."""
MARGIN = 1e-3
"""Seconds that must be won: under that, the messages cost more than they bring."""


def proposals(fleet: Fleet, now: float) -> list[tuple[str, list[TaskId]]]:
    """(runtime, tasks) to ask back; they are marked as asked for."""
    found: list[tuple[str, list[TaskId]]] = []
    if not fleet.holders:
        return found
    fleet.recalling = {book: None for book in fleet.recalling if book.recalled}
    outstanding = sum(len(book.recalled) for book in fleet.recalling)
    for holder in list(islice(fleet.holders, LOOKED_AT)):
        if not holder.open(now):
            tasks = [task for task in holder.committed if task not in holder.recalled]
        else:
            tasks = _worth_moving(fleet, holder, outstanding, now)
            outstanding += len(tasks)
        if tasks:
            holder.recalled.update(tasks)
            fleet.recalling[holder] = None
            found.append((holder.name, tasks))
    return found


def _worth_moving(fleet: Fleet, holder: Book, outstanding: int, now: float) -> list[TaskId]:
    """The last of what the holder has, as long as a free runtime would finish it sooner.

    ``outstanding``: tasks that are on their way back already; each will fill a free runtime.
    """
    tasks: list[TaskId] = []
    drain = -1.0
    for task in reversed(holder.committed):
        booking = holder.committed[task]
        demand = booking.work.demand
        if task in holder.recalled:
            continue
        if demand.runtime:
            break
        taker, free = _free_runtime(fleet, booking.work)
        if taker is None or free <= outstanding + len(tasks):
            break
        if drain < 0.0:
            drain = holder.drain(now)[0]
        there = 2 * holder.delay + taker.delay + booking.work.prediction.mean / taker.speed
        if drain - there < MARGIN:
            break
        tasks.append(task)
        drain -= booking.mean / max(holder.stock.total_slots, 1.0)
    return tasks


def _free_runtime(fleet: Fleet, work: Work) -> tuple[Book | None, int]:
    """The free runtime that would finish it first, and how many are free."""
    best: Book | None = None
    least, count = 0.0, 0
    mean, need = work.prediction.mean, work.demand.need
    for pool in fleet.pools_of(work.demand):
        free = pool.free.get(need)
        if free:
            count += len(free)
            book = next(iter(free))
            end = book.delay + mean / book.speed
            if best is None or end < least:
                best, least = book, end
    return best, count
