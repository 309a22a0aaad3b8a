"""An agent's restart, its plugins and files, and what is said when something is wrong with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from edge_plant import EdgePlant
from fault_plant import lines_of, until
from small_disk import fill, small_disk


@pytest.mark.parametrize("end", ["killed", "told twice to leave"])
def test_a_resumable_task_begins_again_in_its_own_folder_and_another_is_lost(
    edge_plant: EdgePlant, tmp_path: Path, end: str
) -> None:
    edge_plant.start_edges("shop-1")
    bus = edge_plant.client()
    ran, gate = tmp_path / "ran", tmp_path / "gate"
    wait = f"until [ -e {gate} ]; do sleep 0.05; done"
    line = f"echo {{name}} $HEADWAY_ATTEMPT $HEADWAY_RESUMED $(ls step) >> {ran}; touch step; {wait}"
    resumable = bus.options(offline=60.0, resumable=True).command(line, {"name": "resumable"})
    other = bus.options(offline=60.0, max_losses=1).command(
        f"echo other >> {ran}; until [ -e {gate} ]; do sleep 0.05; done"
    )
    until("both have begun", lambda: len(lines_of(ran)) == 2)
    until("it has left something", lambda: list((edge_plant.spool_of("shop-1") / "own").glob("*/step")))
    agent = edge_plant.agents["shop-1"]
    if end == "killed":
        agent.kill()
    else:
        agent.terminate()
        until("it drains", lambda: edge_plant.said("shop-1", "draining"))
        agent.terminate()
        agent.wait()
    edge_plant.start_edge("shop-1")
    until("the resumable one has begun again", lambda: len(lines_of(ran)) == 3)
    gate.touch()
    assert resumable.result(30) == 0
    mine = [line for line in lines_of(ran) if line.startswith("resumable")]
    assert mine == ["resumable 1 0", "resumable 1 1 step"], "the same attempt, with what it had left in its folder"
    assert "was lost with the runtime" in str(other.exception(30))
    until("its folder is gone", lambda: not list((edge_plant.spool_of("shop-1") / "own").iterdir()))


def test_messages_and_files_go_both_ways(edge_plant: EdgePlant, tmp_path: Path) -> None:
    (tmp_path / "shop_plugin.py").write_text(
        "import headway\n\n@headway.on_message\ndef take(value):\n    headway.tell({'got': value})\n    return ['taken', value]\n"
    )
    edge_plant.start_broker()
    edge_plant.start_controller()
    edge_plant.start_edge("shop-1", 1, "--path", str(tmp_path), HEADWAY_EDGE_PLUGINS="shop_plugin")
    edge_plant.until_online("shop-1")
    bus = edge_plant.client()
    events = bus.subscribe("messages")
    assert bus.tell("shop-1", {"threshold": 0.7}).result(30) == ["taken", {"threshold": 0.7}]
    event = next(events)
    assert event.data == {"runtime": "shop-1"} and event.records[0].fields == {"value": {"got": {"threshold": 0.7}}}
    content = bytes(range(256)) * 20_000  # goes in parts
    (tmp_path / "big.bin").write_bytes(content)
    pushed = edge_plant.cli("edge", "push", "shop-1", str(tmp_path / "big.bin"), "--as", "data/big.bin")
    assert pushed.returncode == 0 and pushed.stdout.strip() == str(edge_plant.spool_of("shop-1") / "files/data/big.bin")
    back = tmp_path / "back.bin"
    pulled = edge_plant.cli("edge", "pull", "shop-1", "data/big.bin", "-o", str(back))
    assert pulled.returncode == 0 and back.read_bytes() == content
    ran = edge_plant.cli("edge", "run", "shop-1", "ls $HEADWAY_EDGE_FILES/data; echo oops >&2; exit 3")
    assert ran.returncode == 1 and ran.stdout == "big.bin\n" and "exit status 3" in ran.stderr
    outside = edge_plant.cli("edge", "push", "shop-1", str(back), "--as", "../outside")
    assert outside.returncode == 2 and "expected a relative path" in outside.stderr
    listed = edge_plant.cli("edges")
    assert listed.returncode == 0 and "shop-1" in listed.stdout and "online" in listed.stdout


def test_what_is_said_when_something_is_wrong_with_an_agent(edge_plant: EdgePlant, tmp_path: Path) -> None:
    edge_plant.start_edges("shop-1")
    same_folder = edge_plant.start_edge("shop-1")
    assert same_folder.wait() == 1 and "another runtime works in" in same_folder.written()
    shutil.copytree(edge_plant.spool_of("shop-1"), edge_plant.spool_of("clone"))
    clone = ["--bus", edge_plant.url, "--spool", str(edge_plant.spool_of("clone"))]
    other_name = edge_plant.run("clone-1", "headway_edge", *clone, "--name", "shop-2")
    assert other_name.wait() == 1 and "is that of the edge 'shop-1'" in other_name.written()
    same_name = edge_plant.run("clone-2", "headway_edge", *clone, "--name", "shop-1", HEADWAY_EDGE_HEARTBEAT="0.3")
    assert same_name.wait() == 1 and "the name 'shop-1' is taken by a peer that is connected" in same_name.written()
    refused = edge_plant.cli("edge", "forget", "shop-1")
    assert refused.returncode == 1 and "stop its agent first" in refused.stderr
    edge_plant.links["shop-1"].cut()
    edge_plant.until_state("shop-1", "offline")
    edge_plant.controller.kill()
    edge_plant.start_controller()
    edge_plant.until_state("shop-1", "offline")
    assert edge_plant.cli("edge", "forget", "shop-1").returncode == 0
    assert "shop-1" not in edge_plant.cli("edges").stdout
    (edge_plant.spool_of("clone") / "spool.db").write_bytes(b"damaged" * 1000)
    damaged = edge_plant.run("clone-3", "headway_edge", *clone, "--name", "shop-3")
    assert damaged.wait() == 1 and "set aside as spool.db.damaged-1" in damaged.written()


def test_an_agent_of_an_old_version_is_told_what_to_do(edge_plant: EdgePlant) -> None:
    edge_plant.start_broker()
    edge_plant.start_controller()
    program = Path(__file__).with_name("old_agent.py")
    old = edge_plant.run_file("old", program, "--bus", edge_plant.url, "--name", "shop-1")
    assert old.wait() == 1
    assert "speaks version 0, the broker 1: upgrade this peer (pip install -U headway)" in old.written()
    assert "shop-1" not in edge_plant.cli("edges").stdout


def test_a_full_disk_on_an_edge_costs_output_and_no_result(edge_plant: EdgePlant, tmp_path: Path) -> None:
    """What runs goes on and is delivered; what has not begun is given back; nothing new comes; others have nothing of it."""
    spool = edge_plant.spool_of("shop-1")
    with small_disk(spool):
        try:
            edge_plant.start_edges("shop-1", "shop-2", slots=1)
            _fill_and_empty(edge_plant, spool / "filler", tmp_path / "ran", tmp_path / "gate")
        finally:
            edge_plant.agents["shop-1"].kill()


def _fill_and_empty(plant: EdgePlant, filler: Path, ran: Path, gate: Path) -> None:
    bus = plant.client()
    here = bus.options(runtime="shop-1", offline=60.0)
    line = f"echo {{who}} >> {ran}; until [ -e {gate} ]; do sleep 0.05; done; echo {{who}} is over"
    running, waiting = here.command(line, {"who": "first"}), here.command(line, {"who": "second"})
    until("the first has begun", lambda: lines_of(ran) == ["first"])
    until("the second is there", lambda: plant.left_in_spool("shop-1")[0] == 2)
    fill(filler)
    noisy = bus.options(runtime="shop-1").submit("edge_tasks:sized", str(ran), 3, 10)
    until("it is told", lambda: "its disk is full" in plant.cli("edges").stdout)
    other = bus.command("true")
    assert other.result(30) == 0 and other.info().runtime == "shop-2"
    gate.touch()
    assert running.result(30) == 0
    assert lines_of(ran) == ["first"] and waiting.info().status == noisy.info().status == "queued"
    filler.unlink()
    assert waiting.result(30) == 0
    assert noisy.result(30)[0] == 3
    plant.until_delivered("shop-1")
    assert "its disk is full" not in plant.cli("edges").stdout
    assert sorted(line.split()[0] for line in lines_of(ran)) == ["3", "first", "second"], "each once"
