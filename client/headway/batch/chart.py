"""What a batch looks like: who ran what when, how long jobs took, how they ended. Lanes are made here, drawn by matplotlib."""

from __future__ import annotations

import html
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.batch.errors import BatchError
from headway.batch.folder import BatchFolder
from headway.batch.records import State

COLOURS = {
    "succeed": "#2a9d5c",
    "failed": "#d1495b",
    "killed": "#8e5ea2",
    "interrupted": "#c77dba",
    "running": "#2d7dd2",
}
SUFFIXES = (".html", ".png", ".svg", ".pdf")
MOST_LABELS = 60
"""Bars beyond which names would lie over one another."""

SLACK = 1e-6
"""Seconds by which two jobs of one slot may seem to overlap: times are made from two clocks' readings."""


@dataclass(frozen=True)
class Bar:
    """A job on the chart. Times are seconds since the first one began; ``lane`` counts within the host."""

    name: str
    state: str
    host: str
    start: float
    length: float
    lane: int = 0


def bars_of(folder: BatchFolder, names: Iterable[str]) -> list[Bar]:
    """The jobs that have run, each in a lane of its host where no other ran at that time."""
    records = [record for name in names if (record := folder.read_record(name)) is not None]
    ran = [each for each in records if each.start_datetime is not None and each.elapsed is not None]
    if not ran:
        return []
    zero = min(each.start_datetime or 0.0 for each in ran)
    bars = [
        Bar(each.name, str(each.status), each.host, (each.start_datetime or 0.0) - zero, each.elapsed or 0.0)
        for each in ran
    ]
    return in_lanes(bars)


def in_lanes(bars: Iterable[Bar]) -> list[Bar]:
    """Each bar in the first lane of its host that is free when it begins."""
    ends: dict[str, list[float]] = {}
    placed = []
    for bar in sorted(bars, key=lambda bar: (bar.start, bar.name)):
        lanes = ends.setdefault(bar.host, [])
        slack = max(SLACK, bar.length / 1000)
        lane = next((at for at, end in enumerate(lanes) if end <= bar.start + slack), len(lanes))
        lanes[lane : lane + 1] = [bar.start + bar.length]
        placed.append(Bar(bar.name, bar.state, bar.host, bar.start, bar.length, lane))
    return placed


def draw(bars: list[Bar], states: Counter[State], title: str, output: Path) -> None:
    """Write the chart. Raises BatchError if there is nothing to draw, or nothing to draw it with."""
    if output.suffix.lower() not in SUFFIXES:
        raise BatchError(f"{output}: expected a name that ends in {', '.join(SUFFIXES)}")
    if not bars:
        raise BatchError("no job of this batch has ended yet: there is nothing to draw")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise BatchError("charts need matplotlib: pip install 'headway[plot]'") from None
    lanes = sorted({(bar.host, bar.lane) for bar in bars})
    figure = Figure(figsize=(12, min(30.0, 3.5 + 0.4 * len(lanes))), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=[max(1.5, 0.4 * len(lanes)), 2.0])
    _draw_lanes(figure.add_subplot(grid[0, :]), bars, lanes, title)
    _draw_lengths(figure.add_subplot(grid[1, 0]), bars)
    _draw_states(figure.add_subplot(grid[1, 1]), states)
    _write(figure, title, output)


def _draw_lanes(axes: Any, bars: list[Bar], lanes: list[tuple[str, int]], title: str) -> None:
    for bar in bars:
        row = lanes.index((bar.host, bar.lane))
        axes.barh(
            row, bar.length, left=bar.start, height=0.8, color=COLOURS.get(bar.state, "#888888"), edgecolor="white"
        )
        if len(bars) <= MOST_LABELS:
            axes.text(bar.start, row, f" {bar.name}", va="center", fontsize=7, clip_on=True, parse_math=False)
    axes.set_yticks(range(len(lanes)), [f"{host or 'unknown'} / {lane + 1}" for host, lane in lanes])
    axes.invert_yaxis()
    axes.set_xlabel("seconds since the first job began")
    axes.set_title(title, parse_math=False)


def _draw_lengths(axes: Any, bars: list[Bar]) -> None:
    axes.hist([bar.length for bar in bars], bins=min(30, max(5, len(bars) // 3)), color="#2d7dd2", edgecolor="white")
    axes.set_xlabel("elapsed, seconds")
    axes.set_ylabel("jobs")


def _draw_states(axes: Any, states: Counter[State]) -> None:
    words = [str(state) for state in states]
    drawn = axes.bar(words, list(states.values()), color=[COLOURS.get(word, "#bbbbbb") for word in words])
    axes.bar_label(drawn)
    axes.set_ylabel("jobs")


def _write(figure: Any, title: str, output: Path) -> None:
    data = io.BytesIO()
    is_page = output.suffix.lower() == ".html"
    figure.savefig(data, format="svg" if is_page else output.suffix[1:].lower(), dpi=150)
    content = data.getvalue()
    if is_page:
        drawing = content[content.index(b"<svg") :]
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><body>'
        content = head.encode() + drawing + b"</body></html>\n"
    try:
        output.write_bytes(content)
    except OSError as error:
        raise BatchError(f"{output}: cannot be written: {error.strerror}") from None
