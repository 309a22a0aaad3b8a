from __future__ import annotations

import csv
import gzip
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from headway_trainer import metrics
from headway_trainer.errors import SeriesRefused, TrainerError, UnknownName
from headway_trainer.models import (
    Model,
    Parameter,
    catalogue,
    describe,
    find_model,
    load_model,
    make_model,
    model,
    registry,
    save_model,
)
from headway_trainer.models.base import Array, State
from headway_trainer.models.optional import Borrowed
from headway_trainer.models.seasonal import is_seasonal, remove_season, seasonal_factors
from headway_trainer.models.smoothing import _trend_fit, last_trend

EXAMPLES = Path(__file__).parents[3] / "examples"
LINE = np.arange(1.0, 31.0)


def test_all_are_there_by_both_names() -> None:
    expected = (
        "Naive SeasonalNaive Drift Naive2 AverageN MaxN AdaptiveMaxN AdaptiveAverageN LinearFit SES Holt Damped Theta "
        "RandomArrival NewRandomArrival"
    )
    assert set(expected.split()) <= set(catalogue())
    assert find_model("MaxNModel") is find_model("MaxN")
    assert find_model("AdaptiveAvgModel") is find_model("AdaptiveAverageN")


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("Naive", {}, [30, 30]),
        ("Drift", {}, [31, 32]),
        ("AverageN", {"latest_n": 3}, [29, 29]),
        ("MaxN", {"lastest_n": 2}, [30, 30]),
        ("SeasonalNaive", {"season": 7}, [24, 25]),
        ("LinearFit", {"latest_n": 6}, [31, 32]),
        ("AdaptiveMaxN", {"latest_n": 5}, [30, 30]),
        ("AdaptiveAverageN", {"latest_n": 5}, [30, 30]),
        ("SES", {}, [30, 30]),
        ("Holt", {}, [31, 32]),
        ("Theta", {}, [30.5, 31]),
    ],
)
def test_on_a_straight_line(name: str, params: dict[str, int], expected: list[float]) -> None:
    assert make_model(name, params).fit(LINE).predict(2) == pytest.approx(expected, abs=0.02)


OURS = sorted(name for name, kind in catalogue().items() if not issubclass(kind, Borrowed))


@pytest.mark.parametrize("name", OURS)
def test_exported_and_loaded_it_forecasts_the_same(name: str, tmp_path: Path) -> None:
    y = 10 + np.abs(np.random.default_rng(1).normal(size=60)) ** 3
    fitted = make_model(name).fit(y)
    save_model(fitted, tmp_path / name)
    forecast = fitted.predict(7)
    assert np.isfinite(forecast).all() and forecast.shape == (7,)
    assert load_model(tmp_path / name).predict(7).tolist() == forecast.tolist()


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("y", [[0.0] * 40, [42.0] * 40, [5.0, 6.0], [-3.0, -5.0, -4.0] * 9])
def test_no_series_gives_a_forecast_that_is_not_finite(name: str, y: list[float]) -> None:
    assert np.isfinite(make_model(name).fit(y).predict(5)).all()


def test_the_adaptive_ones_choose_the_least_error() -> None:
    y = np.array([1.0, 2.0, 3.0] * 8)
    fitted = make_model("AdaptiveAverageN", {"latest_n": 6}).fit(y)
    errors = [
        np.mean([(y[at - window : at].mean() - y[at]) ** 2 for at in range(len(y) - 6, len(y))])
        for window in range(1, 7)
    ]
    assert fitted.state is not None and fitted.state["window"][0] == 1 + int(np.argmin(errors))


def test_bad_parameters_name_the_place() -> None:
    with pytest.raises(TrainerError, match=r"MaxN\.latest_n: 0 is out of range; expected a whole number at least 1"):
        make_model("MaxN", {"latest_n": 0})
    with pytest.raises(TrainerError, match="not whole"):
        make_model("MaxN", {"latest_n": 2.5})
    with pytest.raises(UnknownName, match="did you mean 'latest_n'"):
        make_model("MaxN", {"latest": 2})
    with pytest.raises(TrainerError, match="given twice"):
        make_model("MaxN", {"latest_n": 2, "lastest_n": 3})
    with pytest.raises(UnknownName, match=r"unknown model 'Thetta'; did you mean 'Theta'"):
        find_model("Thetta")
    assert make_model("MaxN", {"latest_n": 4.0}).params == {"latest_n": 4}


def test_a_catalogue_describes_parameters() -> None:
    first = describe("LinearFitModel")[0]
    assert first["label"] == "latest_n" and first["type"] == "int" and first["val"] == 5
    assert describe("RandomArrival")[0]["choice"] == ["Expon", "Weibull", "Sampling"]


@model
class Last(Model):
    """A model as a user writes one."""

    name = "LastTimes"
    intro = "the last value times a factor"
    parameters = (Parameter("factor", "float", 1.0, "the factor", search=(0.5, 2.0)),)
    shortest = 2

    def learn(self, y: Array, features: Array | None) -> State:
        return {"last": y[-1:]}

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        return np.full(horizon, state["last"][0] * self.params["factor"])


def test_a_users_model_by_name_and_by_path(tmp_path: Path) -> None:
    fitted = make_model("LastTimes", {"factor": 2}).fit([1.0, 2.0])
    assert fitted.predict(2).tolist() == [4.0, 4.0]
    save_model(fitted, tmp_path)
    assert load_model(tmp_path).predict(1).tolist() == [4.0]
    with pytest.raises(SeriesRefused, match="needs 2 points"):
        Last().fit([1.0])
    with pytest.raises(TrainerError, match="not a subclass"):
        find_model("math:sqrt")


def test_a_model_of_an_installed_package_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("Packaged", f"{__name__}:Last", "headway.models")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "headway.models" else [])
    assert find_model("Packaged") is find_model("PackagedModel") is Last
    with pytest.raises(UnknownName, match="did you mean 'Packaged'"):
        find_model("Packagd")
    assert registry.wire_name("Packaged") == f"{__name__}:Last" and registry.wire_name("ThetaModel") == "Theta"


def test_a_known_season_is_found_and_removed() -> None:
    factors = np.array([0.5, 1.0, 1.5, 1.0])
    y = np.resize(factors, 42) * 20.0
    assert is_seasonal(y, 4) and not is_seasonal(y, 1) and not is_seasonal(y[:11], 4)
    assert seasonal_factors(y, 4) == pytest.approx(factors)
    adjusted, figure = remove_season(y, 4)
    assert adjusted == pytest.approx(np.full(42, 20.0))
    assert make_model("Naive2", {"season": 4}).fit(y).predict(4) == pytest.approx(20 * figure)
    assert figure == pytest.approx([1.5, 1.0, 0.5, 1.0])


def test_zeros_do_not_hide_a_season_unless_it_has_a_position_of_nothing_else() -> None:
    y = np.resize([4.0, 8.0, 12.0, 8.0], 40)
    y[[0, 17]] = 0.0
    adjusted, figure = remove_season(y, 4)
    assert figure.shape == (4,) and figure[2] > 1.3 and np.isfinite(adjusted).all()
    closed = np.resize([0.0, 8.0, 12.0, 8.0], 40)
    assert remove_season(closed, 4)[1].tolist() == [1.0]
    assert remove_season(closed - 1.0, 4)[1].tolist() == [1.0]
    began_late = np.concatenate([np.zeros(12), np.resize([4.0, 8.0, 12.0, 8.0], 40)])
    assert np.isfinite(make_model("Theta", {"season": 4}).fit(began_late).predict(4)).all()


def test_the_recipe_step_by_step_on_airline_passengers() -> None:
    """The M4 recipe written out in loops, on a monthly series with trend and season."""
    with (EXAMPLES / "trainer" / "airpassengers.csv").open(newline="") as stream:
        y = np.array([float(row[-1]) for row in list(csv.reader(stream))[1:]])
    y, n, m = y[:138], 138, 12  # does not end with a whole year
    mean = sum(y) / n
    r = [sum((y[t] - mean) * (y[t - k] - mean) for t in range(k, n)) / sum((y - mean) ** 2) for k in range(m + 1)]
    assert abs(r[m]) > 1.645 / n**0.5 * (1 + 2 * sum(one**2 for one in r[1:m])) ** 0.5
    trend = {t: (y[t - 6] / 2 + sum(y[t - 5 : t + 6]) + y[t + 6] / 2) / 12 for t in range(6, n - 6)}
    factors = [np.mean([y[t] / trend[t] for t in trend if t % m == position]) for position in range(m)]
    factors = [one / np.mean(factors) for one in factors]
    adjusted = np.array([y[t] / factors[t % m] for t in range(n)])
    for name in ("Naive2", "SES", "Holt", "Damped", "Theta"):
        plain = make_model("Naive" if name == "Naive2" else name).fit(adjusted).predict(8)
        wanted = [plain[h] * factors[(n + h) % m] for h in range(8)]
        assert make_model(name, {"season": m}).fit(y).predict(8) == pytest.approx(wanted), name
    assert make_model("SeasonalNaive", {"season": m}).fit(y).predict(14) == pytest.approx([*y[-12:], *y[-12:-10]])


def test_noise_has_no_season_and_odd_seasons_work() -> None:
    noise = 10 + np.random.default_rng(3).normal(size=200)
    assert not is_seasonal(noise, 12)
    y = np.resize([0.8, 1.0, 1.2], 33) * np.linspace(10, 20, 33)
    assert make_model("Theta", {"season": 3}).fit(y).predict(3)[2] == pytest.approx(1.2 * 20.6, rel=0.06)


def test_the_trend_fit_is_a_plain_loop_with_the_best_start() -> None:
    y = np.cumsum(np.random.default_rng(5).normal(size=50)) + 100

    def errors(alpha: float, beta: float, phi: float, level: float, trend: float) -> Array:
        found = []
        for value in y:
            expected = level + phi * trend
            found.append(value - expected)
            level, trend = expected + alpha * found[-1], phi * trend + beta * found[-1]
        return np.array(found)

    def least(alpha: float, ratio: float, phi: float) -> float:
        own = (alpha, alpha * ratio, phi)
        zero = errors(*own, 0.0, 0.0)
        effects = np.stack([errors(*own, 1.0, 0.0) - zero, errors(*own, 0.0, 1.0) - zero], axis=1)
        start = np.linalg.lstsq(effects, -zero, rcond=None)[0]
        return float(np.sum(errors(*own, *start) ** 2))

    grid = np.array([[0.3, 0.1, 0.9], [0.8, 0.5, 0.98], [0.9, 0.01, 1.0]])
    assert _trend_fit(y, grid)[0] == pytest.approx([least(*row) for row in grid])
    level, trend, phi = last_trend(y, (0.8, 0.98))
    assert 0.8 <= phi <= 0.98 and np.isfinite([level, trend]).all()


def test_m4_weekly_rows_are_the_published_ones() -> None:
    published = {"Naive": (9.161, 2.777), "Naive2": (9.161, 2.777), "SES": (9.012, 2.685), "Theta": (9.093, 2.637)}
    parts: dict[str, tuple[list[float], list[float]]] = {}
    with gzip.open(EXAMPLES / "m4" / "m4_weekly.csv.gz", "rt", newline="") as stream:
        for row in csv.DictReader(stream):
            parts.setdefault(row["series"], ([], []))[row["split"] == "test"].append(float(row["y"]))
    for name, (smape, mase) in published.items():
        rows = [
            metrics.evaluate(["smape", "mase"], test, make_model(name).fit(train).predict(len(test)), train)
            for train, test in parts.values()
        ]
        assert 100 * np.mean([row["smape"] for row in rows]) == pytest.approx(smape, abs=0.003), name
        assert np.mean([row["mase"] for row in rows]) == pytest.approx(mase, abs=0.003), name
