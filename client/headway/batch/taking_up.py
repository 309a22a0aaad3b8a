"""What a run that was killed has left on a bus that is not its own: taken up by the next run, left for a later one, or ended."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from headway.batch.book import Book, Choice
from headway.batch.records import RunInfo, State
from headway_bus.logs import get_logger
from headway_bus.records import Status

if TYPE_CHECKING:
    from headway import Bus

UNFINISHED = (Status.WAITING, Status.QUEUED, Status.ASSIGNED, Status.RUNNING)
END_PATIENCE = 60.0

log = get_logger("headway.batch")


def still_owed(earlier: RunInfo | None, book: Book) -> RunInfo | None:
    """The killed run, if jobs of its may be at work that this run was told to leave: then it must stay known."""
    is_owed = any(
        entry.choice is Choice.LEAVE and entry.state in (State.INIT, State.INTERRUPTED)
        for entry in book.entries.values()
    )
    return earlier if is_owed and earlier is not None and not earlier.private else None


async def end_strays(bus: Bus, batch: str, run: str, book: Book, wanted: Collection[str]) -> None:
    """End the tasks of the killed run that nobody will take up: of jobs that are not what they were, or not there any more.

    ``wanted``: the keys of those that are taken up. Returns when none of their processes is left, since a job that has
    changed gets its folder.
    """
    left = {name for name, entry in book.entries.items() if entry.choice is Choice.LEAVE}
    strays = [
        info
        async for info in bus.tasks(job=batch, status=UNFINISHED)
        if f"/{run}." in info.options.key and info.options.key not in wanted and info.options.name not in left
    ]
    if strays:
        names = sorted({info.options.name for info in strays})
        log.warning("ending what the killed run has left of jobs that have changed or are gone", jobs=names)
        await bus.cancel([info.task for info in strays], timeout=END_PATIENCE)
