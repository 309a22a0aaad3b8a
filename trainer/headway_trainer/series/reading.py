"""A file to a list of series."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headway_trainer.errors import TrainerError
from headway_trainer.series.dates import parse_frequency
from headway_trainer.series.record import Columns, Policies, Series
from headway_trainer.series.repair import repair
from headway_trainer.series.table import read_table

SUFFIXES = (".csv", ".csv.gz", ".parquet")


def read_series(path: str | Path, columns: Columns, policies: Policies | None = None) -> list[Series]:
    """All series of a csv, csv.gz or parquet file, in the order of their first rows, refused ones included.

    Raises TrainerError, with row and text, for what cannot be read at all.
    """
    place = Path(path)
    if not place.name.endswith(SUFFIXES):
        raise TrainerError(f"{place}: expected a name that ends in {' or '.join(SUFFIXES)}")
    step = parse_frequency(columns.frequency) if columns.frequency else None
    table = read_table(place, columns)
    order = np.argsort(table.codes, kind="stable")
    edges = np.searchsorted(table.codes[order], np.arange(len(table.groups) + 1))
    times, numbers = table.times[order], table.numbers[order]
    chosen = policies or Policies()
    return [
        repair(group, times[first:end], numbers[first:end], chosen, step)
        for group, first, end in zip(table.groups, edges[:-1], edges[1:], strict=True)
    ]
