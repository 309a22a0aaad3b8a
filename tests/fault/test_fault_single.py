"""One fault at a time: each test is a row of docs/loss.md."""

from __future__ import annotations

from pathlib import Path

from fault_plant import Plant, lines_of, until


def test_broker_killed_while_tasks_run(plant: Plant, tmp_path: Path) -> None:
    """The work goes on, the result comes after the restart, nothing runs twice."""
    plant.start("one")
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    task = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("the task has begun", lambda: lines_of(ran) == ["began a"])
    plant.broker.kill()
    release.touch()
    until("the task has ended without a broker", lambda: lines_of(ran) == ["began a", "ended a"])
    plant.start_broker()
    assert task.result(30) == "held a"
    assert lines_of(ran) == ["began a", "ended a"]
