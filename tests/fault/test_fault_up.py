"""``headway up``, the embedded default: broker and controller in one process, killed while its runtime works on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
from fault_plant import TASKS, Plant, Process, lines_of, until
from fault_tasks import RUNTIME


def start_up(plant: Plant) -> Process:
    words = ["up", "--bind", plant.url, "--state", str(plant.state), "--slots", "2"]
    return plant.run("up", "headway", *words, PYTHONPATH=_with_tasks(plant), **{RUNTIME: "up"})


def _with_tasks(plant: Plant) -> str:
    return ":".join(filter(None, [str(TASKS), plant.environment.get("PYTHONPATH", "")]))


def runtimes_of(plant: Plant) -> set[int]:
    """The pids of the plant's runtimes, without their helpers and children."""
    found = set()
    for process in plant.living():
        words = process.cmdline()
        if "headway_runtime" in words:
            found.add(process.pid)
    return found


def test_hub_killed_its_runtime_works_on_and_is_found_again(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """Nothing is lost, nothing runs twice, and the next ``headway up`` starts no second runtime."""
    plant = make_plant(heartbeat=1.0)
    hub = start_up(plant)
    bus = plant.client()
    ran, release, marks = tmp_path / "ran", tmp_path / "release", tmp_path / "marks"
    held = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: lines_of(ran) == ["began a on up"])
    queued = bus.map("fault_tasks:mark", [str(marks)] * 50, range(50), [0.01] * 50)
    before = runtimes_of(plant)
    assert len(before) == 1
    hub.kill()
    release.touch()
    until("it has ended without a hub", lambda: lines_of(ran)[1:] == ["ended a on up"])
    hub = start_up(plant)
    assert held.result(30) == "held a"
    assert [task.result(30) for task in queued] == list(range(50))
    assert runtimes_of(plant) == before
    assert sorted(int(line.split()[0]) for line in lines_of(marks)) == list(range(50))
    hub.terminate()
    assert hub.wait() == 0
    until("the runtime that was found again is drained too", lambda: not any(map(psutil.pid_exists, before)))
