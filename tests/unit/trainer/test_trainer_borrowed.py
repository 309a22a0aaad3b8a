"""Models of other libraries. Each needs its extra; where that is not installed its tests are skipped, and say so."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway_trainer.errors import SeriesRefused, TrainerError
from headway_trainer.models import catalogue, find_model, load_model, make_model, save_model
from headway_trainer.models.optional import Borrowed
from headway_trainer.models.regression import rows
from headway_trainer.running.job import Job
from headway_trainer.validation import validate

EXAMPLES = Path(__file__).parents[3] / "examples"
BORROWED = {name: kind for name, kind in catalogue().items() if issubclass(kind, Borrowed)}


def model(name: str, **params: Any) -> Any:
    pytest.importorskip(BORROWED[name].needs, reason=f"pip install 'headway[{BORROWED[name].extra}]'")
    return make_model(name, params)


def air_passengers() -> np.ndarray[Any, np.dtype[np.float64]]:
    with (EXAMPLES / "trainer" / "airpassengers.csv").open(newline="") as stream:
        return np.array([float(row[-1]) for row in list(csv.reader(stream))[1:]])


def test_they_are_known_without_their_libraries() -> None:
    assert set(BORROWED) == {"ARIMA", "ETS", "LightGBM", "Ridge", "KNeighbors", "RandomForest", "GradientBoosting"}
    assert find_model("LightGBMModel").parameters[0].name == "lags"


def test_a_missing_library_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "statsmodels" else found(name))
    with pytest.raises(TrainerError, match=r"job\.models\.ARIMA: ARIMA needs statsmodels: pip install 'headway\[stat"):
        Job.from_plain({"path": "x.csv", "time": "t", "target": "y", "models": ["Naive", "ARIMA"]})
    with pytest.raises(TrainerError, match="ETS needs statsmodels"):
        make_model("ETS").fit(np.arange(1.0, 20.0))


@pytest.mark.parametrize("name", sorted(BORROWED))
@pytest.mark.parametrize("with_features", [False, True])
def test_loaded_again_it_forecasts_the_same(name: str, with_features: bool, tmp_path: Path) -> None:
    wanted = model(name)
    random = np.random.default_rng(2)
    y = 50 + np.cumsum(random.normal(size=70))
    features = random.normal(size=(70, 2)) if with_features else None
    fitted = wanted.fit(y, features)
    save_model(fitted, tmp_path)
    forecast = fitted.predict(5, None if features is None else np.repeat(features[-1:], 5, axis=0))
    assert forecast.shape == (5,) and np.isfinite(forecast).all()
    assert load_model(tmp_path).predict(5).tolist() == forecast.tolist()
    assert forecast == pytest.approx(np.full(5, y[-1]), abs=12)


@pytest.mark.parametrize("name", sorted(BORROWED))
@pytest.mark.parametrize("y", [[0.0] * 40, [42.0] * 40, [5.0, 6.0], [-3.0, -5.0, -4.0] * 9, [1.0, 2.0, 4.0, 3.0]])
def test_a_hard_series_has_a_finite_forecast_or_is_refused(name: str, y: list[float]) -> None:
    wanted = model(name)
    try:
        assert np.isfinite(wanted.fit(y).predict(3)).all()
    except SeriesRefused as refused:
        assert refused.status in ("too-short", "not-fitted") and name in str(refused)


def test_the_airline_model_has_the_coefficients_of_the_textbook() -> None:
    airline = model("ARIMA", p=0, d=1, q=1, P=0, D=1, Q=1, season=12, log="yes").fit(air_passengers())
    assert airline.state["coefficients"][:2] == pytest.approx([-0.4018, -0.5569], abs=0.002)
    assert airline.state["coefficients"][2] == pytest.approx(0.001348, abs=2e-5)
    assert airline.predict(12)[6] > 650  # a July
    with pytest.raises(SeriesRefused, match="log = 'yes' needs values above 0"):
        make_model("ARIMA", {"log": "yes"}).fit(np.arange(20.0))


def test_ets_follows_trend_and_season() -> None:
    y = air_passengers()
    fitted = model("ETS", error="mul", trend="damped", seasonal="mul", season=12).fit(y[:-12])
    assert np.mean(np.abs(fitted.predict(12) / y[-12:] - 1)) < 0.08
    with pytest.raises(SeriesRefused, match="multiplicative part needs values above 0"):
        make_model("ETS", {"error": "mul"}).fit(np.arange(20.0))


def test_a_row_knows_what_was_there_one_step_before() -> None:
    features = np.arange(10.0, 16.0)[:, None]
    known, values = rows(np.arange(6.0), 2, features)
    assert known.tolist() == [[0, 1, 11], [1, 2, 12], [2, 3, 13], [3, 4, 14]] and values.tolist() == [2, 3, 4, 5]


def test_a_feature_that_is_the_answer_does_not_help() -> None:
    model("Ridge")
    y = np.random.default_rng(1).normal(size=80)
    settings: dict[str, Any] = {"horizon": 4, "names": ["mae"], "folds": 5}
    params = {"of": "value", "lags": 2}
    without = validate("Ridge", params, y, **settings).metrics["mae"]
    planted = validate("Ridge", params, y, features=y[:, None], **settings).metrics["mae"]
    assert without is not None and planted == pytest.approx(without, rel=0.2)
