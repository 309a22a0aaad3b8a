"""The trainer is killed in the middle of a search; another goes on, and the trials are those of a search left in peace."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import headway
import headway_trainer
from headway_trainer.studies import Study

HERE = Path(__file__).parent
BOWL = {"x": {"low": -5.0, "high": 5.0}, "y": {"low": -5.0, "high": 5.0}}
OPTIONS: dict[str, Any] = {"trials": 60, "parallel": 3, "engine": "random", "mode": "batch"}
PROGRAM = """
import asyncio, json, sys, headway, headway_trainer
async def main(url, path, space, options):
    async with headway.connect(url) as bus:
        await headway_trainer.search(bus, "trainer_objectives:gated_bowl", space, path=path, **options)
asyncio.run(main(*map(json.loads, sys.argv[1:])))
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with headway.local(slots=2, path=[HERE]) as bus:
        yield bus.url


def told(path: Path) -> int:
    return path.read_bytes().count(b'{"tell"') if path.exists() else 0


def test_another_trainer_goes_on_with_the_same_trials(url: str, tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    space = {**BOWL, "folder": str(tmp_path)}
    arguments = [json.dumps(one) for one in (url, str(path), space, OPTIONS)]
    killed = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments])
    try:
        deadline = time.monotonic() + 60
        while told(path) < 6:
            assert killed.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        killed.kill()
        killed.wait()
    assert told(path) == 6
    (tmp_path / "release").touch()

    async def work() -> Study:
        async with headway.connect(url) as bus:
            return await headway_trainer.search(bus, "trainer_objectives:gated_bowl", space, path=path, **OPTIONS)

    study = asyncio.run(asyncio.wait_for(work(), 60))
    peaceful = Study(space, trials=60, engine="random", mode="batch", batch=3)
    expected = []
    while (trial := peaceful.ask()) is not None:
        expected.append(trial.values)
        peaceful.tell(trial.number, 0.0)
    assert [trial.values for trial in study.trials] == expected
    assert all(trial.status == "done" for trial in study.trials) and told(path) == 60
