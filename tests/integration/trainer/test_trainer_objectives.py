"""Objectives of every kind on a real bus, and losers that are cancelled while they run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import headway
import headway_trainer
from headway_trainer import Command, Script
from headway_trainer.errors import TrainerError
from headway_trainer.studies import Study

HERE = Path(__file__).parent
SCRIPT = HERE / "user_script.py"
SPACE = {"x": {"low": 0.0, "high": 1.0}, "kind": ["a", "b"]}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with headway.local(slots=2, path=[HERE]) as bus:
        yield bus.url


def search(url: str, *args: Any, **options: Any) -> Study:
    async def run() -> Study:
        async with headway.connect(url) as bus:
            return await headway_trainer.search(bus, *args, engine="random", **options)

    return asyncio.run(asyncio.wait_for(run(), 100))


@pytest.mark.parametrize(
    "objective",
    [
        Script(SCRIPT),
        Script(SCRIPT, args=["--print"]),
        Command(f"{sys.executable} {SCRIPT} --x {{x}} --kind {{kind}}"),
    ],
    ids=["script", "printed", "command"],
)
def test_a_training_program_is_an_objective(url: str, objective: Any) -> None:
    study = search(url, objective, SPACE, trials=8, parallel=2)
    for trial in study.trials:
        x = trial.values["x"]
        if x > 0.9:
            assert trial.status == "failed"
        else:
            assert trial.loss == pytest.approx((x - 0.25) ** 2 + (trial.values["kind"] == "b"))
    assert study.best is not None
    assert ("note" in study.best.result) == (objective == Script(SCRIPT, args=["--print"]))


def test_a_program_that_says_no_loss_is_a_failed_trial(url: str) -> None:
    study = search(url, Command("echo hello"), SPACE, trials=1)
    assert study.trials[0].status == "failed"
    assert "its last line is 'hello'; expected headway.metric('loss', …)" in study.trials[0].reason


@pytest.mark.parametrize("parallel", [1, 3])
def test_losers_are_cancelled_while_they_run(url: str, parallel: int) -> None:
    """The losers would sleep for longer than the test may take: that the search ends says that they were stopped."""

    async def run() -> Study:
        from headway_trainer.running.searching import search_on

        space = {"x": [0.1, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9]}
        rule = {"rule": "median", "startup": 3}
        study = Study(space, engine="random", trials=9, mode="batch", batch=3, pruning=rule)
        async with headway.connect(url) as bus:
            await search_on(bus, study, "trainer_objectives:curve", parallel)
            running = await bus.tasks(status="running")
        assert running == []
        return study

    study = asyncio.run(asyncio.wait_for(run(), 100))
    assert [trial.status for trial in study.trials] == ["done"] * 3 + ["pruned"] * 4
    assert [trial.loss for trial in study.trials] == [0.1, 0.2, 0.3, 1.6, 1.7, 1.8, 1.9]
    assert study.trials[6].reason == "stopped at step 0"


def test_what_is_no_objective_is_refused_before_anything_runs(url: str, tmp_path: Path) -> None:
    for objective, complaint in (
        (5, "objective: 5; expected"),
        ("python train.py", "A line for the shell is headway_trainer.Command"),
        (Script(tmp_path / "gone.py"), "there is no script"),
    ):
        with pytest.raises(TrainerError) as told:
            search(url, objective, SPACE, trials=1)
        assert complaint in str(told.value)


def test_a_search_that_is_stopped_goes_on_by_its_log_alone(url: str, tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"

    async def run() -> tuple[Study, Study]:
        async with headway.connect(url) as bus:
            seen = asyncio.Event()
            work = asyncio.create_task(
                headway_trainer.search(
                    bus,
                    "trainer_objectives:slow_bowl",
                    {"x": {"low": -5.0, "high": 5.0}, "y": 1.0},
                    trials=30,
                    parallel=3,
                    engine="random",
                    path=path,
                    listener=lambda study, trial: seen.set(),
                )
            )
            await seen.wait()
            work.cancel()
            await asyncio.wait([work])
            before = Study.load(path)
            before.close()
            return before, await headway_trainer.resume(bus, path)

    before, after = asyncio.run(asyncio.wait_for(run(), 60))
    assert before.pending and after.done
    assert {trial.status for trial in after.trials} == {"done"}
    assert [trial.values for trial in after.trials[: len(before.trials)]] == [trial.values for trial in before.trials]
