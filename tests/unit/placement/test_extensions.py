"""Strategies and predictors by name: the built-in ones, and a user's own through entry points."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from headway_bus.ids import new_task_ids
from headway_bus.records import Kind, Options, RuntimeInfo
from headway_controller import extensions
from headway_controller.estimates.estimate import Estimate
from headway_controller.estimates.meta import EMPTY
from headway_controller.extensions import strategy_names, use_predictor, use_strategy
from headway_controller.placement import Scheduler
from headway_controller.placement.views import RuntimeView, TaskView


class LastByName:
    def choose(self, task: TaskView, candidates: Sequence[RuntimeView], now: float) -> str | None:
        return max(candidates, key=lambda view: view.name).name


class AlwaysNine:
    def predict(self, target: str, meta: Mapping[str, Any], runtime: str) -> Estimate:
        return Estimate(9.0, 1.0)

    def remaining(self, estimate: Estimate, age: float) -> Estimate:
        return Estimate(max(9.0 - age, 0.0), 1.0)

    def observe(self, target: str, meta: Mapping[str, Any], runtime: str, seconds: float) -> None:
        pass


class NoMethods:
    pass


class Broken:
    def __init__(self) -> None:
        raise RuntimeError("no licence")


Install = Callable[[str, type], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Pretends that a package brings an entry point."""
    found: list[EntryPoint] = []
    monkeypatch.setattr(extensions, "entry_points", lambda group: [each for each in found if each.group == group])

    def add(group: str, made: type) -> None:
        found.append(EntryPoint(made.__name__.lower(), f"{__name__}:{made.__name__}", group))

    return add


def scheduler_of_two() -> Scheduler:
    scheduler = Scheduler()
    for name in ("a", "b"):
        scheduler.add_runtime(RuntimeInfo(name, slots=1), 0.0)
    return scheduler


def mean_of(scheduler: Scheduler, target: str, **meta: float | str) -> float:
    return scheduler.catalogue.work_of(Options(Kind.CALL, target, meta=dict(meta))).prediction.mean


def test_every_built_in_strategy_is_taken_by_name() -> None:
    scheduler = scheduler_of_two()
    for name in strategy_names():
        use_strategy(scheduler, name)
        assert scheduler.binder.name == name


def test_ones_own_strategy_places(install: Install) -> None:
    install(extensions.STRATEGIES, LastByName)
    scheduler = scheduler_of_two()
    use_strategy(scheduler, "lastbyname")
    scheduler.enqueue_many(Options(Kind.CALL, "m:f"), new_task_ids(2), 0.0)
    assert [commit.runtime for commit in scheduler.dispatch(0.0)] == ["b"]
    waiting = {each.runtime: each.planned for each in scheduler.queues("", 0.0)}
    assert waiting == {"a": 0, "b": 1}, "the second one waits for its slot there"


def test_ones_own_predictor_is_asked(install: Install) -> None:
    install(extensions.PREDICTORS, AlwaysNine)
    scheduler = scheduler_of_two()
    use_predictor(scheduler, "alwaysnine")
    assert mean_of(scheduler, "m:f") == 9.0


def test_what_is_not_there_is_answered_with_what_is(install: Install) -> None:
    install(extensions.STRATEGIES, LastByName)
    install(extensions.PREDICTORS, AlwaysNine)
    scheduler = scheduler_of_two()
    with pytest.raises(ValueError, match=r"'nope'.*lastbyname.*round_robin"):
        use_strategy(scheduler, "nope")
    with pytest.raises(ValueError, match=r"'nope'.*alwaysnine.*learned.*lookup_table.*server_time_cost"):
        use_predictor(scheduler, "nope")
    assert scheduler.binder.name == "headway_completion"
    assert scheduler.switch.name == "learned"


def test_what_is_no_strategy_or_cannot_be_made_is_refused(install: Install) -> None:
    for made in (NoMethods, Broken):
        install(extensions.STRATEGIES, made)
        install(extensions.PREDICTORS, made)
    scheduler = scheduler_of_two()
    with pytest.raises(ValueError, match="no method choose"):
        use_strategy(scheduler, "nomethods")
    with pytest.raises(ValueError, match="no method predict, remaining, observe"):
        use_predictor(scheduler, "nomethods")
    for use in (use_strategy, use_predictor):
        with pytest.raises(ValueError, match="no licence"):
            use(scheduler, "broken")


def test_the_lookup_table_speaks_of_its_models_and_the_learned_one_of_the_others(tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    row = {
        "status": "success",
        "model_type": "ocr",
        "quantiles": [0.25, 0.5, 0.75],
        "quantile_predictions": [10, 20, 30],
    }
    file.write_text(json.dumps([row]))
    scheduler = scheduler_of_two()
    scheduler.predictor.observe_many("call:m:f", {}, "a", [3.0] * 10)
    use_predictor(scheduler, "lookup_table", str(file))
    model = Options(Kind.MODEL, "ocr")
    assert scheduler.catalogue.work_of(model).prediction.mean == pytest.approx(0.02)
    assert mean_of(scheduler, "m:f") == pytest.approx(3.0, rel=0.2)
    use_predictor(scheduler, "learned")
    assert scheduler.catalogue.work_of(model).prediction.mean != pytest.approx(0.02)


def test_behind_another_predictor_an_end_is_learned_once() -> None:
    scheduler = scheduler_of_two()
    use_predictor(scheduler, "server_time_cost")
    work = scheduler.catalogue.work_of(Options(Kind.CALL, "m:f"))
    work.prediction.observe_many("a", [1.0])
    assert scheduler.predictor.model_of("call:m:f", EMPTY).observations == 1
    assert mean_of(scheduler, "m:f", server_time_cost=250.0) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "No such file"), (b"{", "not JSON"), (b"\xff\xfe", "not JSON"), (b'{"a": 1}', "a list of records")],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, content: bytes | None, expected: str) -> None:
    file = tmp_path / "times.json"
    if content is not None:
        file.write_bytes(content)
    scheduler = scheduler_of_two()
    with pytest.raises(ValueError, match=expected):
        use_predictor(scheduler, "lookup_table", str(file))
    with pytest.raises(ValueError, match=r"setting controller\.lookup_table"):
        use_predictor(scheduler, "lookup_table")
    assert scheduler.switch.name == "learned"


def test_records_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    good = {"status": "success", "model_type": "ocr", "expect": 40.0, "error": 1.0}
    bad: list[Any] = [7, None, "x", {"status": "success"}, {"status": "success", "model_info": 3}, {"status": "failed"}]
    file.write_text(json.dumps([*bad, good]))
    scheduler = scheduler_of_two()
    use_predictor(scheduler, "lookup_table", str(file))
    assert scheduler.catalogue.work_of(Options(Kind.MODEL, "ocr")).prediction.mean == pytest.approx(0.04)
