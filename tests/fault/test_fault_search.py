"""A search over which everything dies: its row of docs/loss.md."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from fault_plant import Plant, lines_of, until
from fault_tasks import bowl

from headway_trainer.studies import Study

PROGRAM = """
import asyncio, json, sys, headway, headway_trainer
async def main(url, path, ran, space, options):
    async with headway.connect(url) as bus:
        await headway_trainer.search(bus, "fault_tasks:bowl", space | {"path": ran}, path=path, **options)
asyncio.run(main(*sys.argv[1:4], *map(json.loads, sys.argv[4:])))
"""
SPACE = {"x": {"low": -5.0, "high": 5.0}, "n": {"low": 1, "high": 20}}
OPTIONS = {"trials": 48, "parallel": 4, "mode": "batch", "engine": "hyperopt", "seed": 7}


def told(log: Path) -> int:
    return log.read_bytes().count(b'{"tell"') if log.exists() else 0


def test_trainer_controller_and_runtime_killed_in_one_search(plant: Plant, tmp_path: Path) -> None:
    """Another trainer goes on: the trials are those of a search in peace, and what ran on runs no second time."""
    plant.start("one", "two", slots=2)
    program, log, ran = tmp_path / "program.py", tmp_path / "study.jsonl", tmp_path / "ran"
    program.write_text(PROGRAM)
    words = [plant.url, str(log), str(ran), json.dumps(SPACE), json.dumps(OPTIONS)]
    trainer = plant.run_file("trainer", program, *words)
    until("a third of the trials has been told", lambda: told(log) >= 16)
    for victim in (trainer.pid, plant.controller.pid, plant.runtimes["one"].pid):
        os.kill(victim, signal.SIGKILL)
    for process in (trainer, plant.controller, plant.runtimes["one"]):
        process.wait()
    before = told(log)
    assert before < OPTIONS["trials"]
    plant.start_controller()
    plant.start_runtime("one")
    again = plant.run_file("trainer-again", program, *words)
    assert again.wait(60) == 0, again.written()
    study = Study.load(log)
    study.close()
    peaceful = Study(SPACE | {"path": str(ran)}, batch=4, mode="batch", engine="hyperopt", seed=7, trials=48)
    while (trial := peaceful.ask()) is not None:
        peaceful.tell(trial.number, bowl(**trial.values | {"path": os.devnull}, seconds=0.0))
    assert [(each.status, each.values, each.loss) for each in study.trials] == [
        ("done", each.values, each.loss) for each in peaceful.trials
    ]
    assert 48 <= len(lines_of(ran)) <= 48 + 4, "again ran only what the killed runtime was running or was about to run"
