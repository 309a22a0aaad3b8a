"""Parquet files; skipped, and told so, where the extra ``parquet`` is not installed."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway_trainer.errors import TrainerError
from headway_trainer.series import Columns, read_series

DATA = Path(__file__).parents[2] / "data"
COLUMNS = Columns("y", "date", ("region", "sku"), ("price",))


def written(path: Path, columns: dict[str, Any]) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="pip install 'headway[parquet]'")
    import pandas as pd

    assert pyarrow
    pd.DataFrame(columns).to_parquet(path)
    return path


def test_it_is_read_as_the_csv_of_the_same_table(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pip install 'headway[parquet]'")
    import pandas as pd

    table = pd.read_csv(DATA / "dirty.csv", keep_default_na=False, na_values={"y": ["", "NaN"], "price": [""]})
    path = tmp_path / "dirty.parquet"
    table.to_parquet(path)
    expected, found = read_series(DATA / "dirty.csv", COLUMNS), read_series(path, COLUMNS)
    assert len(found) == len(expected) == 14
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.group, ours.status, ours.reasons) == (theirs.group, theirs.status, theirs.reasons)
        assert ours.values.tolist() == theirs.values.tolist() and (ours.times == theirs.times).all()


def test_dates_that_are_dates_and_groups_that_are_numbers(tmp_path: Path) -> None:
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=one) for one in range(6)]
    for kind, dates in (("date", days), ("moment", np.array(days, dtype="datetime64[ns]"))):
        path = written(tmp_path / f"{kind}.parquet", {"shop": [7] * 6, "date": dates, "y": [1, 2, 3, 4, 5, 6]})
        [series] = read_series(path, Columns("y", "date", ("shop",)))
        assert series.group == ("7",) and series.values.tolist() == [1, 2, 3, 4, 5, 6]
        assert series.future(1) == ["2024-01-07 00:00:00"]


def test_mistakes_name_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.parquet", {"date": ["2024-01-01", "soon"], "y": ["1", "x"]})
    with pytest.raises(TrainerError, match=r"a\.parquet, row 2: 'x' in column 'y' is not a number"):
        read_series(path, Columns("y", "date"))
    with pytest.raises(TrainerError, match="no column 'z'; it has date, y"):
        read_series(path, Columns("z", "date"))
    path = written(tmp_path / "b.parquet", {"date": ["2024-01-01", "soon"], "y": [1, 2]})
    with pytest.raises(TrainerError, match=r"b\.parquet, row 2: 'soon' in column 'date' is not an ISO date"):
        read_series(path, Columns("y", "date"))
    (tmp_path / "c.parquet").write_text("a,b\n")
    with pytest.raises(TrainerError, match=r"c\.parquet"):
        read_series(tmp_path / "c.parquet", Columns("y", "date"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TrainerError, match=r"parquet needs pyarrow: pip install 'headway\[parquet\]'"):
        read_series(path, Columns("y", "date"))
