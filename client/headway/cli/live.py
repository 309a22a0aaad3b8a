"""The live table of a batch on a terminal: those that run first, then what has just ended, then who waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from headway.batch.records import ENDS, State
from headway.cli.words import duration
from headway.cli.words import estimate as estimate_text

if TYPE_CHECKING:
    from headway.batch.book import Book, Entry

STYLES = {"running": "cyan", "succeed": "green", "failed": "red", "killed": "magenta", "interrupted": "magenta"}
MOST_NAME = 32
"""Columns of a job's name."""

CHROME_ROWS = 4
"""Lines of the table that are no jobs: its header, the line below it and a margin."""


@contextmanager
def live_table(draws: bool) -> Iterator[Callable[[Book], None] | None]:
    """A function that draws the book anew, or None where nobody looks."""
    if not draws:
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, auto_refresh=False) as live:
        yield lambda book: live.update(table_of(book, console.height - CHROME_ROWS, time.time()), refresh=True)


def rows_of(book: Book, most: int) -> list[Entry]:
    """The jobs that are worth a line: running, ended last, and waiting ones, as many as there is room for."""
    entries = list(book.entries.values())
    running = [entry for entry in entries if entry.state is State.RUNNING]
    ended = sorted((entry for entry in entries if entry.state in ENDS), key=lambda entry: -entry.ended)
    waiting = [entry for entry in entries if entry.state is State.INIT]
    return (running + waiting[: max(2, most // 4)] + ended)[: max(1, most)]


def table_of(book: Book, most: int, now: float) -> Any:
    """A rich table of the book at this moment."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title, right in (("job", False), ("state", False), ("runtime", False), ("elapsed", True)):
        # A name may have 300 characters; the other columns want to be seen, too.
        widest = MOST_NAME if title == "job" else None
        table.add_column(
            title, justify="right" if right else "left", no_wrap=True, overflow="ellipsis", max_width=widest
        )
    table.add_column("last line", no_wrap=True, overflow="ellipsis", ratio=1)
    for entry in rows_of(book, most):
        elapsed = entry.elapsed(now)
        state = str(entry.state)
        cells = (state, entry.runtime, "" if elapsed is None else duration(elapsed), entry.last_line)
        table.add_row(Text(entry.name), Text(cells[0], STYLES.get(state, "dim")), *(Text(each) for each in cells[1:]))
    return Group(table, Text(caption_of(book, now), "bold"))


def caption_of(book: Book, now: float) -> str:
    """ "batch b: 3 of 10 over, 2 running, 12 s; predicted time left: 20 s ± 3 s"."""
    counts = book.counts()
    over = sum(counts.get(str(state), 0) for state in ENDS)
    text = f"batch {book.batch}: {over} of {counts['total']} over, {counts['running']} running, {duration(now - book.began)}"
    return text + (
        "" if book.left is None or over == counts["total"] else f"; predicted time left: {estimate_text(book.left)}"
    )
