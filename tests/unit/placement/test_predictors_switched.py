"""Predictors by name: another one is used while it behaves, and the learned one takes over when it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from placement_cases import committed, finish, options, teach, with_runtimes

from headway_bus.ids import new_task_ids
from headway_bus.records import RuntimeInfo
from headway_controller.estimates import Estimate, LookupTablePredictor, ServerTimeCostPredictor


class Constant:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.seen: list[float] = []

    def predict(self, target: str, meta: Mapping[str, Any], runtime: str) -> Estimate:
        if self.seconds < 0.0:
            raise RuntimeError("no idea")
        return Estimate(self.seconds, 1.0)

    def remaining(self, estimate: Estimate, age: float) -> Estimate:
        return Estimate(max(estimate.expectation - age, 0.0), 1.0)

    def observe(self, target: str, meta: Mapping[str, Any], runtime: str, seconds: float) -> None:
        self.seen.append(seconds)


def test_another_predictor_is_asked_and_told() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    constant = Constant(42.0)
    scheduler.use_predictor("constant", constant)
    scheduler.enqueue_many(options(), new_task_ids(2), 0.0)
    ((_, task),) = committed(scheduler, 0.0)
    scheduler.started_many("a", [(task, 0.0)], 0.0)
    assert scheduler.queues("", 2.0)[0].waiting.expectation == pytest.approx(82.0)
    finish(scheduler, "a", task, 1.5, 3.0)
    assert constant.seen == [1.5]


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_a_predictor_that_fails_is_set_aside(seconds: float) -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    scheduler.use_predictor("mine", Constant(seconds))
    scheduler.enqueue_many(options(), new_task_ids(1), 0.0)
    assert len(committed(scheduler, 0.0)) == 1
    (notice,) = scheduler.notices()
    assert (notice.kind, notice.name) == ("predictor-failed", "mine")
    assert scheduler.switch.name == "learned"


def test_waiting_tasks_take_the_new_expectation() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    kind = options()
    teach(scheduler, kind, "a", 1.0, 50)
    scheduler.enqueue_many(kind, new_task_ids(11), 0.0)
    committed(scheduler, 0.0)
    assert scheduler.expectation(kind, 0.0).seconds == pytest.approx(11.0, rel=0.2)
    scheduler.use_predictor("constant", Constant(100.0))
    assert scheduler.expectation(kind, 0.0).seconds > 900.0
    scheduler.use_predictor("learned")
    assert scheduler.expectation(kind, 0.0).seconds == pytest.approx(11.0, rel=0.2)


def test_the_stated_cost_and_the_table_order_tasks() -> None:
    scheduler = with_runtimes(RuntimeInfo("a", slots=1))
    scheduler.use_predictor("server_time_cost", ServerTimeCostPredictor())
    long, short = (options(meta={"server_time_cost": cost}) for cost in (9000, 10))
    a, b = new_task_ids(2)
    scheduler.enqueue(a, long, 0.0)
    scheduler.enqueue(b, short, 0.0)
    assert committed(scheduler, 0.0)[0] == ("a", b)
    table = [
        {
            "status": "success",
            "model_type": "call:m:f",
            "quantiles": [0.25, 0.5, 0.75],
            "quantile_predictions": [1e3, 1e3, 1e3],
        }
    ]
    scheduler.use_predictor("lookup_table", LookupTablePredictor(table))
    assert scheduler.catalogue.work_of(options("m:f")).prediction.mean == pytest.approx(1.0)
