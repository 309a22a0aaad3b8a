"""A linear model of how many bikes are rented in an hour: the data's columns, local training, merging, and the error.

The edges and the server import this file; every edge trains on the rows that lie on its own disk, and only weights travel.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SHARE = "BIKE_SHARE"
"""The environment variable in which an edge finds its own rows."""

CATEGORIES = {
    "hr": range(24),
    "season": range(1, 5),
    "mnth": range(1, 13),
    "weekday": range(7),
    "weathersit": range(1, 5),
}
NUMBERS = ("yr", "holiday", "workingday", "temp", "hum", "windspeed")
TARGET = "cnt"
"""``casual`` and ``registered`` are left out: they add up to the target, and whoever sees them has nothing to learn."""

FEATURES = 1 + len(NUMBERS) + sum(len(values) for values in CATEGORIES.values())
RATE = 0.4
"""Step of the descent; the largest that is stable for features between 0 and 1 of which about a dozen are not 0."""

Matrix = np.ndarray[Any, np.dtype[np.float64]]


def read(path: str | Path) -> tuple[Matrix, Matrix]:
    """Features (rows by ``FEATURES``) and targets (log of 1 + bikes) of a file of the data set."""
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    features = np.array([list(_features(row)) for row in rows])
    return features, np.log1p(np.array([float(row[TARGET]) for row in rows]))


def _features(row: dict[str, str]) -> Iterator[float]:
    yield 1.0
    for name in NUMBERS:
        yield float(row[name])
    for name, values in CATEGORIES.items():
        for value in values:
            yield float(int(row[name]) == value)


def descend(weights: Matrix, features: Matrix, targets: Matrix, steps: int) -> Matrix:
    """Least squares by gradient descent with momentum, from these weights on."""
    speed = np.zeros_like(weights)
    for _ in range(steps):
        gradient = features.T @ (features @ weights - targets) / len(targets)
        speed = 0.9 * speed - (1 - 0.9) * RATE * gradient
        weights = weights + speed
    return weights


def train(merged: dict[str, Any] | None, steps: int) -> dict[str, Any]:
    """One edge's part of a round: begin with what all have merged, take some steps on its own rows."""
    features, targets = read(os.environ[SHARE])
    begin = merged["weights"] if merged is not None else np.zeros(FEATURES)
    weights = descend(begin, features, targets, steps)
    print(f"{len(targets)} rows, error {error(weights, features, targets):.4f}")
    return {"rows": len(targets), "weights": weights}


def average(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of the weights, each counted by the rows behind it; associative, so a thousand edges need not be held."""
    rows = sum(part["rows"] for part in parts)
    return {"rows": rows, "weights": sum(part["weights"] * (part["rows"] / rows) for part in parts)}


def error(weights: Matrix, features: Matrix, targets: Matrix) -> float:
    """Root mean square of the error in log(1 + bikes)."""
    return float(np.sqrt(np.mean((features @ weights - targets) ** 2)))
