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
RELAPSE = 1.2
"""Where nobody is free, a task is asked back when it must wait so many times longer than it would have been sent for:
more than once, or it would go to and fro. Between two busy runtimes nothing else is moved: two estimates of which one is
a little lower are no reason."""


def proposals(fleet: Fleet, now: float, sooner: bool) -> list[tuple[str, list[TaskId]]]:
    """(runtime, tasks) to ask back; they are marked as asked for. All that a closed runtime has not started, and if
    ``sooner``, what would end sooner elsewhere."""
    found: list[tuple[str, list[TaskId]]] = []
    for book in fleet.closed:
        _ask(book, [task for task in book.committed if task not in book.recalled], found)
    fleet.closed.clear()
    if not sooner:
        return found
    holders = fleet.holders
    for _ in range(min(LOOKED_AT, len(holders))):
        book = next(iter(holders))
        del holders[book]
        holders[book] = None
        _ask(book, _worth_moving(fleet, book, now), found)
    return found


def _ask(book: Book, tasks: list[TaskId], found: list[tuple[str, list[TaskId]]]) -> None:
    if tasks:
        book.recall(tasks)
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
        stuck = drain - booking.mean > RELAPSE * patience(holder, work.prediction.mean)
        if not stuck and not fleet.has_free(work.demand):
            break
        found = fleet.choose(work, now, 2 * holder.delay)
        if (
            found is not None
            and found.book is not holder
            and found.book.stock.fits(work.demand.need)
            and drain - (found.end - found.book.delay) >= MARGIN
        ):
            limit = fleet.count_open(work.demand)  # each that is on its way back already will fill one of them
        elif stuck:
            # Nobody is free: it would go first of those that wait, and one of many runtimes is soon free.
            limit = len(fleet.books) // 2
        else:
            break
        if fleet.recalls.count + len(tasks) >= limit:
            break
        tasks.append(task)
        drain -= booking.mean / max(holder.stock.total_slots, 1.0)
    return tasks
