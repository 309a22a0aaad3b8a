"""The client dies, stops, goes away: each test is a row of docs/loss.md."""

from __future__ import annotations

import threading
from pathlib import Path

from fault_plant import Plant, lines_of, until

PROGRAM = """
import sys, headway
url, ran, release = sys.argv[1:]
with headway.Client(url) as bus:
    tasks = [bus.submit("fault_tasks:hold", ran, release, str(number)) for number in range(4)]
    print(*(task.id for task in tasks), flush=True)
    for task in tasks:
        print(task.result(), flush=True)
"""


def test_client_killed_others_get_its_results(plant: Plant, tmp_path: Path) -> None:
    """Nothing is cancelled: its tasks go on, and whoever knows their ids gets the results."""
    plant.start("one", slots=2)
    program, ran, release = tmp_path / "program.py", tmp_path / "ran", tmp_path / "release"
    program.write_text(PROGRAM)
    client = plant.run_file("client", program, plant.url, str(ran), str(release))
    ids = until("it has submitted", lambda: client.written().split())
    until("two have begun", lambda: len(lines_of(ran)) == 2)
    client.kill()
    release.touch()
    bus = plant.client()
    assert [bus.task(each).result(30) for each in ids] == [f"held {number}" for number in range(4)]
    assert len(lines_of(ran)) == 8


def test_client_that_stands_still(plant: Plant, tmp_path: Path) -> None:
    """A client that was suspended for long, while its tasks ended, gets every result when it goes on."""
    plant.start("one", slots=2)
    program, ran, release = tmp_path / "program.py", tmp_path / "ran", tmp_path / "release"
    program.write_text(PROGRAM)
    client = plant.run_file("client", program, plant.url, str(ran), str(release))
    ids = until("it has submitted", lambda: client.written().split())
    client.suspend()
    release.touch()
    until("all have ended", lambda: sum(line.startswith("ended") for line in lines_of(ran)) == 4)
    threading.Event().wait(2.0)  # many silent heartbeats: the broker has given it up
    client.resume()
    assert client.wait() == 0
    assert client.written().split("\n")[1:5] == [f"held {number}" for number in range(4)]
    assert len(ids) == 4
