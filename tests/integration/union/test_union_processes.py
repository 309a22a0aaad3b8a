"""Unions over real processes: results by edge, merges, rounds, partial results, an edge that is away, a hub that is killed."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path

import pytest
import union_tasks
from union_plant import UnionPlant

import headway

EDGES = ("e1", "e2", "e3")
SERVER = {"kind": "server"}


def test_every_edge_answers_and_the_values_are_merged(bus: headway.Client) -> None:
    union = bus.options(edges="kind=edge", merge_labels=SERVER).union(union_tasks.own, 2.0, merge=union_tasks.total)
    result = union.result(60)
    assert result.values_by_edge == {"e1": 2.0, "e2": 4.0, "e3": 6.0}
    assert result.merged == 12.0 and result.missing == []
    assert result["e2"].task.target == "union_tasks:own"
    assert bus.task(union.id).info().status == "succeeded"


def test_partial_results_come_while_others_still_run(bus: headway.Client, tmp_path: Path) -> None:
    union = bus.options(edges="name in (e1, e3)").union(union_tasks.hold, f"{tmp_path}/")
    behind = bus.options(runtime="e1").submit(union_tasks.own)  # on the same slot
    assert set(union.state()["edges"]) == {"e1", "e3"}
    parts = union.parts()
    (tmp_path / "e1").touch()
    first = next(parts)
    assert (first.edge, first.value) == ("e1", "e1")
    assert union.state()["edges"]["e3"][1] == "open"
    assert behind.result(60) == 1.0
    (tmp_path / "e3").touch()
    assert [(part.edge, part.value) for part in parts] == [("e3", "e3")]


def test_rounds_are_fed_and_the_asynchronous_face_has_the_same(plant: UnionPlant) -> None:
    async def main() -> None:
        async with headway.connect(plant.url) as bus:
            chosen = bus.options(edges="region=north and kind=edge", merge_labels=SERVER)
            union = await chosen.union(union_tasks.step, merge=union_tasks.join, rounds=3)
            seen = [(part.round, part.edge) async for part in union.parts()]
            assert sorted(seen) == [(number, edge) for number in (1, 2, 3) for edge in EDGES]
            result = await union.result(60)
            assert result.merged == [1.0, 2.0, 3.0]
            assert result["e1"].value == [1.0, 2.0, 3.0, 1.0]
            assert [each["succeeded"] for each in result.rounds] == [list(EDGES)] * 3

    asyncio.run(main())


def test_an_edge_that_fails_is_missing_and_the_quorum_is_enough(bus: headway.Client) -> None:
    union = bus.options(edges="kind=edge", quorum=0.6).union(union_tasks.fragile)
    result = union.result(60)
    assert result.missing == ["e2"] and result.values_by_edge == {"e1": 1.0, "e3": 3.0}
    assert "the sensor is wet" in str(result["e2"].error)
    with pytest.raises(headway.TaskFailed, match=r"\d of 3 edges.*needs 3.*e2"):
        bus.options(edges="kind=edge").union(union_tasks.fragile).result(60)


def test_a_merge_that_raises_fails_the_union_and_leaves_what_the_edges_did(bus: headway.Client) -> None:
    union = bus.options(edges="kind=edge", merge_labels=SERVER).union(union_tasks.own, merge=union_tasks.broken)
    with pytest.raises(headway.TaskFailed, match=r"the merge union_tasks:broken of round 1.*no common shape"):
        union.result(60)
    assert union.ended(60).values_by_edge == {"e1": 1.0, "e2": 2.0, "e3": 3.0}


def test_logs_and_cancel_of_the_whole_and_of_one_edge(bus: headway.Client, tmp_path: Path) -> None:
    union = bus.options(edges="kind=edge").union(union_tasks.own)
    union.result(60)
    assert [(edge, record.text) for edge, record in union.logs()] == [(edge, f"{edge} räumt auf") for edge in EDGES]
    assert [record.text for _, record in union.logs("e3")] == ["e3 räumt auf"]
    with pytest.raises(headway.Refused, match="edge 'e9' has no part"):
        union.part("e9")
    held = bus.options(edges="kind=edge", quorum=0.3).union(union_tasks.hold, str(tmp_path / "never"))
    assert held.cancel("e2")
    assert held.state()["edges"]["e2"][1] == "cancelled"
    assert held.cancel()
    result = held.ended(60)
    assert result.status == "cancelled" and sorted(result.missing) == list(EDGES)
    assert result["e2"].status == "cancelled"


def test_c39_descriptions_of_the_whole_and_of_one_edge(bus: headway.Client, plant: UnionPlant) -> None:
    union = bus.options(edges="kind=edge").union(union_tasks.own)
    union.result(60)
    union.describe("all three")
    union.describe("the second", "e2")

    async def main() -> None:
        async with headway.connect(plant.url) as other:
            await other.describe(union.id, "all of them")
            await (await other.union_of(union.id)).describe("the third", "e3")

    asyncio.run(main())
    told = [union.task.info(), *(union.part(edge).info() for edge in EDGES)]
    assert [info.options.description for info in told] == ["all of them", "", "the second", "the third"]
    assert [step.status for step in told[0].story][-2:] == ["described", "described"]
    bus.describe(union.task, "taken together")
    assert union.task.options.description == bus.task(union.id).options.description == "taken together"


def test_a_selector_that_is_wrong_is_an_error_in_the_callers_line(bus: headway.Client) -> None:
    with pytest.raises(ValueError, match="character 8: expected a value"):
        bus.options(edges="region=")
    with pytest.raises(ValueError, match="option quorum: it is of a union"):
        bus.options(quorum=0.5).submit(union_tasks.own)
    with pytest.raises(ValueError, match="edges"):
        bus.union(union_tasks.own)


def test_an_edge_that_is_cut_off_and_a_hub_that_is_killed(tmp_path: Path) -> None:
    """C-A8, and the controller killed while one edge is away: that edge gets its part when it is back, and nobody twice."""
    plant = UnionPlant(tmp_path)
    try:
        plant.start("e1", "e2", "e3", kind="edge")
        plant.kill("e2")
        with headway.Client(plant.url, timeout=30.0) as bus:
            plant.until_state("offline", "e2")
            union = bus.options(edges="kind=edge", deadline=300).union(union_tasks.own, merge=union_tasks.total)
            seen = {part.edge for part in islice(union.parts(), 2)}
            assert seen == {"e1", "e3"}
            union.describe("said before the hub was killed")
            plant.restart_hub()
            plant.until_state("online", "e1", "e3")
            assert union.state()["edges"]["e2"][1] == "open"
            plant.start("e2", kind="edge")
            result = union.result(60)
            assert result.merged == 6.0 and result.missing == []
            assert union.task.info().options.description == "said before the hub was killed"
            assert [result[edge].task.outcome.attempt for edge in ("e1", "e3")] == [1, 1]  # type: ignore[union-attr]
    finally:
        plant.close()
