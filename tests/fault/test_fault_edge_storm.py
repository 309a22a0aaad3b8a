"""The short form of ``tests.fault.edge_chaos``: three edges, links cut, agents killed, the controller restarted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_plant import EdgePlant
from edge_storm import EdgeStorm


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[EdgePlant]:
    plant = EdgePlant(tmp_path, heartbeat=0.5)
    try:
        yield plant
    finally:
        plant.close()


def test_a_storm_over_edges_loses_nothing(plant: EdgePlant) -> None:
    outcome = EdgeStorm(plant, seed=11, edges=3, tasks=36, patience=60.0).run(5.0)
    if outcome.wrong:
        print(plant.story())
    assert outcome.wrong == [], outcome.describe()
    assert outcome.faults["cut"] and outcome.faults["kill"], "a storm without these proves little"
