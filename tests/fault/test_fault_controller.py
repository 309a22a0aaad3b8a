"""The controller dies, stops, stands still: each test is a row of docs/loss.md."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_plant import Plant, lines_of, until

import headway


def test_controller_killed_running_attempts_are_adopted(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """What runs goes on and is adopted, what ended meanwhile too, what was queued runs: each of them once."""
    plant = make_plant(heartbeat=1.0)
    plant.start("one", slots=2)
    bus = plant.client()
    ran, first, second, marks = (tmp_path / name for name in ("ran", "first", "second", "marks"))
    ends_meanwhile = bus.submit("fault_tasks:hold", str(ran), str(first), "a")
    runs_on = bus.submit("fault_tasks:hold", str(ran), str(second), "b")
    queued = bus.map("fault_tasks:mark", [str(marks)] * 10, range(10), [0.01] * 10)
    until("both have begun", lambda: len(lines_of(ran)) == 2)
    plant.controller.kill()
    first.touch()
    until("one has ended without a controller", lambda: "ended a on one" in lines_of(ran))
    plant.start_controller()
    assert ends_meanwhile.result(30) == "held a"
    assert [task.result(30) for task in queued] == list(range(10))
    counters = plant.counters()
    second.touch()
    assert runs_on.result(30) == "held b"
    assert sorted(lines_of(ran)) == ["began a on one", "began b on one", "ended a on one", "ended b on one"]
    assert len(lines_of(marks)) == 10
    assert counters["attempts.adopted"] >= 1
    assert counters.get("attempts.lost", 0) == 0


def test_controller_killed_after_attempts_were_given_back(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """The numbers of attempts go on where they were, though the first were returned unstarted."""
    plant = make_plant(heartbeat=1.0)
    plant.start("one", slots=1)
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    blocking = bus.submit("fault_tasks:hold", str(ran), str(release), "first")
    until("it has begun", lambda: lines_of(ran) == ["began first on one"])
    moved = bus.submit("fault_tasks:hold", str(ran), str(release), "moved")
    plant.start_runtime("two", 1)
    until("the other runs on the new runtime", lambda: "began moved on two" in lines_of(ran))
    plant.controller.kill()
    plant.start_controller()
    plant.until_online("one", "two")
    release.touch()
    assert blocking.result(30) == "held first"
    assert moved.result(30) == "held moved"
    assert len(lines_of(ran)) == 4


def test_broker_and_controller_killed_together(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """The new controller waits for the runtimes, which come back in their own time, before it runs anything again."""
    plant = make_plant(heartbeat=0.3)
    plant.start("one", "two")
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    tasks = [bus.submit("fault_tasks:hold", str(ran), str(release), str(number)) for number in range(4)]
    until("all have begun", lambda: len(lines_of(ran)) == 4)
    plant.broker.kill()
    plant.controller.kill()
    plant.start_controller()
    threading.Event().wait(3.0)  # longer than a lease: the controller is up and there is no broker
    plant.start_broker()
    plant.until_online("one", "two")
    release.touch()
    assert [task.result(30) for task in tasks] == [f"held {number}" for number in range(4)]
    assert len(lines_of(ran)) == 8


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_controller_killed_what_was_accepted_is_stored(
    make_plant: Callable[..., Plant], tmp_path: Path, durability: str
) -> None:
    """An answer to a submission means that it is stored: kill -9 right behind the answer loses nothing."""
    plant = make_plant(heartbeat=0.5, durability=durability)
    plant.start_broker()
    plant.start_controller()
    bus = plant.client()
    marks = tmp_path / "marks"
    tasks = bus.map("fault_tasks:mark", [str(marks)] * 100, range(100), [0.0] * 100)
    plant.controller.kill()
    bus.close(0.0)
    plant.start_controller()
    plant.start_runtime("one")
    other = plant.client()
    assert [other.task(task.id).result(30) for task in tasks] == list(range(100))
    assert sorted(int(line.split()[0]) for line in lines_of(marks)) == list(range(100))


def test_controller_killed_in_memory_mode(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """With durability "memory" accepted tasks are lost with the controller, and whoever waits is told so."""
    plant = make_plant(heartbeat=0.5, durability="memory")
    plant.start_broker()
    plant.start_controller()
    bus = plant.client()
    task = bus.submit("fault_tasks:mark", str(tmp_path / "marks"), 1, 0.0)
    plant.controller.kill()
    plant.start_controller()
    with pytest.raises(headway.TaskLost, match="durability memory"):
        task.result(30)


def test_controller_told_to_stop_flushes(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """SIGTERM: it stores what it was handed, ends with status 0, and the next one has every end."""
    plant = make_plant(heartbeat=1.0)
    plant.start("one")
    bus = plant.client()
    marks = tmp_path / "marks"
    tasks = bus.map("fault_tasks:mark", [str(marks)] * 200, range(200), [0.002] * 200)
    until("some have run", lambda: len(lines_of(marks)) > 20)
    plant.controller.terminate()
    assert plant.controller.wait() == 0
    plant.start_controller()
    assert [task.result(30) for task in tasks] == list(range(200))
    assert sorted(int(line.split()[0]) for line in lines_of(marks)) == list(range(200))


def test_controller_that_stands_still(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """A controller that was suspended for many leases takes nobody's silence during that time for death."""
    plant = make_plant(heartbeat=0.3)
    plant.start("one")
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    task = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: lines_of(ran) == ["began a on one"])
    plant.controller.suspend()
    threading.Event().wait(3.0)
    plant.controller.resume()
    plant.until_online("one")
    release.touch()
    assert task.result(30) == "held a"
    assert lines_of(ran) == ["began a on one", "ended a on one"]
    assert plant.counters().get("attempts.lost", 0) == 0
