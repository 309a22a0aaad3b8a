from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from headway_trainer.studies.engines import make_engine
from headway_trainer.studies.notation import parse_space
from headway_trainer.studies.parzen import ParzenEngine
from headway_trainer.studies.space import Space
from headway_trainer.studies.tpe import TpeEngine

DIMENSIONS: dict[str, Any] = {
    "whole": {"low": 1, "high": 30},
    "real": {"low": 0.0, "high": 1.0},
    "kind": ["a", "b", "c"],
    "rate": {"low": 1e-3, "high": 1.0, "log": True},
    "step": {"low": 0, "high": 100, "step": 5},
    "bell": {"distribution": "normal", "mean": 0, "std": 1},
    "many": {"type": "int", "low": 1, "high": 1000, "log": True},
}


@pytest.mark.parametrize("seed", range(6))
def test_its_suggestions_are_those_of_hyperopt_to_the_last_bit(seed: int) -> None:
    random = np.random.default_rng(seed)
    names = random.permutation(list(DIMENSIONS))[: 2 + seed]
    space = parse_space({str(name): DIMENSIONS[name] for name in names})
    theirs, ours = TpeEngine(space), ParzenEngine(space)
    for number in range(70):
        wanted, found = theirs.suggest(number, 1000 * seed + number), ours.suggest(number, 1000 * seed + number)
        assert found == wanted, f"trial {number} of {names}"
        assert {name: type(one) for name, one in found.items()} == {name: type(one) for name, one in wanted.items()}
        fate = random.random()
        if fate < 0.9:  # the others stay pending; a few fail; rounded losses are often equal
            loss = float(np.round(sum(wanted.values()) + random.normal(), seed % 3)) if fate < 0.8 else None
            theirs.tell(number, loss)
            ours.tell(number, loss)


def test_restored_it_goes_on_the_same() -> None:
    space = parse_space({"x": {"low": 0.0, "high": 1.0}})
    first, second = ParzenEngine(space), ParzenEngine(space)
    for number in range(25):
        raw = first.suggest(number, number)
        second.restore(number, raw)
        for engine in (first, second):
            engine.tell(number, raw["x"] ** 2)
    assert first.suggest(25, 7) == second.suggest(25, 7)


def test_conditions_are_left_to_hyperopt() -> None:
    assert isinstance(make_engine("hyperopt", parse_space({"x": {"low": 0.0, "high": 1.0}}), 10), ParzenEngine)
    inner: Space = parse_space({"model": [{"name": "a", "space": {"x": {"low": 0.0, "high": 1.0}}}, "b"]})
    assert isinstance(make_engine("hyperopt", inner, 10), TpeEngine)


def test_a_trial_and_a_whole_study_import_neither_pandas_nor_hyperopt() -> None:
    program = """
import sys
from headway_trainer.running.trial import run_forecast, run_study, run_trial
from headway_trainer.studies.study import Study
settings = {"metric": "mase", "metrics": ["mase"], "horizon": 2, "folds": 2, "season": 1, "validation": "rolling"}
values = [float(one * one % 7) for one in range(30)]
run_trial("LinearFit", {"latest_n": 3}, values, None, settings)
run_forecast("Theta", {}, values, None, settings)
state = Study({"latest_n": {"low": 1, "high": 9}, "add_std_factor": {"low": 0.0, "high": 1.0}}, trials=25).state()
assert sum("tell" in record for record in run_study("LinearFit", state, values, None, settings)) == 25
print(sorted({"pandas", "hyperopt", "matplotlib", "sklearn", "statsmodels", "lightgbm"} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[]"
