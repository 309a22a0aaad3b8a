"""Printing: tables that fit a terminal, the same rows plain when nobody looks, and JSON.

rich draws on a terminal only. Into a pipe go the same columns, unstyled, never shortened and never wrapped, so that
what a script reads does not depend on the width of a window it has not got.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import click

NOTHING = "-"
"""What stands in a cell that has no value, so that columns can be told apart with ``cut`` and ``awk``."""

STYLES = {
    "waiting": "dim",
    "queued": "yellow",
    "assigned": "yellow",
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "magenta",
    "expired": "red",
    "online": "green",
    "draining": "yellow",
    "offline": "red",
    "set-aside": "red",
    "yes": "green",
    "NO": "bold red",
    "ok": "green",
    "note": "yellow",
    "wrong": "bold red",
}
"""Colours of the words that say how something is."""


@dataclass(frozen=True)
class Column:
    """``fixed``: never shortened on a narrow terminal. ``drawn``: only on a terminal, such as a bar."""

    title: str
    right: bool = False
    fixed: bool = False
    drawn: bool = False


@dataclass
class Table:
    """Columns, and rows of as many cells."""

    columns: Sequence[Column]
    rows: list[list[str]] = field(default_factory=list)

    def print(self, stream: TextIO | None = None) -> None:
        """On a terminal with rich, otherwise plain; an empty table prints its header."""
        target = stream or sys.stdout
        if target.isatty():
            _print_rich(self, target)
        else:
            _print_plain(self, target)


def print_json(value: Any) -> None:
    """``value`` as JSON, indented, keys in the order given."""
    from headway.cli.words import plain  # it brings the records of the bus along

    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """A remark to the person, on standard error, so that it does not get into what a script reads."""
    click.echo(f"headway: {text}", err=True)


def bar(share: float, width: int = 10) -> str:
    """A horizontal bar, ``share`` of ``width`` characters long, in eighths of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, part = divmod(eighths, 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[part] if part else "")


def _print_plain(table: Table, stream: TextIO) -> None:
    kept = [at for at, column in enumerate(table.columns) if not column.drawn]
    lines = [[table.columns[at].title.upper().replace(" ", "-") for at in kept]]
    lines += [[_one_line(row[at]) for at in kept] for row in table.rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(kept))]
    for line in lines:
        cells = [
            cell.rjust(width) if table.columns[at].right else cell.ljust(width)
            for cell, width, at in zip(line, widths, kept, strict=True)
        ]
        click.echo("  ".join(cells).rstrip(), file=stream)


def _one_line(cell: str) -> str:
    return " ".join(cell.split()) or NOTHING


def _print_rich(table: Table, stream: TextIO) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    rows = [["" if cell.strip() in ("", NOTHING) else _one_line(cell) for cell in row] for row in table.rows]
    wanted = [
        max([cell_len(column.title), *(cell_len(row[at]) for row in rows)]) for at, column in enumerate(table.columns)
    ]
    widths = fitted(wanted, table.columns, console.width)
    drawn = RichTable(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    shown = [at for at, width in enumerate(widths) if width]
    for at in shown:
        column = table.columns[at]
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=widths[at],
        )
    for row in rows:
        drawn.add_row(*(Text(row[at], STYLES.get(row[at], "")) for at in shown))
    console.print(drawn)


GAP = 2
LEAST_WIDTH = 10
"""Columns between columns, and the width below which a shortened one says nothing any more."""


def fitted(wanted: Sequence[int], columns: Sequence[Column], available: int) -> list[int]:
    """Widths that fit ``available``: the widest columns are shortened, then the last ones left out, and bars at the end.

    rich's own way takes from all columns alike and would cut ids, which are of no use without their last letters.
    """
    widths = list(wanted)

    def excess() -> int:
        shown = [width for width in widths if width]
        return sum(shown) + GAP * len(shown) - available

    bars = [at for at, column in enumerate(columns) if column.drawn]
    flexible = bars + [at for at, column in enumerate(columns) if not column.fixed and not column.drawn]
    while excess() > 0 and flexible:
        widest = max(flexible, key=lambda at: widths[at])
        if widths[widest] > LEAST_WIDTH:
            widths[widest] -= 1
        else:
            widths[flexible.pop()] = 0
    return widths
