from __future__ import annotations

import json
import random
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from headway_trainer.errors import TrainerError, UnknownName
from headway_trainer.studies import Study, parse_space
from headway_trainer.studies.space import Choice, Fixed, Normal, Range

pytest.importorskip("hyperopt", reason="pip install 'headway[trainer]'")

MIXED = {
    "rate": {"low": 1e-4, "high": 1.0, "log": True},
    "n": {"range": [1, 10], "distribution": "uniformint"},
    "width": {"low": 8, "high": 64, "step": 8},
    "noise": {"distribution": "normal", "mean": 0, "std": 1},
    "kind": {"choice": ["a", {"name": "b", "space": {"depth": {"low": 1, "high": 3}, "n": [7, 9]}}]},
    "fixed": "text",
}
needs_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="pip install 'headway[optuna]'")
ENGINES = ("hyperopt", "random", pytest.param("optuna", marks=needs_optuna))


def loss_of(values: dict[str, Any]) -> float:
    extra = values["kind"]["depth"] if isinstance(values["kind"], dict) else 0
    return float(abs(values["rate"] - 0.1) + abs(values["n"] - 3) + extra + values["noise"] ** 2)


def run(study: Study, order: random.Random | None = None, parallel: int = 1) -> list[dict[str, Any]]:
    flying = []
    while not study.done:
        while len(flying) < parallel and (trial := study.ask()) is not None:
            flying.append(trial)
        trial = flying.pop(order.randrange(len(flying)) if order else 0)
        study.tell(trial.number, loss_of(trial.values))
    return [trial.values for trial in study.trials]


@pytest.mark.parametrize(
    ("notation", "expected"),
    [
        (5, Fixed(5)),
        ({"type": "int", "val": 5}, Fixed(5)),
        ({"low": 1, "high": 10}, Range(1, 10, whole=True)),
        ({"low": 1.0, "high": 10}, Range(1.0, 10.0)),
        ({"type": "int", "low": 1.0, "high": 10.0}, Range(1, 10, whole=True)),
        ({"type": "float", "low": 1, "high": 10}, Range(1.0, 10.0)),
        ({"range": [1, 10], "distribution": "uniform"}, Range(1.0, 10.0)),
        ({"range": [1, 10], "distribution": "uniformint"}, Range(1, 10, whole=True)),
        ({"range": [0.1, 10], "distribution": "loguniform"}, Range(0.1, 10.0, log=True)),
        ({"low": 0, "high": 10, "step": 5}, Range(0, 10, whole=True, step=5)),
        ({"low": 0.0, "high": 1.0, "step": 0.25}, Range(0.0, 1.0, step=0.25)),
        ({"distribution": "normal", "mu": 1, "sigma": 2, "low": 0}, Normal(1, 2, low=0)),
    ],
)
def test_every_notation_has_one_normal_form(notation: Any, expected: Any) -> None:
    space = parse_space({"x": notation})
    assert space.dimensions["x"] == expected
    assert parse_space(space.plain()) == space


def test_choices_lists_and_the_model_that_knows_its_types() -> None:
    for notation in ([1, "a"], {"choice": [1, "a"]}, {"type": "list", "choice": [1, "a"]}, {"values": [1, "a"]}):
        choice = parse_space({"x": notation}).dimensions["x"]
        assert isinstance(choice, Choice) and [option.value for option in choice.options] == [1, "a"]
    named = parse_space([{"name": "n", "range": [1, 10], "distribution": "uniform"}], kinds={"n": "int"})
    assert named.dimensions["n"] == Range(1, 10, whole=True)
    assert parse_space(parse_space(MIXED).plain()) == parse_space(MIXED)


@pytest.mark.parametrize(
    ("notation", "complaint"),
    [
        ({"low": 10, "high": 1}, r"space\.x: low 10 is above high 1"),
        ({"low": 0, "high": 1, "log": True}, r"space\.x: low 0 has no logarithm"),
        ({"range": [1, 2], "distribution": "unifrom"}, r"unknown distribution 'unifrom'; did you mean 'uniform'"),
        ({"lo": 1, "high": 2}, r"space\.x: unknown key 'lo'"),
        ({"low": 1}, r"nor has it low and high"),
        ({"choice": []}, r"at least one option"),
        ({"type": "int", "low": 0.5, "high": 2}, r"not whole"),
        ({"low": 0, "high": 1, "step": 0}, r"step 0"),
        ({"low": "1", "high": 2}, r"space\.x\.low: '1' is not a finite number"),
        ({"distribution": "normal", "mean": 0}, r"needs mean and std"),
        ({"choice": ["a", {"name": "b", "space": {"d": {"low": 2, "high": 1}}}]}, r"space\.x\[1\]\.space\.d: low 2"),
        ({"type": "double", "low": 0, "high": 1}, r"unknown type 'double'"),
    ],
)
def test_mistakes_name_the_place(notation: Any, complaint: str) -> None:
    with pytest.raises(TrainerError, match=complaint):
        parse_space({"x": notation})


@pytest.mark.parametrize("engine", ENGINES)
def test_values_have_their_types_and_bounds(engine: str) -> None:
    for values in run(Study(MIXED, engine=engine, trials=60)):
        assert 1e-4 <= values["rate"] <= 1.0
        assert type(values["n"]) is int and 1 <= values["n"] <= 10
        assert values["width"] in range(8, 65, 8) and type(values["width"]) is int
        assert values["fixed"] == "text"
        if isinstance(values["kind"], dict):
            assert (
                values["kind"]["name"] == "b" and values["kind"]["depth"] in (1, 2, 3) and values["kind"]["n"] in (7, 9)
            )
        else:
            assert values["kind"] == "a"


def test_the_ends_of_whole_numbers_are_as_likely_as_the_others() -> None:
    study = Study({"n": {"low": 1, "high": 4}, "x": {"low": 0.0, "high": 1.0}}, engine="random", trials=2000)
    counts = Counter(trial.values["n"] for _ in range(2000) if (trial := study.ask()))
    assert set(counts) == {1, 2, 3, 4} and min(counts.values()) > 420


@pytest.mark.parametrize("engine", ("hyperopt", "random", "grid"))
def test_a_small_finite_space_is_enumerated(engine: str) -> None:
    space = {"n": {"low": 1, "high": 3}, "k": ["a", {"name": "b", "space": {"d": [1, 2]}}]}
    study = Study(space, engine=engine, trials=100)
    found = [json.dumps(trial.values) for _ in range(9) if (trial := study.ask())]
    assert len(found) == len(set(found)) == 9 and study.ask() is None and not study.done


def test_a_grid_needs_steps() -> None:
    with pytest.raises(TrainerError, match=r"space\.x: a grid needs a finite space"):
        Study({"x": {"low": 0.0, "high": 1.0}}, engine="grid")


def test_the_document_s_search_finds_one() -> None:
    study = Study([{"name": "n", "type": "int", "low": 1, "high": 10}], trials=100)
    while (trial := study.ask()) is not None:
        study.tell(trial.number, float(trial.values["n"] * 8.6))
    assert study.done and study.best is not None and study.best.values == {"n": 1}


def test_tpe_learns() -> None:
    def least(engine: str, seed: int) -> float:
        study = Study({"x": {"low": -5.0, "high": 5.0}, "y": {"low": -5.0, "high": 5.0}}, engine=engine, seed=seed)
        while (trial := study.ask()) is not None:
            study.tell(trial.number, (trial.values["x"] - 1) ** 2 + (trial.values["y"] + 2) ** 2)
        assert study.best is not None and study.best.loss is not None
        return study.best.loss

    assert sum(least("hyperopt", seed) for seed in range(3)) < 0.5 * sum(least("random", seed) for seed in range(3))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mode", ("async", "batch"))
def test_killed_anywhere_it_goes_on_exactly(engine: str, mode: str, tmp_path: Path) -> None:
    with Study(MIXED, engine=engine, trials=40, seed=3, mode=mode, path=tmp_path / "whole.jsonl") as first:
        whole = run(first)
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    for cut in (1, 2, 9, 30, 41, 70, len(lines)):
        path = tmp_path / f"{cut}.jsonl"
        path.write_bytes(b"".join(lines[:cut]) + b'{"tell": 3, "sta')
        with Study.load(path) as study:
            assert run(study) == whole
        with Study.load(path) as study:
            assert [trial.values for trial in study.trials] == whole


@pytest.mark.parametrize("engine", ENGINES)
def test_in_batches_the_trials_do_not_depend_on_workers_or_order(engine: str) -> None:
    def study() -> Study:
        return Study(MIXED, engine=engine, trials=45, seed=1, mode="batch", batch=6)

    expected = run(study())
    for parallel, seed in ((3, 1), (6, 2), (50, 3)):
        assert run(study(), random.Random(seed), parallel) == expected


def test_failed_and_lost_trials_end_nothing() -> None:
    study = Study(MIXED, trials=30)
    first = study.ask()
    assert first is not None
    study.lost(first.number)
    study.lost(first.number)
    assert study.ask() is first
    while not study.done:
        trial = study.ask() if study.pending == [first] else first
        if trial is None:
            trial = first
        study.tell(trial.number, float("nan") if trial.number % 2 else 1.0)
        if trial is first:
            first = study.ask() or first
    assert {trial.status for trial in study.trials} == {"done", "failed"}
    assert study.trials[1].reason == "its loss is nan"


def test_a_repeated_tell_changes_nothing_and_a_wrong_one_is_refused() -> None:
    study = Study(MIXED, trials=3, engine="random")
    trial = study.ask()
    assert trial is not None
    study.tell(trial.number, 2.0)
    study.tell(trial.number, 1.0)
    assert study.best is not None and study.best.loss == 2.0
    with pytest.raises(TrainerError, match="trial 7: it was never asked"):
        study.tell(7, 1.0)


def test_state_is_plain_data_and_loads() -> None:
    study = Study(MIXED, trials=30, seed=2)
    for _ in range(25):
        trial = study.ask()
        assert trial is not None
        study.tell(trial.number, loss_of(trial.values))
    again = Study.load(json.loads(json.dumps(study.state())))
    assert run(again) == run(study)


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown engine 'hyperop'; did you mean 'hyperopt'"):
        Study(MIXED, engine="hyperop")
    with pytest.raises(UnknownName, match="unknown mode"):
        Study(MIXED, mode="fast")
    with pytest.raises(TrainerError, match="expected at least 1"):
        Study(MIXED, trials=0)
    path = tmp_path / "study.jsonl"
    Study(MIXED, engine="random", path=path).close()
    with pytest.raises(TrainerError, match="a study is there already"):
        Study(MIXED, engine="random", path=path)
    path.write_text('{"study": 1\n{"ask": 0}\n')
    with pytest.raises(TrainerError, match="line 1: not a record"):
        Study.load(path)
