from __future__ import annotations

import math

import pytest

from headway_trainer import metrics
from headway_trainer.errors import TrainerError, UnknownName

# The last five points of the series printed with the trainer's document, and the forecast printed with it.
GOLDEN_ACTUAL = [227.0, 226.0, 221.0, 222.0, 227.0]
GOLDEN_FORECAST = [236.0, 238.0, 240.0, 242.0, 244.0]
GOLDEN = {
    "mse": 255.0,
    "rmse": 15.968719422671311,
    "mae": 15.4,
    "me": -15.4,
    "mape": 0.06873954616706676,
    "smape": 0.06628485238682895,
    "mase": 5.133333333333334,
    "mda": 0.5,
    "nrmse": 2.6614532370675277,
    "mdae": 17.0,
    "gmae": 14.747936353790582,
    "maape": 0.06860683791500825,
    "r2": -37.40361445783133,
    "rae": 6.209677419304758,
}


def test_there_are_32() -> None:
    assert len(metrics.NAMES) == 32


@pytest.mark.parametrize(("name", "value"), GOLDEN.items())
def test_the_documents_numbers(name: str, value: float) -> None:
    # The document's program adds 1e-10 to denominators, so the last digits differ.
    assert metrics.evaluate([name], GOLDEN_ACTUAL, GOLDEN_FORECAST)[name] == pytest.approx(value, rel=1e-9)


def test_by_hand() -> None:
    actual, predicted = [2.0, 4.0, 8.0], [1.0, 6.0, 7.0]  # errors 1, -2, 1; percentages .5, -.5, .125; naive 2, 4
    found = metrics.evaluate(metrics.NAMES, actual, predicted, train=[1.0, 4.0, 2.0])  # scale 2.5
    expected = {
        "bias": 0.0,
        "mad": 4 / 3,
        "mpe": 0.125 / 3,
        "mdape": 0.5,
        "smdape": 2 * 2 / 10,
        "std_ae": math.sqrt(((1 - 4 / 3) ** 2 + (-2 - 4 / 3) ** 2 + (1 - 4 / 3) ** 2) / 2),
        "std_ape": math.sqrt(((0.5 - 0.375) ** 2 + (-0.5 - 0.375) ** 2 + (0.125 - 0.375) ** 2) / 2),
        "rmspe": math.sqrt((0.25 + 0.25 + 0.015625) / 3),
        "rmdspe": 0.5,
        "mase": 4 / 3 / 2.5,
        "rmsse": math.sqrt(6 / 3) / 2.5,
        "inrse": math.sqrt(6 / (56 / 3)),
        "rrse": math.sqrt(6 / (56 / 3)),
        "mre": (-1 + 0.25) / 2,
        "mrae": (1 + 0.25) / 2,
        "mdrae": 0.625,
        "gmrae": 0.5,
        "mbrae": (2 / 4 + 1 / 5) / 2,
        "umbrae": 0.35 / 0.65,
        "mda": 1.0,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    assert found.warnings == []


def test_what_is_not_defined_is_none_and_said() -> None:
    found = metrics.evaluate(["mape", "mase", "r2", "mae", "mda"], [0.0, 0.0], [1.0, 1.0], train=[3.0, 3.0])
    assert found.values == {"mape": None, "mase": None, "r2": None, "mae": 1.0, "mda": 1.0}
    assert [warning.partition(" ")[0] for warning in found.warnings] == ["mape", "mase", "r2"]


def test_one_value_leaves_what_needs_two_undefined() -> None:
    found = metrics.evaluate(metrics.NAMES, [3.0], [2.0])
    assert found["mae"] == 1.0
    assert {name for name, value in found.values.items() if value is None} >= {"std_ae", "mda", "mase", "mrae"}


def test_the_scale_comes_from_the_training_part_and_the_season() -> None:
    train = [1.0, 10.0, 2.0, 11.0]
    assert metrics.evaluate(["mase"], [1.0], [3.0], train, season=2)["mase"] == pytest.approx(2.0)


def test_losses_go_down_for_better() -> None:
    assert metrics.loss_of("r2", 0.5) == -0.5
    assert metrics.loss_of("bias", -3.0) == 3.0
    assert metrics.loss_of("mae", 3.0) == 3.0


def test_bad_questions_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"unknown metric 'mapee'; did you mean 'mape'\?"):
        metrics.evaluate(["mapee"], [1.0], [1.0])
    with pytest.raises(TrainerError, match="2 actual and 1 predicted"):
        metrics.evaluate(["mae"], [1.0, 2.0], [1.0])
    with pytest.raises(TrainerError, match="finite"):
        metrics.evaluate(["mae"], [1.0, math.nan], [1.0, 1.0])


def test_each_docstring_has_the_formula_and_where_it_comes_from() -> None:
    for name, one in metrics.METRICS.items():
        said = one.function.__doc__ or ""
        assert "[" in said or "catalogue" in said or name == "std_ape", name
