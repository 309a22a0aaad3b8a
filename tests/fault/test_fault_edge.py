"""Edge agents over real processes and real TCP: links cut, agents killed, nothing lost and nothing twice."""

from __future__ import annotations

from pathlib import Path

from edge_plant import EdgePlant
from fault_plant import lines_of, until


def test_a_cut_agent_goes_on_and_delivers_when_the_link_is_back(edge_plant: EdgePlant, tmp_path: Path) -> None:
    edge_plant.start_edges("shop-1", slots=1)
    bus = edge_plant.client()
    ran, gate = tmp_path / "ran", tmp_path / "gate"
    line = f"echo {{who}} >> {ran}; until [ -e {gate} ]; do sleep 0.05; done"
    first = bus.options(offline=60.0, runtime="shop-1").command(line, {"who": "first"})
    second = bus.options(offline=60.0, runtime="shop-1").command(line, {"who": "second"})
    until("the first has begun", lambda: lines_of(ran) == ["first"])
    until("the second is there", lambda: edge_plant.left_in_spool("shop-1")[0] == 2)
    edge_plant.links["shop-1"].cut()
    gate.touch()
    until("the second has run while cut off", lambda: lines_of(ran) == ["first", "second"])
    edge_plant.until_state("shop-1", "offline")
    edge_plant.links["shop-1"].mend()
    assert (first.result(30), second.result(30)) == (0, 0)
    edge_plant.until_delivered("shop-1")
    assert lines_of(ran) == ["first", "second"], "the controller gave neither to anybody else"


def test_an_agent_killed_with_undelivered_results_delivers_them_after_its_restart(
    edge_plant: EdgePlant, tmp_path: Path
) -> None:
    edge_plant.start_edges("shop-1")
    bus = edge_plant.client()
    ran = tmp_path / "ran"
    gate = tmp_path / "gate"
    line = f"until [ -e {gate} ]; do sleep 0.05; done; echo x >> {ran}"
    tasks = [bus.options(offline=60.0).command(line) for _ in range(2)]
    until("both are running", lambda: all(task.info().status == "running" for task in tasks))
    edge_plant.links["shop-1"].cut()
    gate.touch()
    until("both ends are on disk", lambda: edge_plant.left_in_spool("shop-1")[0] == 0)
    edge_plant.agents["shop-1"].kill()
    edge_plant.links["shop-1"].mend()
    edge_plant.start_edge("shop-1")
    assert [task.result(30) for task in tasks] == [0, 0]
    edge_plant.until_delivered("shop-1")
    assert len(lines_of(ran)) == 2
