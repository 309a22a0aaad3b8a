"""The file as arrays: group codes, moments, numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway_trainer.errors import TrainerError
from headway_trainer.series.dates import Moments, parse_all
from headway_trainer.series.delimited import FIRST_ROW, csv_frame, csv_header
from headway_trainer.series.parquet import FIRST_ROW as PARQUET_FIRST
from headway_trainer.series.parquet import SUFFIX as PARQUET
from headway_trainer.series.parquet import parquet_frame, parquet_header
from headway_trainer.series.record import Array, Column, Columns


@dataclass(frozen=True)
class Table:
    """``codes``: for each row which of ``groups`` it belongs to. ``numbers``: target first, then the features."""

    groups: list[tuple[str, ...]]
    codes: NDArray[np.int64]
    times: Moments
    numbers: Array


def header(path: Path) -> list[str]:
    """The names of the columns. Raises TrainerError."""
    return parquet_header(path) if path.suffix == PARQUET else csv_header(path)


def position(path: Path, names: list[str], column: Column) -> int:
    """The index of a column. A name wins over an index that is written as text."""
    if isinstance(column, str) and column in names:
        if names.count(column) > 1:
            raise TrainerError(f"{path}: several columns are called {column!r}; give the index")
        return names.index(column)
    if isinstance(column, bool) or not isinstance(column, (int, str)):
        raise TrainerError(f"{path}: {column!r} is no column; expected a name or an index from 0")
    if isinstance(column, int) or column.isdigit():
        if 0 <= int(column) < len(names):
            return int(column)
        raise TrainerError(f"{path}: no column {column}; it has {len(names)}, counted from 0")
    raise TrainerError(f"{path}: no column {column!r}; it has {', '.join(names)}")


def read_table(path: Path, columns: Columns) -> Table:
    """Read and check. Raises TrainerError with row and text for a column, a number or a date that is not one."""
    names = header(path)
    group = [position(path, names, one) for one in columns.group]
    time = position(path, names, columns.time)
    numeric = [position(path, names, one) for one in (columns.target, *columns.features)]
    if len({*group, time, *numeric}) < len(group) + 1 + len(numeric):
        raise TrainerError(f"{path}: a column is given two parts among group, time, target and features")
    read = parquet_frame if path.suffix == PARQUET else csv_frame
    frame = read(path, names, [*group, time], numeric)
    if not len(frame):
        raise TrainerError(f"{path}: there is no row below the header")
    times = _times(path, names[time], frame[time], columns.date_format)
    groups, codes = _groups([frame[one] for one in group], len(frame))
    numbers = np.column_stack([frame[one].to_numpy(dtype=np.float64) for one in numeric])
    return Table(groups, codes, times, numbers)


def _times(path: Path, name: str, column: Any, date_format: str) -> Moments:
    if column.dtype.kind == "M":
        if column.isna().any():
            raise TrainerError(f"{path}, row {int(column.isna().argmax()) + PARQUET_FIRST}: no date in column {name!r}")
        stored: Moments = column.to_numpy().astype("datetime64[s]")
        return stored
    texts, codes = [str(one) for one in column.cat.categories], column.cat.codes.to_numpy()
    moments, wrong = parse_all(texts, date_format)
    if wrong or (codes < 0).any():
        row = int(np.flatnonzero(np.isin(codes, [*wrong, -1]))[0])
        text = texts[codes[row]] if codes[row] >= 0 else ""
        first = PARQUET_FIRST if path.suffix == PARQUET else FIRST_ROW
        expected = f"a date of the form {date_format!r}" if date_format else "an ISO date; if it has a form, give it"
        raise TrainerError(f"{path}, row {row + first}: {text!r} in column {name!r} is not {expected}")
    found: Moments = moments[codes]
    return found


def _groups(columns: list[Any], rows: int) -> tuple[list[tuple[str, ...]], NDArray[np.int64]]:
    """Groups in the order of their first rows, which is how people find them again in the file."""
    if not columns:
        return [()], np.zeros(rows, dtype=np.int64)
    mixed = np.zeros(rows, dtype=np.int64)
    for column in columns:
        mixed = mixed * len(column.cat.categories) + column.cat.codes.to_numpy()
    _, first, codes = np.unique(mixed, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    groups = [tuple(str(column.iloc[row]) for column in columns) for row in first[order]]
    return groups, rank[codes]
