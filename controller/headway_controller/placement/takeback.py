"""Taking unstarted work back from a runtime, for another that would finish it sooner. Never a copy: the holder confirms.

The way costs a message to the holder, its answer, and a message to the new runtime; a task is asked for only if it would
end sooner even so. Whatever has started meanwhile stays where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headway_controller.placement.credit import patience

if TYPE_CHECKING:
    from headway_bus.ids import TaskId
    from headway_controller.placement.book import Book
    from headway_controller.placement.fleet import Fleet

LOOKED_AT = 2
"""Runtimes that hold unstarted work and are looked at in one decision; the next decision goes on with the next ones."""
MARGIN = 1e-3
"""Seconds that must be won: under that, the messages cost more than they bring."""
WAYS, DOUBT = 1.0, 0.3
"""Between two runtimes that are both busy, so many messages' ways there and back and this share of the wait must be won
besides: two estimates of which one is a little lower are no reason to move anything."""
RELAPSE = 1.2
"""Where nobody has room, a task is asked back when it must wait so many times longer than it would have been sent for:
more than once, or it would go to and fro."""


def proposals(fleet: Fleet, now: float) -> list[tuple[str, list[TaskId]]]:
    """(runtime, tasks) to ask back; they are marked as asked for."""
    found: list[tuple[str, list[TaskId]]] = []
    for book in fleet.closed:
        _ask(fleet, book, [task for task in book.committed if task not in book.recalled], found)
    fleet.closed.clear()
    holders = fleet.holders
    for _ in range(min(LOOKED_AT, len(holders))):
        book = next(iter(holders))
        del holders[book]
        holders[book] = None
        _ask(fleet, book, _worth_moving(fleet, book, now), found)
    return found


def _ask(fleet: Fleet, book: Book, tasks: list[TaskId], found: list[tuple[str, list[TaskId]]]) -> None:
    if tasks:
        book.recalled.update(tasks)
        fleet.recalling[book] = None
        found.append((book.name, tasks))


def _worth_moving(fleet: Fleet, holder: Book, now: float) -> list[TaskId]:
    """The last of what the holder has, as long as another runtime would finish it sooner."""
    tasks: list[TaskId] = []
    drain = -1.0
    for task in reversed(holder.committed):
        if task in holder.recalled:
            continue
        booking = holder.committed[task]
        work = booking.work
        if work.demand.runtime:
            break
        if drain < 0.0:
            drain = holder.drain(now)[0]
        if drain - 2 * holder.delay - booking.mean < MARGIN:
            break
        found = fleet.choose(work, now, 2 * holder.delay)
        margin = MARGIN
        if found is None or found.book is holder:
            # Nobody has room: it would go first of those that wait, and one of many runtimes is soon free.
            ended = RELAPSE * patience(holder, work.prediction.mean) + booking.mean
            limit = len(fleet.books) // 2
        else:
            ended = found.end - found.book.delay
            if not found.book.stock.fits(work.demand.need):
                margin += WAYS * (holder.delay + found.book.delay) + DOUBT * drain
            limit = fleet.count_open(work.demand)
        # Each that is on its way back already will go to a runtime that has room.
        if drain - ended < margin or fleet.outstanding() + len(tasks) >= limit:
            break
        tasks.append(task)
        drain -= booking.mean / max(holder.stock.total_slots, 1.0)
    return tasks
