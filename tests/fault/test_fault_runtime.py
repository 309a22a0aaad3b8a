"""A runtime dies, is cut off, stands still, is told to leave: each test is a row of docs/loss.md."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from fault_plant import Plant, lines_of, until

import headway

LEASES = 2.5
"""Seconds that are several leases of the plants here."""


def test_runtime_killed_its_attempts_run_elsewhere(plant: Plant, tmp_path: Path) -> None:
    """After two missed heartbeats its attempts are lost and begin anew on another; its children died with it."""
    plant.start("one")
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    task = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: lines_of(ran) == ["began a on one"])
    plant.start_runtime("two")
    plant.until_online("two")
    plant.runtimes["one"].kill()
    until("it has begun on the other", lambda: lines_of(ran)[1:] == ["began a on two"])
    release.touch()
    assert task.result(30) == "held a"
    assert lines_of(ran)[2:] == ["ended a on two"], "the first attempt died with its runtime"
    assert task.info().attempt == 2
    assert plant.counters()["attempts.lost"] == 1


def test_runtime_killed_and_started_again(plant: Plant, tmp_path: Path) -> None:
    """Its successor under the same name holds nothing: what it had is known to be lost at once, and runs again there."""
    plant.start("one")
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    task = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: len(lines_of(ran)) == 1)
    plant.runtimes["one"].kill()
    plant.start_runtime("one")
    until("it has begun again", lambda: lines_of(ran) == ["began a on one"] * 2)
    release.touch()
    assert task.result(30) == "held a"
    assert lines_of(ran)[2:] == ["ended a on one"]


def test_runtime_cut_off_reports_late_and_is_fenced(plant: Plant, tmp_path: Path) -> None:
    """Another attempt has begun meanwhile: the late one's end is dropped and counted, the task ends once."""
    plant.start("one")
    bus = plant.client()
    ran, first, second = tmp_path / "ran", tmp_path / "first", tmp_path / "second"
    task = bus.submit("fault_tasks:hold_by_runtime", str(ran), {"one": str(first), "two": str(second)})
    until("it has begun", lambda: lines_of(ran) == ["began on one"])
    plant.start_runtime("two")
    plant.until_online("two")
    plant.runtimes["one"].suspend()
    until("it has begun on the other", lambda: lines_of(ran)[1:] == ["began on two"])
    first.touch()  # the first attempt ends while its runtime stands still
    until("the first has ended, unreported", lambda: "ended on one" in lines_of(ran))
    plant.runtimes["one"].resume()
    plant.until_online("one", "two")
    second.touch()
    assert task.result(30) == "held on two"
    assert sorted(lines_of(ran)) == ["began on one", "began on two", "ended on one", "ended on two"]
    assert task.info().attempt == 2


def test_runtime_cut_off_reports_late_and_is_accepted(plant: Plant, tmp_path: Path) -> None:
    """No other attempt has begun, because there is no other runtime: the late end is the task's end, nothing runs twice."""
    plant.start("one")
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    task = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: len(lines_of(ran)) == 1)
    plant.runtimes["one"].suspend()
    until("it is given up", lambda: plant.counters().get("attempts.lost") == 1)
    release.touch()
    until("the attempt has ended, unreported", lambda: lines_of(ran)[1:] == ["ended a on one"])
    plant.runtimes["one"].resume()
    assert task.result(30) == "held a"
    assert len(lines_of(ran)) == 2
    assert task.info().attempt == 1


def test_runtime_suspended_within_its_lease(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """A pause shorter than a lease is no event at all."""
    plant = make_plant(heartbeat=2.0)
    plant.start("one")
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    task = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: len(lines_of(ran)) == 1)
    plant.runtimes["one"].suspend()
    threading.Event().wait(1.0)
    plant.runtimes["one"].resume()
    release.touch()
    assert task.result(30) == "held a"
    assert plant.counters().get("attempts.lost", 0) == 0


def test_everything_on_the_runtimes_machine_stands_still(plant: Plant, tmp_path: Path) -> None:
    """A closed lid: runtime and children stop for many leases and go on. What it had begun, it finishes; once."""
    plant.start("one")
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    task = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: len(lines_of(ran)) == 1)
    below = psutil.Process(plant.runtimes["one"].pid).children(recursive=True)
    plant.runtimes["one"].suspend()
    for process in below:
        process.suspend()
    threading.Event().wait(LEASES)
    for process in below:
        process.resume()
    plant.runtimes["one"].resume()
    release.touch()
    assert task.result(30) == "held a"
    assert lines_of(ran) == ["began a on one", "ended a on one"]


def test_poison_fails_with_that_reason(plant: Plant, tmp_path: Path) -> None:
    """A task that kills its runtime is not tried for ever: after three deaths in a row it fails, and says why."""
    plant.start("one", "two", "three")
    bus = plant.client()
    ran = tmp_path / "ran"
    task = bus.submit("fault_tasks:poison", str(ran))
    with pytest.raises(headway.TaskLost, match="3 attempts in a row"):
        task.result(30)
    assert lines_of(ran) == ["began"] * 3
    assert not any(process.is_running for process in plant.runtimes.values())


def test_neighbours_of_a_poison_are_not_blamed(plant: Plant, tmp_path: Path) -> None:
    """What merely waited in a runtime that died, again and again, has killed nobody: it is run, not failed."""
    plant.start("one", slots=1)
    bus = plant.client()
    ran, marks = tmp_path / "ran", tmp_path / "marks"
    for task in bus.map("fault_tasks:mark", [str(marks)] * 300, range(300), [0.0] * 300):
        task.result(30)  # now the scheduler knows that they are short, and sends many ahead
    poison = bus.submit("fault_tasks:poison", str(ran))
    others = bus.map("fault_tasks:mark", [str(marks)] * 300, range(300), [0.0] * 300)
    for count in (1, 2, 3):
        until("it has struck", lambda count=count: len(lines_of(ran)) == count)
        plant.runtimes["one"].wait()
        plant.start_runtime("one", 1)
    with pytest.raises(headway.TaskLost):
        poison.result(30)
    assert [task.result(30) for task in others] == list(range(300))


def test_long_task_on_a_healthy_runtime_is_never_run_again(plant: Plant, tmp_path: Path) -> None:
    """Leases follow heartbeats, not clocks: a task may run for as long as it likes."""
    plant.start("one", "two")
    bus = plant.client()
    marks = tmp_path / "marks"
    assert bus.submit("fault_tasks:mark", str(marks), 1, 4.0).result(30) == 1
    assert len(lines_of(marks)) == 1
    assert plant.counters().get("attempts.lost", 0) == 0


def test_child_killed_fails_its_attempt_only(plant: Plant, tmp_path: Path) -> None:
    """A child that is killed costs its attempt, which fails with the signal and is tried again if it may be."""
    plant.start("one", slots=2)
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    neighbour = bus.submit("fault_tasks:hold", str(ran), str(release), "neighbour")
    victim = bus.options(max_attempts=2, backoff=0.01).submit("fault_tasks:hold_once", str(tmp_path / "pid"))
    pid = int(until("the victim has begun", lambda: lines_of(tmp_path / "pid"))[0])
    os.kill(pid, signal.SIGKILL)
    assert victim.result(30) == "second"
    release.touch()
    assert neighbour.result(30) == "held neighbour"
    assert lines_of(ran) == ["began neighbour on one", "ended neighbour on one"]


def test_runtime_told_to_stop_drains(plant: Plant, tmp_path: Path) -> None:
    """SIGTERM: what runs may end and is reported, what waits runs elsewhere, nothing is lost, status 0."""
    plant.start("one", slots=1)
    bus = plant.client()
    ran, release, marks = tmp_path / "ran", tmp_path / "release", tmp_path / "marks"
    running = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: len(lines_of(ran)) == 1)
    waiting = bus.map("fault_tasks:mark", [str(marks)] * 20, range(20), [0.0] * 20)
    plant.runtimes["one"].terminate()
    until("it drains", lambda: '"draining"' in plant.runtimes["one"].written())
    plant.start_runtime("two", 1)
    assert [task.result(30) for task in waiting] == list(range(20))
    release.touch()
    assert running.result(30) == "held a"
    assert plant.runtimes["one"].wait() == 0
    assert lines_of(ran) == ["began a on one", "ended a on one"]
    assert {line.split()[2] for line in lines_of(marks)} == {"two"}
    assert plant.counters().get("attempts.lost", 0) == 0


def test_runtime_told_to_stop_gives_back_at_its_deadline(plant: Plant, tmp_path: Path) -> None:
    """What does not end before the deadline is stopped and given back: it runs elsewhere, and no loss is counted."""
    plant.start_broker()
    plant.start_controller()
    plant.start_runtime("one", 1, HEADWAY_RUNTIME_DRAIN_DEADLINE="0.5")
    plant.until_online("one")
    bus = plant.client()
    ran, release = tmp_path / "ran", tmp_path / "release"
    task = bus.options(grace=0.2).submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: len(lines_of(ran)) == 1)
    plant.start_runtime("two", 1)
    plant.until_online("two")
    plant.runtimes["one"].terminate()
    assert plant.runtimes["one"].wait() == 0
    until("it runs elsewhere", lambda: lines_of(ran)[1:] == ["began a on two"])
    release.touch()
    assert task.result(30) == "held a"
    assert plant.counters().get("attempts.lost", 0) == 0
