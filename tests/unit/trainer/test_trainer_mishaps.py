"""What goes wrong with one trial, one model, one series or one job, and stops no other."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import numpy as np
import pytest

import headway
from headway_bus.errors import TaskLost
from headway_trainer import jobs
from headway_trainer.errors import SeriesRefused
from headway_trainer.models.base import Array, Model, State
from headway_trainer.models.parameters import Parameter
from headway_trainer.running import training
from headway_trainer.running.job import Job
from headway_trainer.running.trial import run_forecast, run_study
from headway_trainer.series.record import SHORT, Columns, Policies, Series
from headway_trainer.series.repair import repair
from headway_trainer.studies import Study

SETTINGS: dict[str, Any] = {"metric": "mae", "metrics": ("mae",), "horizon": 2, "folds": 2, "season": 1}
SETTINGS |= {"validation": "rolling", "export": False}


class Moody(Model):
    """A user's model that cannot do with some of its parameters, or with the last point."""

    name: ClassVar[str] = "Moody"
    intro: ClassVar[str] = "fails now and then"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("n", "int", 1, "2, 3 and 4 are not to its taste", low=1, search=(1, 5)),
    )

    def learn(self, y: Array, features: Array | None) -> State:
        faults = {2: RuntimeError("no twos"), 3: IndexError("no threes"), 4: np.linalg.LinAlgError("no fours")}
        if self.params["n"] in faults:
            raise faults[self.params["n"]]
        return {"last": y[-1:]}

    def forecast(self, state: State, horizon: int, features: Array | None) -> Array:
        return np.repeat(state["last"] if state["last"][0] < 20 else np.inf, horizon)


MOODY = f"{__name__}:Moody"


def test_in_a_whole_study_a_trial_that_raises_is_one_failed_trial() -> None:
    study = Study({"n": {"low": 1, "high": 5}}, engine="grid")
    study.absorb(run_study(MOODY, study.state(), np.arange(10.0), None, SETTINGS))
    assert study.done and study.best is not None and study.best.values["n"] in (1, 5)
    reasons = {trial.values["n"]: trial.reason for trial in study.trials if trial.status == "failed"}
    assert reasons == {2: "RuntimeError: no twos", 3: "IndexError: no threes", 4: "LinAlgError: no fours"}


def test_a_forecast_that_is_not_finite_is_refused_by_its_own_task() -> None:
    values = np.arange(10.0)
    assert run_forecast(MOODY, {}, values, None, SETTINGS)["forecast"] == [9.0, 9.0]
    values[-1] = 20.0  # the folds are finite, what comes after the last point is not
    with pytest.raises(SeriesRefused, match="foretold a value that is not finite"):
        run_forecast(MOODY, {}, values, None, SETTINGS)


@pytest.fixture
def short() -> Series:
    times = np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[s]")
    return dataclasses.replace(repair((), times, np.array([[1.0], [2.0]]), Policies()), status=SHORT)


def test_a_short_series_whose_forecast_is_lost_has_failed_and_stops_no_other(
    short: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> dict[str, Any]:
        raise TaskLost("its runtimes went away")

    monkeypatch.setattr(training, "_forecast", lost)
    job = Job("none.csv", Columns("y", "ds"))
    row = asyncio.run(training.train_series(None, job, short))  # type: ignore[arg-type]  # nothing reaches the bus
    assert row["status"] == "failed" and row["reasons"][-1] == "Naive: its runtimes went away"


def test_a_job_that_fails_leaves_nothing_running(short: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    @asynccontextmanager
    async def connect(_url: str | None) -> AsyncIterator[None]:
        try:
            yield
        finally:
            told.append("disconnected")

    async def one(_bus: object, job: Job, _series: Series) -> dict[str, Any]:
        try:
            if job.path == "bad.csv":
                raise RuntimeError("bad")
            return await asyncio.Event().wait() and {}
        finally:
            told.append(job.path)

    monkeypatch.setattr(headway, "connect", connect)
    monkeypatch.setattr(jobs, "train_series", one)
    columns = Columns("y", "ds")
    work = [(path, short, Job(path, columns)) for path in ("good.csv", "bad.csv")]
    with pytest.raises(RuntimeError, match="bad"):
        asyncio.run(jobs._trained(jobs._Entry({}), work, None))
    assert told == ["bad.csv", "good.csv", "disconnected"]


@pytest.fixture
def ended() -> Iterator[jobs._Entry]:
    """A job as it is between the end of its loop and the setting of its result."""
    entry = jobs._Entry({})

    async def work() -> None:
        entry.loop, entry.work = asyncio.get_running_loop(), asyncio.current_task()

    asyncio.run(work())
    yield entry


def test_a_job_that_is_just_ending_can_be_cancelled(ended: jobs._Entry) -> None:
    book = jobs.Book()
    book._entries["1"] = ended
    book.cancel(1)
    assert ended.is_cancelled
