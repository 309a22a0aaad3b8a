"""What the edges do in the tests of unions. Each edge's own data is its name."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

NUMBERS = {"e1": 1.0, "e2": 2.0, "e3": 3.0}


def own(factor: float = 1.0) -> float:
    """This edge's number, times a factor."""
    name = os.environ["UNION_EDGE"]
    print(f"{name} räumt auf")
    return NUMBERS[name] * factor


def step(value: list[float] | None) -> list[float]:
    """One round: this edge's number behind what all had merged."""
    return [*(value or []), own()]


def fragile() -> float:
    if os.environ["UNION_EDGE"] == "e2":
        raise RuntimeError("the sensor is wet")
    return own()


def hold(release: str) -> str:
    """Go on until the file with this edge's name behind it is there."""
    name = os.environ["UNION_EDGE"]
    while not Path(release + name).exists():
        time.sleep(0.01)
    return name


def total(values: Sequence[float]) -> float:
    return sum(values)


def join(values: Sequence[list[float]]) -> list[float]:
    """All values of a round in one list: of the first edge's, and the last of the others."""
    return sorted({number for value in values for number in value})


def broken(values: Sequence[float]) -> float:
    raise ValueError(f"{len(values)} values have no common shape")
