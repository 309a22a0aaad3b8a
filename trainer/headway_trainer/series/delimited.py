"""csv and csv.gz as a frame of columns. pandas does the reading; what it would pass over in silence is looked for here."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from headway_trainer.errors import TrainerError

MISSING = ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"]
"""Texts that mean "no number". In a group column they are what they are: a region may be called NA."""

FIRST_ROW = 2
"""The line of the first row: rows are told as an editor counts lines, and line 1 is the header."""

BOM = b"\xef\xbb\xbf"
QUOTED = re.compile(rb'"[^"]*"')
OTHERS = ";\t|"
"""What separates columns in files that are not csv."""


def csv_header(path: Path) -> list[str]:
    """The names of the columns; one without a name is ``Unknown-<index>``. Raises TrainerError."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            names = next(csv.reader(lines), [])
    except UnicodeDecodeError:
        raise TrainerError(f"{path}: the names of the columns are not UTF-8; save the file in it") from None
    except (OSError, EOFError, csv.Error) as error:
        raise TrainerError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not names:
        raise TrainerError(f"{path}: the file is empty; expected a line with the names of the columns")
    if len(names) == 1 and (found := next((one for one in OTHERS if one in names[0]), "")):
        raise TrainerError(f"{path}: its columns seem to be separated by {found!r}; expected commas")
    return [name or f"Unknown-{index}" for index, name in enumerate(names)]


def csv_frame(path: Path, names: list[str], texts: list[int], numeric: list[int]) -> Any:
    """A pandas frame whose columns are called by their indexes: texts as categories, numbers as floats."""
    import pandas as pd  # here, because a runtime that runs trials imports this package and must not load pandas

    data = _content(path)
    _refuse_long_rows(path, data, len(names))
    options: dict[str, Any] = {
        "usecols": sorted([*texts, *numeric]),
        "header": None,
        "skiprows": 1,
        "names": list(range(len(names))),
        "keep_default_na": False,
        "na_values": dict.fromkeys(numeric, MISSING),
        "skip_blank_lines": False,
    }
    kinds: dict[int, Any] = dict.fromkeys(texts, "category") | dict.fromkeys(numeric, np.float64)
    try:
        return pd.read_csv(io.BytesIO(data), dtype=kinds, **options)
    except pd.errors.EmptyDataError:
        raise TrainerError(f"{path}: there is no row below the header") from None
    except UnicodeDecodeError as error:
        raise TrainerError(f"{path}: not UTF-8; save the file in it ({error.reason} at byte {error.start})") from None
    except ValueError as error:
        try:
            plain = pd.read_csv(io.BytesIO(data), dtype=str, **(options | {"na_values": {}}))
        except ValueError:
            raise TrainerError(f"{path}: {error}") from None
        _complain(path, names, plain, numeric)
        raise TrainerError(f"{path}: {error}") from None


def _content(path: Path) -> bytes:
    """The file without what some programs put before its beginning and after its end."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise TrainerError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return data.removeprefix(BOM).rstrip(b"\r\n")


def _refuse_long_rows(path: Path, data: bytes, columns: int) -> None:
    """pandas drops what is beyond the last column: of 1,5 in the last one the ,5. So rows are counted through."""
    if b'"' in data:
        data = QUOTED.sub(b"", data)
    if data.count(b",") == (data.count(b"\n") + 1) * (columns - 1):
        return  # some could be short and others long; then something else is wrong with the short ones, too
    for row, line in enumerate(data.splitlines(), start=1):
        if line.count(b",") >= columns:
            text = line.decode(errors="replace")[:80]
            raise TrainerError(
                f"{path}, row {row}: {line.count(b',') + 1} columns, and the header has {columns}: {text!r}. "
                "Numbers need a decimal point, and texts with commas quotes"
            )


def _complain(path: Path, names: list[str], plain: Any, numeric: list[int]) -> None:
    for column in numeric:
        for row, text in enumerate(plain[column]):
            try:
                float(text if text not in MISSING else 0)
            except ValueError:
                place = f"{path}, row {row + FIRST_ROW}"
                raise TrainerError(f"{place}: {text!r} in column {names[column]!r} is not a number") from None
