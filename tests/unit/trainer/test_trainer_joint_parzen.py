from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

import numpy as np
import pytest

from headway_trainer.studies.engines import make_engine
from headway_trainer.studies.joint_parzen import JointParzenEngine, log_mass
from headway_trainer.studies.notation import parse_space

DIMENSIONS: dict[str, Any] = {
    "whole": {"low": 1, "high": 30},
    "real": {"low": 0.0, "high": 1.0},
    "kind": ["a", "b", "c"],
    "rate": {"low": 1e-3, "high": 1.0, "log": True},
    "step": {"low": 0, "high": 100, "step": 5},
    "bell": {"distribution": "normal", "mean": 0, "std": 1},
    "many": {"type": "int", "low": 1, "high": 1000, "log": True},
    "only": ["x"],
}


@pytest.mark.parametrize("seed", range(6))
def test_its_suggestions_are_those_of_optuna_up_to_rounding(seed: int) -> None:
    pytest.importorskip("optuna", reason="pip install 'headway[optuna]'")
    if int(importlib.metadata.version("optuna").partition(".")[0]) < 5:
        pytest.skip("before optuna 5 the estimators were one for each dimension")
    from headway_trainer.studies.optuna_engine import OptunaEngine

    random = np.random.default_rng(seed)
    names = random.permutation(list(DIMENSIONS))[: 3 + seed]
    space = parse_space({str(name): DIMENSIONS[name] for name in names})
    theirs, ours = OptunaEngine(space), JointParzenEngine(space)
    for number in range(60):
        wanted, found = theirs.suggest(number, 1000 * seed + number), ours.suggest(number, 1000 * seed + number)
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12), f"trial {number} of {names}"
        ours.restore(number, wanted)
        fate = random.random()
        if fate < 0.9:  # the others stay pending; a few fail; rounded losses are often equal
            loss = float(np.round(sum(wanted.values()) + random.normal(), seed % 3)) if fate < 0.8 else None
            theirs.tell(number, loss)
            ours.tell(number, loss)


def test_it_needs_no_optuna_and_finds_the_bottom_of_a_bowl() -> None:
    engine = make_engine("optuna", parse_space({"x": {"low": -5.0, "high": 5.0}, "n": {"low": -9, "high": 9}}), 80)
    assert isinstance(engine, JointParzenEngine)
    losses = []
    for number in range(80):
        raw = engine.suggest(number, number)
        losses.append((raw["x"] - 1) ** 2 + (raw["n"] + 2) ** 2)
        engine.tell(number, losses[-1])
    assert min(losses) < 0.1 and np.mean(losses[40:]) < np.mean(losses[:10]) / 3


def test_conditions_are_left_to_optuna() -> None:
    if importlib.util.find_spec("optuna") is None:
        pytest.skip("pip install 'headway[optuna]'")
    from headway_trainer.studies.optuna_engine import OptunaEngine

    inner = parse_space({"model": [{"name": "a", "space": {"x": {"low": 0.0, "high": 1.0}}}, "b"]})
    assert isinstance(make_engine("optuna", inner, 10), OptunaEngine)


def test_the_mass_of_a_far_tail_is_exact() -> None:
    # In 30 deviations the density falls by e^-30 a deviation: the mass of an interval is that of its near end.
    near, far = log_mass(np.array([30.0, -31.0, -1.0]), np.array([31.0, -30.0, 1.0])), -454.3212439563432
    assert near[:2] == pytest.approx([far, far]) and near[2] == pytest.approx(np.log(0.6826894921370859))
