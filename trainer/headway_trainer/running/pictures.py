"""A training for the eye: for some of its series the history, the folds and the forecast, and what the search found.

One picture a series in ``plots/``, and ``report.html`` with all of them, the table of the models and a line for every
series. Drawing takes a third of a second a picture, so of many series those are drawn whose metric is the best, the worst,
and evenly between.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway_trainer.plots import BEST, COLOURS, drawn, new_figure, scale
from headway_trainer.series.record import Array, Series
from headway_trainer.studies.study import DONE

Indexes = NDArray[np.int64]

FOLDER, PAGE = "plots", "report.html"
DPI = 110
PAST, FORESIGHT, FORECAST = "#444444", "#e08e0b", "#2d7dd2"
SHOWN = 12
"""Horizons of the history that are drawn before the first fold; more would squeeze what is of interest."""

STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}.refused,.failed{color:#b3261e}"""


def chosen(rows: Sequence[dict[str, Any]], count: int, metric: str) -> list[int]:
    """Indexes of the rows that are drawn: all with a forecast, or ``count`` of them, evenly over the order of the metric."""
    usable = [index for index, row in enumerate(rows) if row["forecast"]]
    if len(usable) <= count:
        return usable
    ordered = sorted(usable, key=lambda index: _value(rows[index], metric))
    return sorted({ordered[round(at)] for at in np.linspace(0, len(ordered) - 1, count)})


def _value(row: dict[str, Any], metric: str) -> float:
    value = row["metrics"].get(metric)
    return math.inf if value is None else float(value)


def draw(series: Series, row: dict[str, Any]) -> Any:
    """The figure of one series: its course above, the trials of its best model's search below if there were any."""
    best = row["models"][0]
    trials = [one for one in best.get("trials", []) if one["loss"] is not None]
    figure = new_figure(10, 6.2 if trials else 3.8)
    grid = figure.add_gridspec(2 if trials else 1, 1, height_ratios=[3, 2] if trials else [1])
    _draw_course(figure.add_subplot(grid[0]), series, row)
    if trials:
        _draw_trials(figure.add_subplot(grid[1]), trials, best["model"])
    return figure


def course(series: Series, row: dict[str, Any]) -> tuple[int, list[tuple[Indexes, Array]], Array]:
    """What is drawn: the first index of the history, the folds as (indexes, values), the forecast."""
    forecast = np.array([point["value"] for point in row["forecast"]])
    folds = [
        (np.arange(fold["cut"], fold["cut"] + len(fold["predicted"])), np.array(fold["predicted"]))
        for fold in row["models"][0]["folds"]
    ]
    earliest = min((int(indexes[0]) for indexes, _ in folds), default=len(series.values))
    return max(0, earliest - SHOWN * len(forecast)), folds, forecast


def _draw_course(axes: Any, series: Series, row: dict[str, Any]) -> None:
    first, folds, forecast = course(series, row)
    times = series.times
    ahead = np.array([point["time"] for point in row["forecast"]])
    if series.step is not None:
        known, future = times.astype("datetime64[s]"), ahead.astype("datetime64[s]")
    else:
        known, future = np.arange(len(times)), np.arange(len(times), len(times) + len(forecast))
    axes.plot(known[first:], series.values[first:], color=PAST, linewidth=1.2, label="history")
    for number, (indexes, values) in enumerate(folds):
        axes.axvline(known[indexes[0]], color=FORESIGHT, linewidth=0.6, linestyle=":")
        label = "foretold in the folds" if number == 0 else None
        axes.plot(known[indexes], values, color=FORESIGHT, linewidth=1.4, marker=".", markersize=4, label=label)
    axes.plot(
        np.concatenate([known[-1:], future]),
        np.concatenate([series.values[-1:], forecast]),
        color=FORECAST,
        linewidth=1.6,
        marker=".",
        markersize=4,
        label="forecast",
    )
    axes.set_title(f"{row['label']}: {row['model']} {_parameters(row['params'])}", fontsize=10, parse_math=False)
    axes.legend(fontsize=8, loc="best")
    axes.tick_params(labelsize=8)


def _parameters(params: dict[str, Any] | None) -> str:
    parts = [
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in (params or {}).items()
    ]
    return " ".join(parts)


def _draw_trials(axes: Any, trials: list[dict[str, Any]], model: str) -> None:
    numbers, losses = [one["number"] for one in trials], [one["loss"] for one in trials]
    done = [one["status"] == DONE for one in trials]
    axes.scatter(
        numbers, losses, s=14, color=[COLOURS[DONE] if one else COLOURS["pruned"] for one in done], label="trials"
    )
    axes.step(numbers, np.minimum.accumulate(losses), where="post", color=BEST, label=f"best so far: {min(losses):.4g}")
    scale(axes, losses)
    axes.set_xlabel(f"trial of {model}", fontsize=8, parse_math=False)
    axes.set_ylabel("loss", fontsize=8)
    axes.legend(fontsize=8, loc="best")
    axes.tick_params(labelsize=8)


def write_pictures(series: Sequence[Series], results: dict[str, Any], folder: Path, count: int) -> list[Path]:
    """Draw ``count`` of the series, write the page; returns all files. Raises TrainerError without matplotlib."""
    rows, metric = results["series"], results["job"]["metric"]
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    written, images = [], []
    for index in chosen(rows, count, metric):
        image = drawn(draw(series[index], rows[index]), "png", DPI)
        path = folder / FOLDER / f"{index:05d}.png"
        path.write_bytes(image)
        written.append(path)
        images.append((rows[index]["label"], image))
    (folder / PAGE).write_text(page(results, images), encoding="utf-8")
    return [*written, folder / PAGE]


def page(results: dict[str, Any], images: Sequence[tuple[str, bytes]]) -> str:
    """The report as one page that needs no other file and no network."""
    names = [name for name in results["table"][0] if name != "model"]
    metric = results["job"]["metric"]
    models = [[_cell(line[name]) for name in ("model", *names)] for line in results["table"]]
    lines = [
        [row["label"], row["status"], row["model"] or "", _cell(row["metrics"].get(metric)), "; ".join(row["reasons"])]
        for row in results["series"]
    ]
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Forecasts</title><style>{STYLE}</style><body>',
        f"<h1>Forecasts of {html.escape(Path(results['job']['path']).name)}</h1>",
        *(f"<p><strong>{html.escape(warning)}</strong></p>" for warning in results["warnings"]),
        f"<h2>Models</h2>{_table(['model', *names], models, right=frozenset(range(1, 1 + len(names))))}",
        *(
            f'<h2>{html.escape(label)}</h2><img alt="{html.escape(label)}" src="data:image/png;base64,{_text(image)}">'
            for label, image in images
        ),
        f"<h2>Series</h2>{_table(['series', 'status', 'model', metric, 'reasons'], lines, right=frozenset({3}), status=1)}",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _text(image: bytes) -> str:
    return base64.b64encode(image).decode()


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], right: frozenset[int], status: int = -1) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        style = f' class="{html.escape(cells[status])}"' if status >= 0 and tag == "td" else ""
        inner = (
            f"<{tag}{' class=n' if at in right else ''}>{html.escape(cell)}</{tag}>" for at, cell in enumerate(cells)
        )
        return f"<tr{style}>{''.join(inner)}</tr>"

    return f"<table>{row(head, 'th')}{''.join(row(line, 'td') for line in lines)}</table>"
