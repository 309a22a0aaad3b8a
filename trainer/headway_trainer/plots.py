"""Figures for people, drawn by matplotlib (extra ``plot``): of a study its trials, and what was the best so far.

What is drawn is worked out apart from the drawing. :func:`write` puts any figure into a png, svg, pdf, or a page of HTML.
"""

from __future__ import annotations

import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway_trainer.errors import TrainerError, UnknownName
from headway_trainer.studies.space import Range, Space
from headway_trainer.studies.study import DONE, FAILED, PRUNED, Study, Trial

SUFFIXES = (".html", ".png", ".svg", ".pdf")
COLOURS = {DONE: "#2d7dd2", PRUNED: "#999999", FAILED: "#d1495b"}
MARKS = {DONE: "o", PRUNED: "x", FAILED: "|"}
BEST = "#2a9d5c"
MOST_PARAMETERS = 6
MOST_CURVES = 200


@dataclass(frozen=True)
class Points:
    """Trials of one status: their numbers and losses."""

    status: str
    numbers: list[int]
    losses: list[float]


def points_of(study: Study) -> list[Points]:
    """What is drawn of the trials; failed ones have no loss and lie at the worst loss there is."""
    worst = max((trial.loss for trial in study.trials if trial.loss is not None), default=0.0)
    found = []
    for status in (DONE, PRUNED, FAILED):
        own = [trial for trial in study.trials if trial.status == status]
        if own:
            losses = [worst if trial.loss is None else trial.loss for trial in own]
            found.append(Points(status, [trial.number for trial in own], losses))
    return found


def best_so_far(study: Study) -> list[tuple[int, float]]:
    """After each trial that ran to its end, in order of the numbers, the least loss until then."""
    line: list[tuple[int, float]] = []
    for trial in study.trials:
        if trial.status == DONE and trial.loss is not None:
            line.append((trial.number, min(trial.loss, line[-1][1]) if line else trial.loss))
    return line


def searched(space: Space, prefix: str = "") -> list[tuple[str, Range]]:
    """The numbers that are searched whatever is chosen elsewhere."""
    return [(prefix + name, one) for name, one in space.dimensions.items() if isinstance(one, Range)]


def figure_of_study(study: Study, title: str) -> Any:
    """Losses by trial with the best so far; what pruned trials reported; the loss over each searched number."""
    points = points_of(study)
    if not points:
        raise TrainerError(f"{title}: no trial has ended yet, so there is nothing to draw")
    curves = [trial for trial in study.trials if len(trial.reports) > 1][:MOST_CURVES]
    parameters = searched(study.space)[:MOST_PARAMETERS]
    rows = 1 + bool(curves) + math.ceil(len(parameters) / 2)
    figure = new_figure(10, 2.6 + 2.4 * rows)
    grid = figure.add_gridspec(rows, 2)
    _draw_trials(figure.add_subplot(grid[0, :]), study, points, title)
    if curves:
        _draw_curves(figure.add_subplot(grid[1, :]), curves)
    for at, (name, dimension) in enumerate(parameters):
        axes = figure.add_subplot(grid[1 + bool(curves) + at // 2, at % 2])
        _draw_parameter(axes, study, name, dimension)
    return figure


def _draw_trials(axes: Any, study: Study, points: list[Points], title: str) -> None:
    for one in points:
        colour, mark = COLOURS[one.status], MARKS[one.status]
        axes.plot(one.numbers, one.losses, mark, color=colour, markersize=4, label=f"{one.status} ({len(one.numbers)})")
    line = best_so_far(study)
    if line:
        axes.step(*zip(*line, strict=True), where="post", color=BEST, label=f"best so far: {line[-1][1]:.4g}")
    scale(axes, [loss for one in points for loss in one.losses])
    axes.set_xlabel("trial")
    axes.set_ylabel("loss")
    axes.set_title(title, parse_math=False)
    axes.legend(fontsize=8)


def _draw_curves(axes: Any, trials: list[Trial]) -> None:
    for trial in trials:
        steps = sorted(trial.reports)
        colour = COLOURS.get(trial.status, "#cccccc")
        axes.plot(steps, [trial.reports[at] for at in steps], color=colour, linewidth=0.8, alpha=0.6)
    axes.set_xlabel("step")
    axes.set_ylabel("reported")


def _draw_parameter(axes: Any, study: Study, name: str, dimension: Range) -> None:
    for status in (PRUNED, DONE):
        own = [trial for trial in study.trials if trial.status == status and trial.loss is not None]
        axes.plot(
            [trial.values[name] for trial in own],
            [trial.loss for trial in own],
            MARKS[status],
            color=COLOURS[status],
            markersize=3,
        )
    if dimension.log:
        axes.set_xscale("log")
    axes.set_xlabel(name, parse_math=False)
    axes.set_ylabel("loss")


def scale(axes: Any, losses: list[float]) -> None:
    """Losses that span more than two decades are not seen on a linear axis."""
    if min(losses) > 0 and max(losses) / min(losses) > 100:
        axes.set_yscale("log")


def check_output(output: Path) -> None:
    """Raises TrainerError for a name that no figure can be written to, before anything is worked out."""
    if output.suffix.lower() not in SUFFIXES:
        raise UnknownName(str(output), "form", output.suffix, SUFFIXES)


def new_figure(width: float, height: float) -> Any:
    """A figure in inches that belongs to no window. Raises TrainerError where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise TrainerError("plots need matplotlib: pip install 'headway[plot]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write(figure: Any, title: str, output: Path) -> None:
    """Write the figure in the form that the name's ending says."""
    check_output(output)
    if output.suffix.lower() == ".html":
        write_all([(title, figure)], output)
    else:
        _put(output, drawn(figure, output.suffix[1:].lower()))


def write_all(figures: Sequence[tuple[str, Any]], output: Path) -> None:
    """One page of HTML with all these figures, each in SVG under its title."""
    title = html.escape(output.stem)
    parts = [f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><body>'.encode()]
    for heading, figure in figures:
        drawing = drawn(figure, "svg")
        parts += [f"<h2>{html.escape(heading)}</h2>".encode(), drawing[drawing.index(b"<svg") :]]
    _put(output, b"\n".join([*parts, b"</body></html>\n"]))


def drawn(figure: Any, form: str, dpi: int = 150) -> bytes:
    """The figure as a file in that form, such as svg."""
    data = io.BytesIO()
    figure.savefig(data, format=form, dpi=dpi)
    return data.getvalue()


def _put(output: Path, content: bytes) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(content)
    except OSError as error:
        raise TrainerError(f"{output}: cannot be written: {error.strerror}") from None
