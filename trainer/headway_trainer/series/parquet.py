"""Parquet files (extra ``parquet``), brought into the form that a csv has after it is read.

Groups are the texts of their values, since a csv of the same table would have these; dates may be dates already.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from headway_trainer.errors import TrainerError

SUFFIX = ".parquet"
FIRST_ROW = 1
"""There is no header line: rows are counted from 1."""


def parquet_header(path: Path) -> list[str]:
    """The names of the columns. Raises TrainerError for what is no parquet file, or if pyarrow is not installed."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_schema
    except ModuleNotFoundError:
        raise TrainerError(f"{path}: parquet needs pyarrow: pip install 'headway[parquet]'") from None
    try:
        return [str(name) for name in read_schema(path).names]
    except (OSError, ArrowException) as error:
        raise TrainerError(f"{path}: {error}") from None


def parquet_frame(path: Path, names: list[str], texts: list[int], numeric: list[int]) -> Any:
    """A pandas frame whose columns are called by their indexes: texts as categories or moments, numbers as floats."""
    import pandas as pd

    wanted = sorted({*texts, *numeric})
    frame = pd.read_parquet(path, engine="pyarrow", columns=[names[index] for index in wanted])
    frame = frame.reset_index(drop=True)[[names[index] for index in wanted]]
    frame.columns = wanted
    columns = {index: _texts(frame[index]) for index in texts}
    columns |= {index: _numbers(path, names[index], frame[index]) for index in numeric}
    return pd.DataFrame(columns)


def _texts(column: Any) -> Any:
    if column.dtype.kind == "M":
        return column.dt.tz_convert("UTC").dt.tz_localize(None) if getattr(column.dt, "tz", None) else column
    known = column.astype(object).where(column.notna(), "")
    return known.map(str).astype("category")


def _numbers(path: Path, name: str, column: Any) -> Any:
    try:
        return column.astype(np.float64)
    except (TypeError, ValueError):
        pass
    for row, value in enumerate(column):
        try:
            float("nan" if value is None else value)
        except (TypeError, ValueError):
            told = f"{path}, row {row + FIRST_ROW}: {value!r} in column {name!r}"
            raise TrainerError(f"{told} is not a number") from None
    return column.map(lambda value: float("nan" if value is None else value)).astype(np.float64)
