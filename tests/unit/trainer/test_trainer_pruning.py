from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from headway_trainer.errors import StudyBusy, TrainerError, UnknownName
from headway_trainer.studies import Study
from headway_trainer.studies.pruning import Asha, Median, Rival, Rule, parse_pruning

SPACE = {"x": {"low": 0.0, "high": 1.0}}


def rivals(*curves: list[float], finished: bool = True) -> list[Rival]:
    return [Rival(dict(enumerate(curve)), finished) for curve in curves]


def test_median_stops_what_is_worse_than_the_median_of_the_averages() -> None:
    rule = Median(startup=3)
    others = rivals([1.0, 1.0], [2.0, 2.0], [4.0, 2.0])
    assert not rule.is_loser({0: 2.0}, 0, others), "as good as the median goes on"
    assert rule.is_loser({0: 2.1}, 0, others)
    assert not rule.is_loser({0: 1.9, 1: 9.0}, 1, others), "its best value counts, not its last"
    assert not rule.is_loser({0: 9.0}, 0, others[:2]), "too few have finished"
    assert not rule.is_loser({0: 9.0}, 0, [*others[:2], Rival({0: 1.0}, finished=False)])
    assert not Median(startup=3, warmup=2).is_loser({1: 9.0}, 1, others)
    assert rule.is_loser({0: math.inf}, 0, others)


class Counted(dict[int, float]):
    """Reports that count how often somebody goes through all of them."""

    seen = 0

    def items(self) -> Any:
        self.seen += 1
        return super().items()


def test_the_averages_of_a_finished_trial_are_worked_out_once() -> None:
    finished, running = Counted({0: 1.0, 1: 3.0}), Counted({0: 1.0})
    ended, other = Rival(finished, finished=True), Rival(running, finished=False)
    assert [ended.mean(step) for step in (0, 1, 1, 0, 9)] == [1.0, 2.0, 2.0, 1.0, 2.0] and finished.seen == 3
    assert other.mean(1) == 1.0
    running[1] = 5.0
    assert other.mean(1) == 3.0, "one that goes on is looked at each time"


def test_asha_lets_a_third_pass_each_rung() -> None:
    rule = Asha(first=1, factor=3)
    one = rivals([9.0, 1.0], [9.0, 3.0], finished=False)
    assert not rule.is_loser({1: 0.5}, 1, one)
    assert rule.is_loser({1: 2.0}, 1, one), "of three that came to the rung one goes on"
    assert not rule.is_loser({1: 9.0}, 1, one[:1]), "two are too few to choose from"
    assert not rule.is_loser({1: 0.5, 2: 99.0}, 2, one), "step 2 is no rung: the next one is 3"
    far = rivals([9, 9, 9, 1.0], [9, 9, 9, 2.0], finished=False)
    assert rule.is_loser({1: 0.5, 2: 5.0, 3: 5.0}, 3, far)
    assert rule.is_loser({1: 0.5, 4: 5.0}, 4, far), "a rung that was stepped over is reached as well"
    assert not rule.is_loser({0: 9.0}, 0, one), "below the first rung nobody is stopped"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("median", Median()),
        ("asha", Asha()),
        ({"rule": "asha", "factor": 4}, Asha(factor=4)),
        (Median(warmup=3), Median(warmup=3)),
    ],
)
def test_pruning_is_parsed(given: Any, expected: Rule | None) -> None:
    found = parse_pruning(given)
    assert found == expected
    assert found is None or parse_pruning(json.loads(json.dumps(found.plain()))) == found


@pytest.mark.parametrize(
    ("given", "error", "complaint"),
    [
        ("mediann", UnknownName, "unknown rule 'mediann'; did you mean 'median'"),
        ({"rule": "asha", "rungs": 3}, UnknownName, "unknown setting 'rungs'"),
        ({"rule": "asha", "factor": 1}, TrainerError, "pruning.factor: 1; expected a whole number of at least 2"),
        ({"startup": 3}, UnknownName, "unknown rule None"),
    ],
)
def test_bad_pruning_is_refused(given: Any, error: type[Exception], complaint: str) -> None:
    with pytest.raises(error) as told:
        Study(SPACE, engine="random", pruning=given)
    assert complaint in str(told.value)


def curve(x: float) -> list[float]:
    return [x + 1 / (step + 1) for step in range(6)]


def run(study: Study, order: random.Random, parallel: int) -> list[tuple[str, float | None, str]]:
    """Trials that take turns at random to report a step each."""
    flying: dict[int, list[float]] = {}
    while not study.done:
        while len(flying) < parallel and (trial := study.ask()) is not None:
            flying[trial.number] = curve(trial.values["x"])
        number = order.choice(sorted(flying))
        left = flying[number]
        stop = study.report(number, left.pop(0))
        if stop or not left:
            del flying[number]
            study.tell(number, curve(study.trials[number].values["x"])[-1])
    return [(trial.status, trial.loss, trial.reason) for trial in study.trials]


@pytest.mark.parametrize("rule", ["median", "asha"])
def test_losers_are_pruned_with_the_value_they_had(rule: str) -> None:
    study = Study(SPACE, engine="random", trials=40, pruning=rule)
    run(study, random.Random(1), 4)
    pruned = [trial for trial in study.trials if trial.status == "pruned"]
    assert len(pruned) >= 10
    for trial in pruned:
        assert trial.stopped_at is not None and trial.loss == trial.reports[trial.stopped_at]
        assert trial.reason == f"stopped at step {trial.stopped_at}" and max(trial.reports) == trial.stopped_at
    assert study.best is not None and study.best.status == "done"
    assert study.best.values["x"] == min(trial.values["x"] for trial in study.trials)


@pytest.mark.parametrize("rule", ["median", "asha"])
def test_in_batches_the_same_are_pruned_whoever_runs_them(rule: str) -> None:
    def study() -> Study:
        return Study(SPACE, engine="random", trials=40, mode="batch", batch=8, pruning=rule)

    expected = run(study(), random.Random(0), 1)
    assert any(status == "pruned" for status, _, _ in expected)
    for seed, parallel in ((1, 3), (2, 8), (3, 8)):
        assert run(study(), random.Random(seed), parallel) == expected


def test_reports_are_in_the_log_and_those_of_an_unfinished_run_are_void(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    with Study(SPACE, engine="random", trials=3, pruning="asha", path=path, about={"who": "me"}) as study:
        first, second = study.ask(), study.ask()
        assert first is not None and second is not None
        study.report(0, 5.0)
        study.report(0, math.nan)
        study.tell(0, 1.0)
        study.report(1, 7.0, step=10)
        study.report(0, 3.0)
    with Study.load(path) as again:
        assert again.trials[0].reports == {0: 5.0, 1: math.inf}
        assert again.trials[1].reports == {} and again.ask() is again.trials[1]
        assert (again.about, again.id, again.pruning) == ({"who": "me"}, study.id, Asha())
        again.report(1, 6.0, step=20)
        again.lost(1)
        again.report(1, 5.0, step=30)
    loaded = Study.load(path)
    assert loaded.trials[1].run == 1
    loaded.close()
    last = Study.load(json.loads(json.dumps(again.state())))
    assert last.trials[0].reports == again.trials[0].reports and last.trials[1].run == 1


def test_only_one_program_runs_a_study(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    with (
        Study(SPACE, engine="random", path=path),
        pytest.raises(StudyBusy, match="another program runs this study"),
    ):
        Study.load(path)
    Study.load(path).close()
