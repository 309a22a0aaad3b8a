from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from headway_trainer.errors import SeriesRefused, TrainerError
from headway_trainer.series import Columns, Policies, Series, check_leaks, read_series
from headway_trainer.series.dates import Step, find_step, parse_date, parse_frequency
from headway_trainer.validation import legacy_length, rolling_folds, validate

DATA = Path(__file__).parents[2] / "data"
COLUMNS = Columns(target="y", time="date", group=("region", "sku"), features=("price", "promo"))
SEED = Columns(target=3, time=2, group=(0, 1), date_format="%m/%d/%Y")


def dirty(policies: Policies | None = None) -> dict[str, Series]:
    return {one.group[1]: one for one in read_series(DATA / "dirty.csv", COLUMNS, policies)}


def test_each_defect_has_a_status_and_a_reason_and_stops_no_other() -> None:
    found = dirty()
    assert len(found) == 14 and next(iter(found)) == "ok"
    assert {name: one.status for name, one in found.items() if one.status != "ok"} == {
        "short3": "short",
        "one": "short",
        "constant": "constant",
        "all_zero": "constant",
        "all_nan": "refused",
    }
    said = {name: " ".join(one.reasons) for name, one in found.items()}
    assert said["ok"] == said["negative"] == ""
    for name, words in {
        "nan_target": "missing values, first 2024-01-06: interpolate",
        "nan_tail": "at the ends: cut off",
        "nan_feature": "missing values of features",
        "unsorted": "sorted",
        "dup_same": "1 more rows",
        "gap": "moments are missing: interpolate",
        "inf": "infinite",
        "all_nan": "no value of the target is known",
    }.items():
        assert words in said[name], name
    assert all(np.isfinite(one.values).all() for one in found.values())
    assert all(np.all(np.diff(one.times) == np.timedelta64(1, "D")) for one in found.values())


def test_policies_decide() -> None:
    refusing = dirty(Policies(duplicates="refuse", missing="refuse", gaps="refuse", short="refuse"))
    refused = {name for name, one in refusing.items() if one.status == "refused"}
    assert refused == {"short3", "one", "nan_target", "dup_same", "gap", "inf", "all_nan"}
    assert len(dirty(Policies(gaps="ignore"))["gap"].values) == len(dirty()["gap"].values) - 3
    assert dirty(Policies(missing="zero"))["nan_target"].values[5] == 0.0
    with pytest.raises(TrainerError, match="policy gaps: 'skip' is none of"):
        Policies(gaps="skip")


def test_keys_are_as_in_the_file_and_dates_follow_the_last_point() -> None:
    [series] = read_series(DATA / "seed_vmseries.csv", SEED)
    assert series.key == "('asiasoutheast', 'FS')"
    assert len(series.values) == 38 and series.times[0] == np.datetime64("2020-08-01")
    assert series.future(2) == ["2020-09-08 00:00:00", "2020-09-09 00:00:00"]


def test_texts_in_a_group_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    rows = [f"{key},2024-01-0{day},{day}" for key in ("007", "NA", "1.0") for day in (1, 2)]
    path.write_bytes(gzip.compress("\n".join(["k,t,y", *rows]).encode()))
    found = read_series(path, Columns(target="y", time="t", group=("k",)))
    assert [one.group for one in found] == [("007",), ("NA",), ("1.0",)]
    [whole] = read_series(path, Columns(target="y", time="t"), Policies(duplicates="sum"))
    assert whole.key == "[]" and whole.values.tolist() == [3.0, 6.0]


@pytest.mark.parametrize(
    ("text", "columns", "complaint"),
    [
        ("t,y\n2024-01-01,1\n2024-13-01,2\n", Columns("y", "t"), r"row 3: '2024-13-01' in column 't' is not an ISO"),
        ("t,y\n2024-01-01,1\n2024-01-02,x\n", Columns("y", "t"), r"row 3: 'x' in column 'y' is not a number"),
        ("t,y\n2024-01-01,1\n", Columns("z", "t"), r"no column 'z'; it has t, y"),
        ("t,y\n2024-01-01,1\n", Columns(7, "t"), r"no column 7; it has 2"),
        ("t,y\n2024-01-01,1\n", Columns("t", "t"), r"a column is given two parts"),
        ("t,y\n", Columns("y", "t"), r"no row below the header"),
        ("", Columns("y", "t"), r"the file is empty"),
        ("t,y\n8/1/2020,1\n", Columns("y", "t", date_format="%d.%m.%Y"), r"not a date of the form '%d.%m.%Y'"),
        ("t,y\n2024-01-01,1\n", Columns("y", "t", frequency="fortnight"), r"'fortnight' is not a step"),
    ],
)
def test_what_cannot_be_read_says_where(tmp_path: Path, text: str, columns: Columns, complaint: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(TrainerError, match=complaint):
        read_series(path, columns)


def test_steps_of_months_and_their_ends() -> None:
    ends = np.array(["2024-01-31", "2024-02-29", "2024-04-30"], dtype="datetime64[s]")
    assert find_step(ends) == Step(months=1)
    assert [str(one)[:10] for one in Step(months=1).after(ends[0], 3)] == ["2024-02-29", "2024-03-31", "2024-04-30"]
    assert [str(one)[:10] for one in Step(months=3).after(np.datetime64("2024-01-15"), 1)] == ["2024-04-15"]
    assert parse_frequency("15min") == Step(seconds=900)
    assert find_step(np.array(["2024-01-01", "2024-01-02", "2024-01-02T07:01:02"], dtype="datetime64[s]")) is None
    assert parse_date("2024-01-01T02:00:00+02:00") == np.datetime64("2024-01-01T00:00:00")


def test_features_that_add_up_to_the_target_are_found() -> None:
    def bike(*features: str) -> list[str]:
        columns = Columns(target="cnt", time="dteday", features=features)
        return check_leaks(read_series(DATA / "bike_day.csv", columns), features)

    [told] = bike("temp", "casual", "hum", "registered")
    assert "weighted sum of casual and registered" in told
    assert bike("temp", "hum", "casual") == []


def test_a_feature_that_is_tomorrows_value_is_found(tmp_path: Path) -> None:
    y = np.random.default_rng(5).normal(size=40).cumsum()
    lines = [f"a,2024-01-{day + 1:02d},{y[day]},{2 * y[day + 1] + 1},{day % 7}" for day in range(31)]
    path = tmp_path / "ahead.csv"
    path.write_text("\n".join(["sku,date,y,plan,weekday", *lines]))
    columns = Columns("y", "date", ("sku",), ("plan", "weekday"))
    [told] = check_leaks(read_series(path, columns), ["plan", "weekday"])
    assert told == "the target is a weighted sum of plan: one step before, so they know what comes"


def test_folds_expand_and_end_with_the_series() -> None:
    assert rolling_folds(100, 10, 3) == [(70, 80), (80, 90), (90, 100)]
    assert rolling_folds(25, 10, 3) == [(15, 25)]
    assert rolling_folds(6, 10, 3) == [(3, 6)]
    assert rolling_folds(2, 10, 3) == []
    for length in range(3, 60):
        for cut, end in rolling_folds(length, 7, 3):
            assert 2 <= cut < end <= length


def test_a_model_sees_nothing_after_the_cut() -> None:
    y = np.arange(40.0)
    features = np.arange(40.0)[:, None]
    spoilt_y, spoilt_features = y.copy(), features.copy()
    spoilt_y[36:], spoilt_features[36:] = 1e9, 1e9
    own = {"horizon": 4, "names": ["mae"], "folds": 1}
    told = [
        validate("LinearFit", {}, one, features=two, **own).folds  # type: ignore[arg-type]
        for one, two in ((y, features), (spoilt_y, spoilt_features))
    ]
    assert told[0] == told[1]


GOLDEN = json.loads((DATA / "seed_golden.json").read_text())["cases"]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['model']}-{case['params']}")
def test_legacy_reproduces_the_printed_numbers(case: dict[str, object]) -> None:
    [series] = read_series(DATA / "seed_vmseries.csv", SEED)
    assert legacy_length(series.values) == 5
    found = validate(
        str(case["model"]),
        case["params"],  # type: ignore[arg-type]
        series.values,
        horizon=5,
        names=["mse", "rmse"],
        validation="legacy",
    )
    assert found.folds[0].predicted == case["validation_predictions"]
    assert found.metrics == pytest.approx(case["metrics"], rel=1e-15)


def test_too_short_is_refused_with_its_word() -> None:
    with pytest.raises(SeriesRefused, match="too few"):
        validate("Naive", {}, np.array([1.0, 2.0]), horizon=3, names=["mae"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("date,y\n2024-01-01,1\n2024-01-02,1,5\n", r"row 3: 3 columns, and the header has 2: '2024-01-02,1,5'"),
        ("date;y\n2024-01-01;1\n", "seem to be separated by ';'; expected commas"),
        ("date,y\n2024-01-01,1\n\n2024-01-02,1\n", "row 3: '' in column 'date' is not an ISO date"),
        ("date,y\n", "no row below the header"),
        ("", "the file is empty"),
        ("date,\xff\n2024-01-01,1\n", "are not UTF-8; save the file in it"),
    ],
)
def test_a_file_that_would_be_misread_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(TrainerError, match=complaint):
        read_series(path, Columns("y", "date"))


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "spread.csv"
    rows = "".join(f'"2024-01-0{day}","{day},{day}",{day}.5\r\n' for day in range(1, 6))
    path.write_bytes(b"\xef\xbb\xbf" + f"date,note,y\r\n{rows}\r\n\r\n".encode())
    [series] = read_series(path, Columns("y", "date", ("note",)))[:1]
    assert series.group == ("1,1",) and series.values.tolist() == [1.5]
    [series] = read_series(path, Columns("y", "date"))
    assert series.values.tolist() == [1.5, 2.5, 3.5, 4.5, 5.5] and series.reasons == []
