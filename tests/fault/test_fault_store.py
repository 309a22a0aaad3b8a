"""The controller's disk is full, its database locked, damaged, copied: each test is a row of docs/loss.md."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_plant import Plant, lines_of, until
from small_disk import fill, small_disk

import headway


def refusal(bus: headway.Client, marks: Path) -> headway.Refused | None:
    """Submit something of 64 KB; why it was refused, None if it was not."""
    try:
        bus.submit("fault_tasks:mark", str(marks), 1, 0.0, "x" * 65_536)
    except headway.Refused as refused:
        return refused
    return None


def is_stored(bus: headway.Client, marks: Path) -> bool:
    return refusal(bus, marks) is None


def test_disk_full(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """Submissions are refused with the reason, running work goes on, nothing accepted is forgotten; it recovers alone."""
    plant = make_plant(heartbeat=0.5)
    with small_disk(plant.state):
        try:
            _fill_and_empty(plant, tmp_path)
        finally:
            plant.close()


def _fill_and_empty(plant: Plant, tmp_path: Path) -> None:
    plant.start("one", slots=1)
    bus = plant.client()
    ran, release, marks, filler = tmp_path / "ran", tmp_path / "release", tmp_path / "marks", plant.state / "filler"
    running = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: len(lines_of(ran)) == 1)
    queued = [bus.submit("fault_tasks:mark", str(marks), number, 0.0) for number in range(50)]
    fill(filler)
    refused = until("a submission is refused", lambda: refusal(bus, marks))
    assert refused.code == "store"
    assert "full" in str(refused)
    doctor = plant.cli("doctor", "--state", str(plant.state))
    assert doctor.returncode == 1
    assert "refuses submissions" in doctor.stdout
    release.touch()
    until("running work goes on", lambda: lines_of(ran)[1:] == ["ended a on one"])
    plant.controller.kill()  # with ends that it could not store: the runtime has them still
    filler.unlink()
    plant.start_controller()
    until("submissions are taken again", lambda: is_stored(bus, marks))
    assert running.result(30) == "held a"
    assert [task.result(30) for task in queued] == list(range(50))
    assert len(lines_of(ran)) == 2


def test_disk_full_and_room_again(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """The same without a restart: when there is room again, the next submission is taken and held-back ends are stored."""
    plant = make_plant(heartbeat=0.5)
    with small_disk(plant.state):
        try:
            plant.start("one", slots=1)
            bus = plant.client()
            ran, release, marks = (tmp_path / name for name in ("ran", "release", "marks"))
            filler = plant.state / "filler"
            running = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
            until("it has begun", lambda: len(lines_of(ran)) == 1)
            fill(filler)
            until("a submission is refused", lambda: refusal(bus, marks))
            release.touch()
            until("running work goes on", lambda: lines_of(ran)[1:] == ["ended a on one"])
            filler.unlink()
            until("submissions are taken again", lambda: is_stored(bus, marks))
            assert running.result(30) == "held a"
            assert plant.counters()["store.failures"] >= 1
        finally:
            plant.close()


def test_database_locked_by_another_program(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """A lock that lasts is answered like a full disk: refused with the reason, taken again when it is let go."""
    plant = make_plant(heartbeat=1.0)
    plant.start("one", slots=1)
    bus = plant.client()
    ran, release, marks = tmp_path / "ran", tmp_path / "release", tmp_path / "marks"
    running = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: len(lines_of(ran)) == 1)
    stranger = sqlite3.connect(plant.state / "headway.db", isolation_level=None)
    try:
        stranger.execute("BEGIN IMMEDIATE")
        release.touch()
        refused = until("a submission is refused", lambda: refusal(bus, marks))
        assert refused.code == "store"
        assert "locked" in str(refused)
    finally:
        stranger.close()
    until("submissions are taken again", lambda: is_stored(bus, marks))
    assert running.result(30) == "held a"
    assert len(lines_of(ran)) == 2


@pytest.mark.parametrize("where", ["first page", "middle"])
def test_corrupt_database_is_left_as_it_is(make_plant: Callable[..., Plant], tmp_path: Path, where: str) -> None:
    """A damaged file is never overwritten; the controller and the doctor say what is wrong and what to do."""
    plant = make_plant(heartbeat=1.0)
    plant.start_broker()
    plant.start_controller()
    bus = plant.client()
    bus.map("fault_tasks:mark", ["x" * 1000] * 500, range(500), [0.0] * 500)
    plant.controller.terminate()
    assert plant.controller.wait() == 0
    database = plant.state / "headway.db"
    content = bytearray(database.read_bytes())
    begin, end = (0, 64) if where == "first page" else (4096, len(content) - 4096)
    content[begin:end] = os.urandom(end - begin)
    database.write_bytes(content)
    plant.start_controller()
    assert plant.controller.wait() == 1
    words = plant.controller.written().splitlines()[-1]
    assert str(database) in words
    assert "left as it is" in words or "backup" in words
    assert database.read_bytes() == bytes(content)
    doctor = plant.cli("doctor", "--state", str(plant.state))
    assert doctor.returncode == 1
    assert str(database) in doctor.stdout
    assert "backup" in doctor.stdout
    assert database.read_bytes() == bytes(content)


def test_backup_while_running_can_be_put_back(make_plant: Callable[..., Plant], tmp_path: Path) -> None:
    """A copy made under load opens as a store; what had not ended then runs from it."""
    plant = make_plant(heartbeat=0.5)
    plant.start("one")
    bus = plant.client()
    marks, ran, release, copy = (tmp_path / name for name in ("marks", "ran", "release", "copy.db"))
    ended = bus.submit("fault_tasks:mark", str(marks), 7, 0.0)
    assert ended.result(30) == 7
    waiting = bus.options(delay=3600.0).submit("fault_tasks:mark", str(marks), 8, 0.0)
    running = bus.submit("fault_tasks:hold", str(ran), str(release), "a")
    until("it has begun", lambda: len(lines_of(ran)) == 1)
    load = bus.map("fault_tasks:mark", [str(marks)] * 500, range(500), [0.001] * 500)
    made = plant.cli("backup", str(copy))
    assert made.returncode == 0, made.stderr
    for process in (plant.runtimes["one"], plant.controller):
        process.kill()
    for path in plant.state.glob("headway.db*"):
        path.rename(tmp_path / path.name)
    copy.rename(plant.state / "headway.db")
    plant.start_controller()
    plant.start_runtime("one")
    release.touch()
    other = plant.client()
    assert other.task(ended.id).result(30) == 7
    assert other.task(running.id).result(30) == "held a"
    assert other.task(waiting.id).info().status == "waiting"
    assert [other.task(task.id).result(30) for task in load] == list(range(500))
