"""``get_sliced_dataset`` of the document's example: the rows of one series of a file."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

from headway_trainer.errors import TrainerError

Rows = list[list[str]]


def get_sliced_dataset(
    dataset_path: str | Path, groupby_indexs: Sequence[int] = (), groupby_val: Sequence[str] = ()
) -> Rows:
    """The rows, as texts, whose columns ``groupby_indexs`` have the values ``groupby_val``. Raises TrainerError if none."""
    path, wanted = Path(dataset_path), tuple(str(one) for one in groupby_val)
    if len(wanted) != len(groupby_indexs):
        raise TrainerError(f"{path}: {len(groupby_indexs)} columns to group by, and {len(wanted)} values")
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as stream:
            rows = list(csv.reader(stream))[1:]
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror}") from None
    try:
        found = [row for row in rows if tuple(row[index] for index in groupby_indexs) == wanted]
    except IndexError:
        raise TrainerError(f"{path}: a row has too few columns for {list(groupby_indexs)}") from None
    if not found:
        raise TrainerError(f"{path}: no row has {wanted} in the columns {list(groupby_indexs)}")
    return found
