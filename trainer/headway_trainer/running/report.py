"""The results of a job: plain data, ``results.json``, ``forecasts.csv``."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headway_trainer import metrics
from headway_trainer.running.job import Job
from headway_trainer.series.record import REFUSED, Series

FORMAT = 1
FAILED = "failed"


def row(series: Series, models: list[dict[str, Any]], job: Job, failures: Sequence[str] = ()) -> dict[str, Any]:
    """A series in the results. The best model comes first in ``models``; the forecast is its. ``job``: that of the series.

    ``failures``: a sentence for each model that gave nothing; the series has failed if no model gave anything.
    """
    ordered = sorted(models, key=lambda model: _loss(model, job.metric))
    best = ordered[0] if ordered else None
    times = series.future(len(best["forecast"])) if best else []
    return {
        "key": series.key,
        "label": series.label,
        "group": list(series.group),
        "status": FAILED if failures and not models else series.status,
        "reasons": [*series.reasons, *failures],
        "points": len(series.values),
        "season": job.season if models else None,
        "first": _text(series.times[0]) if len(series.times) else None,
        "last": _text(series.times[-1]) if len(series.times) else None,
        "model": best["model"] if best else None,
        "params": best["params"] if best else None,
        "metrics": best["metrics"] if best else {},
        "forecast": [
            {"time": moment, "value": value}
            for moment, value in zip(times, best["forecast"] if best else [], strict=True)
        ],
        "models": ordered,
    }


def _loss(model: dict[str, Any], metric: str) -> float:
    value = model["metrics"].get(metric)
    return math.inf if value is None else metrics.loss_of(metric, value)


def _text(moment: np.datetime64) -> str:
    return str(moment).replace("T", " ")


def results(job: Job, rows: list[dict[str, Any]], warnings: list[str]) -> dict[str, Any]:
    """All of a job: its settings, a row for each series, and the table of the models."""
    return {"format": FORMAT, "job": job.plain(), "warnings": warnings, "table": table(job, rows), "series": rows}


def table(job: Job, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each model: on how many series it was validated, on how many it was best, and the mean of each metric."""
    found = []
    for model in job.models:
        own = [one for row in rows for one in row["models"] if one["model"] == model and one["metrics"]]
        line: dict[str, Any] = {"model": model, "series": len(own)}
        line["best"] = sum(row["model"] == model for row in rows)
        for name in job.settings["metrics"]:
            known = [one["metrics"][name] for one in own if one["metrics"][name] is not None]
            line[name] = float(np.mean(known)) if known else None
        found.append(line)
    return found


def write(found: dict[str, Any], folder: Path, job: Job) -> None:
    """``results.json`` and ``forecasts.csv``, each put in its place whole."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1, allow_nan=False) + "\n"
    put(folder / "results.json", text)
    _put_csv(folder / "forecasts.csv", found, job)


def put(path: Path, text: str) -> None:
    """Put a file in its place whole."""
    draft = path.with_suffix(path.suffix + ".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _put_csv(path: Path, found: dict[str, Any], job: Job) -> None:
    draft = path.with_suffix(".csv.part")
    with draft.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*(str(one) for one in job.columns.group), "time", "model", "forecast"])
        for one in found["series"]:
            if one["status"] != REFUSED:
                for point in one["forecast"]:
                    writer.writerow([*one["group"], point["time"], one["model"], repr(point["value"])])
    draft.replace(path)
