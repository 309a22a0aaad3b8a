"""The broker dies, stands still, stays away: each test is a row of docs/loss.md."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from fault_plant import Plant, lines_of, until


def test_broker_killed_while_tasks_run(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """The work goes on, results and submissions made meanwhile arrive after the restart, nothing runs twice."""
    plant = make_plant(heartbeat=2.0)
    plant.start("one")
    bus = plant.client()
    ran, release, marks = tmp_path / "ran", tmp_path / "release", tmp_path / "marks"
    held = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    queued = [bus.submit("fault_tasks:mark", str(marks), number, 0.01) for number in range(20)]
    until("the task has begun", lambda: lines_of(ran) == ["began a on one"])
    plant.broker.kill()
    later = [bus.submit_soon("fault_tasks:mark", str(marks), number, 0.01) for number in range(20, 40)]
    release.touch()
    until("the task has ended without a broker", lambda: lines_of(ran) == ["began a on one", "ended a on one"])
    plant.start_broker()
    assert held.result(30) == "held a"
    assert [task.result(30) for task in queued + later] == list(range(40))
    assert len(lines_of(ran)) == 2
    assert sorted(int(line.split()[0]) for line in lines_of(marks)) == list(range(40))
    assert plant.counters().get("runtimes.lost", 0) == 0


def test_broker_away_for_longer_than_a_lease(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """Nobody is given up for a silence that the broker's absence explains: the controller was cut off itself."""
    plant = make_plant(heartbeat=0.3)
    plant.start("one", "two")
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    tasks = [bus.submit("fault_tasks:hold", str(ran), str(release), str(number)) for number in range(4)]
    until("all have begun", lambda: len(lines_of(ran)) == 4)
    plant.broker.kill()
    threading.Event().wait(3.0)  # the fault itself: four leases of 0.75 s
    plant.start_broker()
    plant.until_online("one", "two")
    release.touch()
    assert [task.result(30) for task in tasks] == [f"held {number}" for number in range(4)]
    assert len(lines_of(ran)) == 8, "each has begun once and ended once"
    assert plant.counters().get("attempts.lost", 0) == 0


def test_broker_that_stands_still(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """A broker that was suspended takes nobody's silence for death, and everybody finds it again."""
    plant = make_plant(heartbeat=0.3)
    plant.start("one")
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    task = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: lines_of(ran) == ["began a on one"])
    plant.broker.suspend()
    threading.Event().wait(3.0)
    plant.broker.resume()
    plant.until_online("one")
    release.touch()
    assert task.result(30) == "held a"
    assert lines_of(ran) == ["began a on one", "ended a on one"]
