"""Files that are larger than anybody wants in memory, over links that are cut and through processes that are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_link import Link
from edge_plant import EdgePlant
from fault_plant import until

import headway

MEBIBYTE = 1 << 20
PART = MEBIBYTE
SMALL, LARGE = 12 * MEBIBYTE, 128 * MEBIBYTE
MOST_GROWTH = 32 * MEBIBYTE
"""The parts that may be on their way, once received and once written; a process that holds the file needs four times that."""

LENGTH = 24 * MEBIBYTE
RATE = 40e6
"""Bytes a second of a link that is cut in the middle of a file."""

UNDER_WAY = 6 * PART
AGAIN = 8 * PART
"""Bytes that may travel twice for a cut: the parts that were asked for, and what lay in the system's buffers."""


def make_file(path: Path, length: int) -> Path:
    """Sparse, and like no other; what travels has the true length."""
    with path.open("wb") as file:
        file.truncate(length)
        for at in range(0, length, 4 * MEBIBYTE):
            file.seek(at)
            file.write(os.urandom(4096))
    return path


def peak(pid: int) -> int:
    """The most memory that a process ever occupied, in bytes; 0: it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return max((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), default=0)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[EdgePlant]:
    plant = EdgePlant(tmp_path)
    try:
        plant.start_edges("shop-1", slots=1, HEADWAY_EDGE_PART=str(PART), HEADWAY_EDGE_COMPRESS_ABOVE="0")
        yield plant
    finally:
        plant.close()


def command(plant: EdgePlant, *words: str) -> int:
    """Run a person's command to its end; the most memory that it occupied."""
    process = subprocess.Popen([sys.executable, "-m", "headway", *words], env=plant.environment, stdout=subprocess.PIPE)
    most = 0

    def is_over() -> bool:
        nonlocal most
        most = max(most, peak(process.pid))
        return process.poll() is not None

    until(f"headway {words} is over", is_over)
    printed = process.stdout.read() if process.stdout is not None else b""
    assert process.wait() == 0, printed
    if process.stdout is not None:
        process.stdout.close()
    return most


def test_no_process_grows_with_the_file(plant: EdgePlant, tmp_path: Path) -> None:
    """There and back: client, broker, controller, agent, and the child that puts it into its place."""
    services = {"broker": plant.broker.pid, "controller": plant.controller.pid, "agent": plant.agents["shop-1"].pid}
    peaks: dict[int, dict[str, int]] = {}
    for length in (SMALL, LARGE):
        there = make_file(tmp_path / f"there-{length}", length)
        back = make_file(tmp_path / f"back-{length}", length)
        pushing = command(plant, "edge", "push", "shop-1", str(there))
        pulling = command(plant, "edge", "pull", "shop-1", str(back), "-o", str(tmp_path / f"here-{length}"))
        found = {name: peak(pid) for name, pid in services.items()}
        peaks[length] = found | {"push": pushing, "pull": pulling}
        lies = plant.spool_of("shop-1") / "files" / there.name
        for one, other in ((there, lies), (back, tmp_path / f"here-{length}")):
            assert subprocess.run(["cmp", str(one), str(other)], check=False).returncode == 0
    growth = {name: peaks[LARGE][name] - peaks[SMALL][name] for name in peaks[LARGE]}
    assert max(growth.values()) < MOST_GROWTH, growth


def push(plant: EdgePlant, path: Path) -> headway.ClientTask:
    bus = plant.client().attach({path.name: path})
    return bus.options(runtime="shop-1", offline=60.0).model("edge", "push", path.name)


def random_file(path: Path) -> Path:
    path.write_bytes(os.urandom(LENGTH))
    return path


@pytest.mark.parametrize("how", ["cut", "killed"])
def test_a_file_on_its_way_to_an_edge_goes_on_where_it_was(plant: EdgePlant, tmp_path: Path, how: str) -> None:
    path, link = random_file(tmp_path / "there"), plant.links["shop-1"]
    link.rate = RATE
    before = link.bytes_down
    task = push(plant, path)
    until("it is under way", lambda: link.bytes_down - before > UNDER_WAY)
    if how == "cut":
        link.cut()
        plant.until_state("shop-1", "offline")
        link.mend()
    else:
        plant.agents["shop-1"].kill()
        plant.start_edge("shop-1", 1, HEADWAY_EDGE_PART=str(PART), HEADWAY_EDGE_COMPRESS_ABOVE="0")
    assert Path(task.result(60)).read_bytes() == path.read_bytes()
    assert LENGTH < link.bytes_down - before < LENGTH + AGAIN


def test_a_file_on_its_way_from_an_edge_goes_on_where_it_was(plant: EdgePlant, tmp_path: Path) -> None:
    path, link = random_file(tmp_path / "there"), plant.links["shop-1"]
    link.rate = RATE
    before = link.bytes_up
    task = plant.client().options(runtime="shop-1", offline=60.0).model("edge", "pull", str(path))
    until("it is under way", lambda: link.bytes_up - before > UNDER_WAY)
    link.cut()
    plant.until_state("shop-1", "offline")
    link.mend()
    task.save(tmp_path / "here", timeout=60)
    assert (tmp_path / "here").read_bytes() == path.read_bytes() and task.result() == path.read_bytes()
    assert LENGTH < link.bytes_up - before < LENGTH + AGAIN


def test_a_file_on_its_way_to_the_bus_goes_on_where_the_killed_controller_was(plant: EdgePlant, tmp_path: Path) -> None:
    path, link = random_file(tmp_path / "there"), Link(int(plant.url.rpartition(":")[2]))
    link.rate = RATE
    sending = subprocess.Popen(
        [sys.executable, "-m", "headway", "--bus", link.url, "edge", "push", "shop-1", str(path)], env=plant.environment
    )
    try:
        until("it is under way", lambda: link.bytes_up > UNDER_WAY)
        plant.controller.kill()
        plant.start_controller()
        assert sending.wait(60) == 0
        assert (plant.spool_of("shop-1") / "files" / "there").read_bytes() == path.read_bytes()
        assert LENGTH < link.bytes_up < LENGTH + AGAIN
    finally:
        sending.kill()
        sending.wait()
        link.close()
