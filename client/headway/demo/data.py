"""The series of the M4 competition's weekly part, as they lie in the wheel or in the checkout."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headway.demo.methods import Series
from headway_bus.errors import HeadwayError

FILE = "m4_weekly.csv.gz"


@dataclass(frozen=True)
class Case:
    """One series: what a method may see, and the values that followed."""

    name: str
    train: Series
    test: Series


def find_file() -> Path:
    """The data file: inside the installed package, or under ``examples/`` when headway runs from its checkout."""
    here = Path(__file__).resolve().parent
    places = [here / "m4" / FILE, *(folder / "examples" / "m4" / FILE for folder in here.parents[2:3])]
    for place in places:
        if place.is_file():
            return place
    raise HeadwayError(f"{FILE} is neither at {' nor at '.join(map(str, places))}: install headway again")


def load(path: Path | None = None) -> list[Case]:
    """All series in the file's order. Raises HeadwayError if the file is not what it should be."""
    parts: dict[str, tuple[list[float], list[float]]] = {}
    place = path or find_file()
    with gzip.open(place, "rt", encoding="utf-8", newline="") as stream:
        for name, value, is_train in _rows(csv.reader(stream), place):
            parts.setdefault(name, ([], []))[0 if is_train else 1].append(value)
    return [Case(name, np.array(train), np.array(test)) for name, (train, test) in parts.items()]


def _rows(reader: Iterator[list[str]], path: Path) -> Iterator[tuple[str, float, bool]]:
    header = next(reader, [])
    if header != ["freq", "series", "ds", "y", "split"]:
        raise HeadwayError(f"{path}: the columns are {header}, expected freq, series, ds, y, split")
    for number, row in enumerate(reader, start=2):
        try:
            _, name, _, value, split = row
            yield name, float(value), split == "train"
        except ValueError as error:
            raise HeadwayError(f"{path}, line {number}: {error}") from None
